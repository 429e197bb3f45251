"""Stage prepare: steps for precomputed products, whose pixels are embeddings already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rs_embed_core.sample import Sample


@dataclass(frozen=True)
class BlankMissing:
    """Make NaN of pixels without an embedding.

    Attributes:
        value: what stands for one that is missing (JSON knows no NaN, so it is not asked for).
    """

    value: float

    def __call__(self, sample: Sample) -> Sample:
        """The sample with NaN in ``image [T, D, H, W]`` wherever ``valid`` is False or the value says so."""
        missing = sample.image == np.float32(self.value)
        if sample.valid is not None:
            missing |= ~sample.valid[:, None]
        return sample.with_image(np.where(missing, np.float32(np.nan), sample.image)) if missing.any() else sample


@dataclass(frozen=True)
class PoolPixels:
    """Reduce ``image [..., H, W]`` to what the request wants: one vector, or all pixels as they are.

    Attributes:
        missing: ``ignore`` leaves NaN out of a vector, ``spread`` lets one NaN make the whole component NaN.
    """

    missing: Literal["ignore", "spread"]

    def __call__(self, sample: Sample) -> Sample:
        """The sample with ``image [...]``, or as it is for a grid."""
        if sample.view.output == "grid":
            return sample
        pixels = sample.image.reshape(*sample.image.shape[:-2], -1)
        if self.missing == "spread":
            return sample.with_image(_plain(pixels, sample.view.pooling))
        seen = ~np.isnan(pixels)
        pool = _mean if sample.view.pooling == "mean" else _maximum
        return sample.with_image(np.where(seen.any(axis=-1), pool(pixels, seen), np.float32(np.nan)))


def _plain(pixels: NDArray[np.float32], pooling: Literal["mean", "max"]) -> NDArray[np.float32]:
    """Mean or maximum over the last axis, NaN included.

    A mean is summed up in float32 pixel by pixel, as the reference does: on 22 000 pixels that is 1.4e-4 off the
    exact mean, more than golden/ allows us to differ from the reference.
    """
    first = np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
    out: NDArray[np.float32] = first.mean(axis=0) if pooling == "mean" else first.max(axis=0)
    return out


def _mean(pixels: NDArray[np.float32], seen: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Means over the last axis of what is seen; 0 where nothing is."""
    sums = np.where(seen, pixels, 0).sum(axis=-1, dtype=np.float64)
    return (sums / np.maximum(1, seen.sum(axis=-1))).astype(np.float32)


def _maximum(pixels: NDArray[np.float32], seen: NDArray[np.bool_]) -> NDArray[np.float32]:
    largest: NDArray[np.float32] = np.where(seen, pixels, np.float32(-np.inf)).max(axis=-1)
    return largest
