"""Stage prepare: steps that bring an image to the network's height and width."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from rs_embed_core.errors import RoiTooLarge
from rs_embed_core.preprocessing.shape import (
    KernelName,
    centre_crop,
    pad_to_square,
    resample,
    resize_shorter_side,
)
from rs_embed_core.sample import Sample


@dataclass(frozen=True)
class PadToSquare:
    """Pad a rectangle to a square by reflection (edge values where it is too thin to reflect)."""

    def __call__(self, sample: Sample) -> Sample:
        """The square sample."""
        height, width = sample.image.shape[-2:]
        return sample if height == width else sample.with_image(pad_to_square(sample.image)[0])


@dataclass(frozen=True)
class PadToSquareAndBack:
    """Pad a rectangle to a square as ``PadToSquare``; of the cells those that the rectangle touches leave the device.

    An ROI's inset in a square that was fetched stays what it is.
    """

    def __call__(self, sample: Sample) -> Sample:
        """The square sample."""
        height, width = sample.image.shape[-2:]
        if height == width:
            return sample
        image, (top, left) = pad_to_square(sample.image)
        padded, view = sample.with_image(image), sample.view
        if view.inset is not None or view.tile is not None:
            return padded
        side = image.shape[-1]
        inset = (top / side, (top + height) / side, left / side, (left + width) / side)
        return replace(padded, view=replace(view, head=False, inset=inset))


@dataclass(frozen=True)
class CropToSquare:
    """Cut the long ends of a rectangle off, the centre square stays; an odd pixel goes at the bottom or the right."""

    def __call__(self, sample: Sample) -> Sample:
        """The square sample."""
        height, width = sample.image.shape[-2:]
        if height == width:
            return sample
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        return sample.with_image(sample.image[..., top : top + side, left : left + side])


@dataclass(frozen=True)
class PadToMultiple:
    """Extend height and width, at the bottom and the right, to whole multiples of some pixels by one value."""

    multiple: int
    value: float

    def __call__(self, sample: Sample) -> Sample:
        """The sample in whole multiples."""
        height, width = sample.image.shape[-2:]
        below, right = -height % self.multiple, -width % self.multiple
        if not below and not right:
            return sample
        border = [(0, 0)] * (sample.image.ndim - 2) + [(0, below), (0, right)]
        return sample.with_image(np.pad(sample.image, border, constant_values=np.float32(self.value)))


@dataclass(frozen=True)
class Resize:
    """Stretch to ``size`` x ``size``, pixel areas aligned."""

    size: int
    kernel: KernelName = "bilinear"
    antialias: bool = False
    cubic_a: float = -0.75

    def __call__(self, sample: Sample) -> Sample:
        """The resized sample."""
        image = resample(
            sample.image,
            (self.size, self.size),
            kernel=self.kernel,
            antialias=self.antialias,
            cubic_a=self.cubic_a,
        )
        return sample.with_image(image)


@dataclass(frozen=True)
class RefuseLarger:
    """Refuse an image with a side of more than ``size`` pixels, for a network that takes every pixel as it is."""

    size: int

    def __call__(self, sample: Sample) -> Sample:
        """The same sample.

        Raises:
            RoiTooLarge: more pixels than that.
        """
        height, width = sample.image.shape[-2:]
        if max(height, width) > self.size:
            msg = f"the ROI has {height} x {width} pixels, and this model does not shrink them."
            hint = f"At most {self.size} a side; ask for input_prep tile, a smaller ROI or a larger scale_m."
            raise RoiTooLarge(msg, hint=hint, context={"height": height, "width": width, "limit": self.size})
        return sample


@dataclass(frozen=True)
class ShrinkTo:
    """Shrink so that no side is longer than ``size``, keeping the aspect; smaller images stay as they are."""

    size: int

    def __call__(self, sample: Sample) -> Sample:
        """The sample, at most ``size`` long and wide."""
        height, width = sample.image.shape[-2:]
        longest = max(height, width)
        if longest <= self.size:
            return sample
        scale = self.size / longest
        size = max(1, round(height * scale)), max(1, round(width * scale))
        return sample.with_image(resample(sample.image, size, antialias=True))


@dataclass(frozen=True)
class ResizeShorterSide8Bit:
    """Pillow's bicubic resize of an 8-bit image so that the shorter side is ``size``, as torchvision calls it."""

    size: int

    def __call__(self, sample: Sample) -> Sample:
        """The resized sample, whole numbers 0..255."""
        image = resize_shorter_side(
            sample.image, self.size, kernel="bicubic", antialias=True, cubic_a=-0.5, eight_bit=True
        )
        return sample.with_image(image)


@dataclass(frozen=True)
class Resize8Bit:
    """Pillow's bicubic resize of an 8-bit image to ``size`` x ``size``, the aspect not kept."""

    size: int

    def __call__(self, sample: Sample) -> Sample:
        """The resized sample, whole numbers 0..255."""
        size = (self.size, self.size)
        image = resample(sample.image, size, kernel="bicubic", antialias=True, cubic_a=-0.5, eight_bit=True)
        return sample.with_image(image)


@dataclass(frozen=True)
class CentreCrop:
    """Cut the centre ``size`` x ``size``, with torchvision's rounding."""

    size: int

    def __call__(self, sample: Sample) -> Sample:
        """The cropped sample."""
        return sample.with_image(centre_crop(sample.image, self.size))


@dataclass(frozen=True)
class NoteShorterSide:
    """Write down how many pixels the shorter side has, for a network that asks; before it is resized.

    Attributes:
        name: the argument of the network's forward: float32, a single number.
    """

    name: str

    def __call__(self, sample: Sample) -> Sample:
        """The sample with one more array."""
        shorter = np.array(min(sample.image.shape[-2:]), np.float32)
        return replace(sample, arrays={**sample.arrays, self.name: shorter})
