"""Stage prepare: steps for networks that take squares of many sizes, in whole patches of every resolution."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rs_embed_core.preprocessing.shape import resample
from rs_embed_core.sample import Sample


@dataclass(frozen=True)
class SnapToPatches:
    """Crop or pad what is nearly square, centrally, to the nearest square of whole patches of every resolution.

    Nothing is resampled. What is far from square, too large, or a tile (tiles have to match) stays as it is.

    Attributes:
        patches_m: side of a patch on the ground, for every resolution that the network knows.
        adjust: a rectangle loses the ends of its longer side, or its shorter one is padded.
        fill: value of the padding.
        tolerance_px: a rectangle's sides differ by at most so much.
        largest_px: side of the largest square.
        most_tokens: patches of all resolutions together.
    """

    patches_m: tuple[int, ...]
    adjust: Literal["crop", "pad"]
    fill: float
    tolerance_px: int
    largest_px: int
    most_tokens: int

    def __call__(self, sample: Sample) -> Sample:
        """The square sample, its ``extent`` said; or the same sample."""
        height, width = sample.image.shape[-2:]
        if sample.tiled or abs(height - width) > self.tolerance_px:
            return sample
        square = min(height, width) if self.adjust == "crop" else max(height, width)
        side = self._snapped(square, whole_metres(sample.scale_m))
        if side is None:
            return sample
        image = _centred(_centred(sample.image, square, self.fill), side, self.fill)
        top, left = (_start(length, square) + _start(square, side) for length in (height, width))
        extent = float(top), float(top + side), float(left), float(left + side)
        return replace(sample.with_image(image), extent=extent)

    def _snapped(self, side: int, scale_m: int) -> int | None:
        """The nearest side of whole patches, a tie down; None where it is too large."""
        unit = math.lcm(*(metres // math.gcd(scale_m, metres) for metres in self.patches_m))
        side = unit * max(1, (2 * side + unit - 1) // (2 * unit))
        tokens = sum((side * scale_m // metres) ** 2 for metres in self.patches_m)
        return side if side <= self.largest_px and tokens <= self.most_tokens else None


@dataclass(frozen=True)
class StretchUnsnapped:
    """Stretch to ``size`` x ``size`` what ``SnapToPatches`` left as it was."""

    size: int

    def __call__(self, sample: Sample) -> Sample:
        """The square sample."""
        return sample if sample.extent else sample.with_image(resample(sample.image, (self.size, self.size)))


@dataclass(frozen=True)
class NoteGroundCover:
    """Tell the network the side of the image in metres: its pixels at the scale that was asked for.

    As in the reference, a stretched image counts with its new pixels (golden/thor/spec.md, "Geometry"); where that
    makes no whole patches, which the reference cannot embed, the nearest whole patches count.

    Attributes:
        name: the argument of the network's forward; samples of one batch have it in common.
        patches_m: side of a patch on the ground, for every resolution that the network knows.
    """

    name: str
    patches_m: tuple[int, ...]

    def __call__(self, sample: Sample) -> Sample:
        """The sample with one more parameter."""
        unit = math.lcm(*self.patches_m)
        metres = unit * max(1, round(sample.image.shape[-1] * whole_metres(sample.scale_m) / unit))
        return replace(sample, params=(*sample.params, (self.name, metres)))


def whole_metres(scale_m: float) -> int:
    """The scale in whole metres, which patches are counted in; at least one."""
    return max(1, round(scale_m))


def _centred(image: NDArray[np.float32], side: int, fill: float) -> NDArray[np.float32]:
    """The central ``[..., side, side]`` of an image, padded where it is smaller."""
    rows, columns = (_start(length, side) for length in image.shape[-2:])
    cut = image[..., max(rows, 0) : max(rows, 0) + side, max(columns, 0) : max(columns, 0) + side]
    height, width = cut.shape[-2:]
    border = [(-min(rows, 0), side - height + min(rows, 0)), (-min(columns, 0), side - width + min(columns, 0))]
    if (height, width) == (side, side):
        return cut
    return np.pad(cut, [(0, 0)] * (image.ndim - 2) + border, constant_values=np.float32(fill))


def _start(length: int, side: int) -> int:
    """Where a central part of an axis starts, or, negative, its padding: of an odd pixel the smaller half first."""
    return (length - side) // 2 if side <= length else -((side - length) // 2)
