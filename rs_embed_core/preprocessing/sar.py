"""Stage prepare: steps for radar backscatter, which comes in linear power or in decibels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rs_embed_core.preprocessing.reject import signs
from rs_embed_core.sample import Sample


@dataclass(frozen=True)
class ToDecibels:
    """Backscatter in linear power to dB, ``10 log10(max(x, floor))``.

    Values of which more than half are negative (of those that are finite and not 0) are in dB, and stay: which of the
    two a caller's pixels or ``sensor`` hold is not known here, and power is never negative.
    """

    floor: float

    def __call__(self, sample: Sample) -> Sample:
        """The sample in dB; NaN stays."""
        negative, count = signs(sample.image)
        if 2 * negative > count:
            return sample
        return sample.with_image(np.float32(10) * np.log10(np.maximum(sample.image, np.float32(self.floor))))


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
