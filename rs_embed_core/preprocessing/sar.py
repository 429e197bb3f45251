"""Stage prepare: steps for radar backscatter, which comes in linear power."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rs_embed_core.errors import InvalidInput
from rs_embed_core.sample import Sample


@dataclass(frozen=True)
class RejectDecibels:
    """Refuse backscatter in dB where linear power is wanted."""

    def __call__(self, sample: Sample) -> Sample:
        """The same sample.

        Raises:
            InvalidInput: more than half of the values that are finite and not 0 (often a fill) are negative.
        """
        values = sample.image[np.isfinite(sample.image) & (sample.image != 0)]
        negative = int(np.count_nonzero(values < 0))
        if 2 * negative > values.size:
            msg = f"{negative} of {values.size} Sentinel-1 values are negative: they look like decibels."
            hint = "Give linear power (COPERNICUS/S1_GRD_FLOAT), or 10 ** (dB / 10)."
            raise InvalidInput(msg, hint=hint)
        return sample


@dataclass(frozen=True)
class LogPower:
    """``log(1 + x)``, and 0 for a negative ``x``."""

    def __call__(self, sample: Sample) -> Sample:
        """The sample on a logarithmic scale."""
        return sample.with_image(np.log1p(np.maximum(sample.image, np.float32(0))))


@dataclass(frozen=True)
class DivideByPercentile:
    """Divide each frame by a percentile of all its bands together; by 1 where that is not positive."""

    percent: float

    def __call__(self, sample: Sample) -> Sample:
        """The scaled sample."""
        high = np.percentile(sample.image, self.percent, axis=(-3, -2, -1), keepdims=True)
        return sample.with_image(sample.image / np.where(high > 0, high, 1).astype(np.float32))
