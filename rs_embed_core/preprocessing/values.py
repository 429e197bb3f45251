"""Stage prepare: steps that change pixel values. float32 in and out, in the order written."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from rs_embed_core.preprocessing.chain import Chain, Step
from rs_embed_core.preprocessing.reject import REJECTS
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
class MaskMissing:
    """Say where values are missing, for a network that does without them, and give them a value meanwhile.

    Attributes:
        name: the argument of the network's forward: bool ``[T, C, H, W]``, True for a missing value; there is none
            where every value is there.
    """

    name: str
    value: float = 0.0

    def __call__(self, sample: Sample) -> Sample:
        """The sample without holes, and with one more array if it had any."""
        if sample.valid is None:
            return sample
        missing = ~sample.valid[:, None] | ~np.isfinite(sample.image)
        filled = replace(sample.with_image(np.where(missing, np.float32(self.value), sample.image)), valid=None)
        return replace(filled, arrays={**filled.arrays, self.name: missing}) if missing.any() else filled


@dataclass(frozen=True)
class FillNaN:
    """Give NaN a value; infinities stay.

    Attributes:
        only_series: single frames are left as they are.
    """

    value: float
    only_series: bool = False

    def __call__(self, sample: Sample) -> Sample:
        """The sample without NaN."""
        missing = np.isnan(sample.image)
        if (self.only_series and len(sample.image) == 1) or not missing.any():
            return sample
        return sample.with_image(np.where(missing, np.float32(self.value), sample.image))


@dataclass(frozen=True)
class ReplaceNonFinite:
    """Give NaN and both infinities values of their own; a pixel that is missing keeps what the provider filled in."""

    nan: float
    above: float
    below: float

    def __call__(self, sample: Sample) -> Sample:
        """The sample with every value finite."""
        image = sample.image
        if not np.isfinite(image).all():
            image = np.nan_to_num(image, nan=self.nan, posinf=self.above, neginf=self.below)
        return replace(sample.with_image(image), valid=None)


@dataclass(frozen=True)
class Clip:
    """Clip to ``[low, high]``."""

    low: float
    high: float

    def __call__(self, sample: Sample) -> Sample:
        """The clipped sample."""
        return sample.with_image(np.clip(sample.image, np.float32(self.low), np.float32(self.high)))


@dataclass(frozen=True)
class UnlessWithin:
    """Another step, unless every value lies in ``[low, high]`` already."""

    low: float
    high: float
    step: Step

    def __call__(self, sample: Sample) -> Sample:
        """The changed sample, or the same."""
        within = sample.image.min() >= self.low and sample.image.max() <= self.high
        return sample if within else self.step(sample)


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
class StandardizeFrames:
    """Per frame and band, ``(x - mean) / std`` of the pixels that are there; 0 where all of them are alike."""

    def __call__(self, sample: Sample) -> Sample:
        """The standardised sample; what is missing stays so."""
        mean, std = _frame_statistics(sample)
        return sample.with_image((sample.image - mean) / np.where(std > 0, std, np.float32(1)))


@dataclass(frozen=True)
class StretchDeviations:
    """Per frame and band, ``mean -+ count * std`` of the pixels that are there to 0..1; 0.5 where all are alike.

    The std is that of a sample, with n - 1.
    """

    count: float

    def __call__(self, sample: Sample) -> Sample:
        """The stretched sample; what is missing stays so."""
        mean, std = _frame_statistics(sample, ddof=1)
        span = np.where(std > 0, np.float32(2 * self.count) * std, np.float32(1))
        return sample.with_image((sample.image - mean) / span + np.float32(0.5))


def _frame_statistics(sample: Sample, *, ddof: int = 0) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and std ``[T, C, 1, 1]`` of the pixels that are there."""
    image, axes = sample.image, (-2, -1)
    there = np.isfinite(image) if sample.valid is None else sample.valid[:, None] & np.isfinite(image)
    count = there.sum(axes, keepdims=True)
    mean = np.where(there, image, 0).sum(axes, np.float64, keepdims=True) / np.maximum(count, 1)
    square = np.where(there, image - mean, 0) ** 2
    std = np.sqrt(square.sum(axes, np.float64, keepdims=True) / np.maximum(count - ddof, 1))
    return mean.astype(np.float32), std.astype(np.float32)


@dataclass(frozen=True)
class StandardizeSeries:
    """Per band, ``(x - mean) / max(std, floor)`` over all frames and pixels together."""

    floor: float

    def __call__(self, sample: Sample) -> Sample:
        """The standardised sample."""
        axes = (-4, -2, -1)
        mean = sample.image.mean(axes, np.float64, keepdims=True)
        std = np.maximum(sample.image.std(axes, np.float64, keepdims=True), self.floor)
        return sample.with_image(((sample.image - mean) / std).astype(np.float32))


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


@dataclass(frozen=True)
class Rescale:
    """Bring ``low`` to 0 and ``low + span`` to 1; what lies outside to the nearer of them."""

    low: float
    span: float

    def __call__(self, sample: Sample) -> Sample:
        """The sample in ``[0, 1]``."""
        scaled = (sample.image - np.float32(self.low)) / np.float32(self.span)
        return sample.with_image(np.clip(scaled, np.float32(0), np.float32(1)))


def filled_with(value: float, chain: Chain) -> Chain:
    """The chain with another fill, before all that changes a pixel: it is what the model sees."""
    judges = tuple(takewhile(lambda step: isinstance(step, REJECTS), chain.steps))
    return Chain(*judges, FillMissing(value), *chain.steps[len(judges) :])


REFLECTANCE_TO_BYTES = (Divide(10_000), Clip(0, 1), Multiply(255), Truncate())
"""Surface reflectance of 0..10000 to whole numbers 0..255, as RGB models were fed from Sentinel-2."""
