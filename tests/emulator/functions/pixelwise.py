"""Functions of one image, or of two pixel by pixel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import shapely

from rs_embed_core.geo import Grid
from tests.emulator import reduce
from tests.emulator.evaluate import Function
from tests.emulator.images import Image, as_type, beside, both, distinct, on_pixels, select
from tests.emulator.images import constant as constant_image
from tests.emulator.limits import Refused
from tests.emulator.pixels import Array, Pixels, covered


def constant(value: float | Sequence[float]) -> Image:
    """A number everywhere, or a band for each of a list."""
    return constant_image(value if isinstance(value, Sequence) else [value])


def select_bands(
    input: Image,  # noqa: A002
    bandSelectors: Sequence[str | int] | str = (".*",),
    newNames: Sequence[str] | None = None,
) -> Image:
    """Some bands, perhaps renamed."""
    if input is None:
        raise Refused("Image.select: Parameter 'input' is required and may not be null.")
    return select(input, [bandSelectors] if isinstance(bandSelectors, str) else bandSelectors, newNames)


def rename(input: Image, names: Sequence[str] | str) -> Image:  # noqa: A002
    """All bands under new names."""
    new = (names,) if isinstance(names, str) else tuple(names)
    if len(new) != len(input.names):
        raise Refused(
            f"Image.rename: The number of names ({len(new)}) must match the number of bands ({len(input.names)})."
        )
    return replace(input, names=new)


def update_mask(image: Image, mask: Image) -> Image:
    """Masked further where the mask image is 0 or masked."""

    def join(pixels: Pixels, other: Pixels) -> Pixels:
        return Pixels(pixels.values, both(pixels.mask, both(other.values != 0, other.mask)))

    return replace(beside(image, mask, image.names, join), dtype=image.dtype)


def unmask(input: Image, value: Image | None = None, sameFootprint: bool = True) -> Image:  # noqa: A002
    """The value where there was no pixel; only inside the image's footprint unless told otherwise."""
    filler = constant_image([0]) if value is None else value

    def join(pixels: Pixels, other: Pixels) -> Pixels:
        if pixels.mask is None:
            return pixels
        dtype = np.result_type(input.dtype, filler.dtype)
        values = np.where(pixels.mask, as_type(pixels.values, dtype), as_type(other.values, dtype))
        return Pixels(values, None if other.mask is None else pixels.mask | other.mask)

    filled = beside(input, filler, input.names, join)
    if not sameFootprint or input.footprint is None:
        return filled
    return clip(filled, input.footprint)


def clip(input: Image, geometry: shapely.Geometry) -> Image:  # noqa: A002
    """Only pixels whose centre lies in a region."""

    def change(grid: Grid, pixels: Pixels) -> Pixels:
        return Pixels(pixels.values, both(pixels.mask, covered(geometry, grid)))

    footprint = geometry if input.footprint is None else shapely.intersection(input.footprint, geometry)
    return replace(on_pixels(input, change), footprint=footprint)


def clamp(input: Image, low: float, high: float) -> Image:  # noqa: A002
    """Values held between two numbers."""
    return on_pixels(input, lambda grid, pixels: Pixels(np.clip(pixels.values, low, high), pixels.mask))


def add_bands(dstImg: Image, srcImg: Image, names: Sequence[str] | None = None, overwrite: bool = False) -> Image:
    """The bands of the second after those of the first; one of the same name gets a suffix, or takes its place."""
    added = srcImg if names is None else select(srcImg, names, None)
    if overwrite:
        kept = [name for name in dstImg.names if name not in added.names]
        return reduce.side_by_side([(select(dstImg, kept, None), tuple(kept)), (added, added.names)])
    fresh = distinct([*dstImg.names, *added.names])[len(dstImg.names) :]
    joined = reduce.side_by_side([(dstImg, dstImg.names), (added, fresh)])
    return replace(joined, properties=dstImg.properties)


def band_names(image: Image) -> list[str]:
    """Its bands."""
    return list(image.names)


def _divide(left: Array, right: Array) -> Array:
    """The quotient; 0 where the divisor is 0."""
    out = np.zeros(np.broadcast_shapes(left.shape, right.shape))
    return np.divide(left, right, out=out, where=right != 0)


def _cast(dtype: type[np.generic]) -> Function:
    target = np.dtype(dtype)

    def cast(value: Image) -> Image:
        return on_pixels(value, lambda grid, pixels: Pixels(as_type(pixels.values, target), pixels.mask), target)

    return cast


def _arithmetic(operation: Callable[[Array, Array], Array], dtype: type[np.generic] | None = None) -> Function:
    """A pixel is there where both have one; ``dtype`` None widens as much as integers need."""

    def compute(image1: Image, image2: Image) -> Image:
        wide = np.result_type(image1.dtype, image2.dtype)
        target = np.dtype(dtype) if dtype else np.result_type(wide, np.int32)

        def join(left: Pixels, right: Pixels) -> Pixels:
            values = operation(left.values.astype(target), right.values.astype(target))
            return Pixels(values, both(left.mask, right.mask))

        names = image1.names if len(image1.names) >= len(image2.names) else image2.names
        return replace(beside(image1, image2, names, join), dtype=target)

    return compute


FUNCTIONS: Mapping[str, Function] = {
    "Image.add": _arithmetic(np.add),
    "Image.addBands": add_bands,
    "Image.bandNames": band_names,
    "Image.clamp": clamp,
    "Image.clip": clip,
    "Image.constant": constant,
    "Image.divide": _arithmetic(_divide, np.float64),
    "Image.multiply": _arithmetic(np.multiply),
    "Image.rename": rename,
    "Image.select": select_bands,
    "Image.subtract": _arithmetic(np.subtract),
    "Image.toDouble": _cast(np.float64),
    "Image.toFloat": _cast(np.float32),
    "Image.toInt16": _cast(np.int16),
    "Image.toInt32": _cast(np.int32),
    "Image.toUint16": _cast(np.uint16),
    "Image.unmask": unmask,
    "Image.updateMask": update_mask,
}
