"""Stage prepare: steps that refuse pixels which are not what a model takes.

They judge what is there, so they stand first in a chain, before missing pixels are filled.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rs_embed_core.errors import InvalidInput
from rs_embed_core.sample import Sample

_FEW = 0.1


@dataclass(frozen=True)
class RejectNormalized:
    """Refuse pixels that look like reflectances or already normalised values instead of sensor numbers.

    A tile of nothing but missing pixels passes.

    Attributes:
        lowest: of such values; None where a later step clips at 0.
    """

    highest: float
    lowest: float | None = 0.0

    def __call__(self, sample: Sample) -> Sample:
        """The same sample.

        Raises:
            InvalidInput: every pixel lies in ``[lowest, highest]``.
        """
        values = _there(sample)
        if not values.size:
            return sample
        low, high = float(values.min()), float(values.max())
        if (self.lowest is None or low >= self.lowest) and high <= self.highest:
            msg = f"pixels lie in [{low:g}, {high:g}]: they look already normalised (or are all empty)."
            raise InvalidInput(msg, hint="Give raw sensor values, such as Sentinel-2 numbers in 0..10000.")
        return sample


@dataclass(frozen=True)
class RejectBelow:
    """Refuse pixels that are hardly ever as much as ``floor``: scaled already, or another sensor's.

    Attributes:
        floor: above 0.
    """

    floor: float

    def __call__(self, sample: Sample) -> Sample:
        """The same sample.

        Raises:
            InvalidInput: nine of ten values are below, of those that are not 0 (often a fill).
        """
        values = _there(sample)
        reach = int(np.count_nonzero(values >= np.float32(self.floor)))
        if reach >= _FEW * values.size:  # nearly always: what is 0 need not be counted then
            return sample
        others = int(np.count_nonzero(values))
        if reach < _FEW * others:
            msg = f"{others - reach} of {others} values are below {self.floor:g}: no raw numbers of an optical sensor."
            hint = (
                "Give raw sensor values, such as Sentinel-2 numbers in 0..10000; or say the range of these: "
                "model_config value_low and value_span."
            )
            raise InvalidInput(msg, hint=hint)
        return sample


@dataclass(frozen=True)
class RejectDecibels:
    """Refuse backscatter in dB where linear power is wanted."""

    def __call__(self, sample: Sample) -> Sample:
        """The same sample.

        Raises:
            InvalidInput: more than half of the values that are finite and not 0 (often a fill) are negative.
        """
        negative, count = signs(_there(sample))
        if 2 * negative > count:
            msg = f"{negative} of {count} Sentinel-1 values are negative: they look like decibels."
            hint = "Give linear power (COPERNICUS/S1_GRD_FLOAT), or 10 ** (dB / 10)."
            raise InvalidInput(msg, hint=hint)
        return sample


REJECTS = (RejectNormalized, RejectBelow, RejectDecibels)


def signs(values: NDArray[np.float32]) -> tuple[int, int]:
    """How many values are negative, and how many there are, of those that are finite and not 0 (often a fill)."""
    values = values[np.isfinite(values) & (values != 0)]
    return int(np.count_nonzero(values < 0)), values.size


def _there(sample: Sample) -> NDArray[np.float32]:
    """The values that are not missing, in any shape."""
    if sample.valid is None:
        return sample.image
    return sample.image[sample.valid[:, None] & np.isfinite(sample.image)]
