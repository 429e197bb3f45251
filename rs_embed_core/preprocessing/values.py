"""Stage prepare: steps that change pixel values. float32 in and out, in the order written."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from rs_embed_core.errors import InvalidInput
from rs_embed_core.sample import Sample

type Statistics = tuple[tuple[str, float], ...]
"""One number per band name."""


@dataclass(frozen=True)
class FillMissing:
    """Give every missing pixel and every non-finite value one value."""

    value: float

    def __call__(self, sample: Sample) -> Sample:
        """The sample without holes."""
        if sample.valid is None:
            return sample
        there = sample.valid[:, None] & np.isfinite(sample.image)
        return replace(sample.with_image(np.where(there, sample.image, np.float32(self.value))), valid=None)


@dataclass(frozen=True)
class Clip:
    """Clip to ``[low, high]``."""

    low: float
    high: float

    def __call__(self, sample: Sample) -> Sample:
        """The clipped sample."""
        return sample.with_image(np.clip(sample.image, np.float32(self.low), np.float32(self.high)))


@dataclass(frozen=True)
class Multiply:
    """Multiply by a constant."""

    factor: float

    def __call__(self, sample: Sample) -> Sample:
        """The scaled sample."""
        return sample.with_image(sample.image * np.float32(self.factor))


@dataclass(frozen=True)
class Divide:
    """Divide by a constant (not the same float32 numbers as multiplying by its inverse)."""

    divisor: float

    def __call__(self, sample: Sample) -> Sample:
        """The scaled sample."""
        return sample.with_image(sample.image / np.float32(self.divisor))


@dataclass(frozen=True)
class Truncate:
    """Cut the fraction off: values of an 8-bit image, still as float32."""

    def __call__(self, sample: Sample) -> Sample:
        """The truncated sample."""
        return sample.with_image(np.trunc(sample.image))


@dataclass(frozen=True)
class Standardize:
    """``(x - mean) / std`` per band, by name or in order."""

    mean: Statistics
    std: Statistics

    def __call__(self, sample: Sample) -> Sample:
        """The standardised sample."""
        mean, std = _columns(self.mean, self.std, sample.bands)
        return sample.with_image((sample.image - mean) / std)


@lru_cache(maxsize=256)
def _columns(
    mean: Statistics, std: Statistics, bands: tuple[str, ...]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    means, stds = dict(mean), dict(std)
    shape = (-1, 1, 1)
    return (
        np.array([means[band] for band in bands], np.float32).reshape(shape),
        np.array([stds[band] for band in bands], np.float32).reshape(shape),
    )


@dataclass(frozen=True)
class RejectNormalized:
    """Refuse pixels that look like reflectances or already normalised values instead of sensor numbers."""

    highest: float

    def __call__(self, sample: Sample) -> Sample:
        """The same sample.

        Raises:
            InvalidInput: every pixel lies in ``[0, highest]``.
        """
        low, high = float(sample.image.min()), float(sample.image.max())
        if low >= 0 and high <= self.highest:
            msg = f"pixels lie in [{low:g}, {high:g}]: they look already normalised (or are all empty)."
            raise InvalidInput(msg, hint="Give raw sensor values, such as Sentinel-2 numbers in 0..10000.")
        return sample


@dataclass(frozen=True)
class StretchFrames:
    """Per frame and band, ``(x - min) / max(max - min, floor)``."""

    floor: float

    def __call__(self, sample: Sample) -> Sample:
        """The stretched sample."""
        low = sample.image.min(axis=(-2, -1), keepdims=True)
        high = sample.image.max(axis=(-2, -1), keepdims=True)
        return sample.with_image((sample.image - low) / np.maximum(high - low, np.float32(self.floor)))


@dataclass(frozen=True)
class StretchTogether:
    """Per frame, all bands together, ``(x - min) / (max - min)``; 0 where they differ by no more than ``floor``."""

    floor: float

    def __call__(self, sample: Sample) -> Sample:
        """The stretched sample."""
        low = sample.image.min(axis=(-3, -2, -1), keepdims=True)
        span = sample.image.max(axis=(-3, -2, -1), keepdims=True) - low
        flat = span <= np.float32(self.floor)
        return sample.with_image(np.where(flat, np.float32(0), (sample.image - low) / np.where(flat, 1, span)))


REFLECTANCE_TO_BYTES = (Divide(10_000), Clip(0, 1), Multiply(255), Truncate())
"""Surface reflectance of 0..10000 to whole numbers 0..255, as RGB models were fed from Sentinel-2."""
