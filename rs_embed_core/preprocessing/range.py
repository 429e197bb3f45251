"""Stage prepare: steps for pixels of one range or another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rs_embed_core.errors import InvalidInput
from rs_embed_core.sample import Sample

_MOST = 0.9


@dataclass(frozen=True)
class RejectBelow:
    """Refuse pixels that are hardly ever as much as ``floor``: scaled already, or another sensor's."""

    floor: float

    def __call__(self, sample: Sample) -> Sample:
        """The same sample.

        Raises:
            InvalidInput: nine of ten values are below, of those that are not 0 (often a fill).
        """
        image = sample.image
        others = int(np.count_nonzero(image))
        below = int(np.count_nonzero((image < np.float32(self.floor)) & (image != 0)))
        if below > _MOST * others:
            msg = f"{below} of {others} values are below {self.floor:g}: no raw numbers of an optical sensor."
            hint = (
                "Give raw sensor values, such as Sentinel-2 numbers in 0..10000; or say the range of these: "
                "model_config value_low and value_span."
            )
            raise InvalidInput(msg, hint=hint)
        return sample


@dataclass(frozen=True)
class Rescale:
    """Bring ``low`` to 0 and ``low + span`` to 1; what lies outside to the nearer of them."""

    low: float
    span: float

    def __call__(self, sample: Sample) -> Sample:
        """The sample in ``[0, 1]``."""
        scaled = (sample.image - np.float32(self.low)) / np.float32(self.span)
        return sample.with_image(np.clip(scaled, np.float32(0), np.float32(1)))
