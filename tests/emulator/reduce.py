"""Many images into one: median, mosaic, and bands side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import shapely

from rs_embed_core.geo import Grid
from tests.emulator.images import Image
from tests.emulator.limits import Refused
from tests.emulator.pixels import Array, Mask, Pixels

type Reducer = Callable[[list[Pixels], tuple[int, int, int]], Pixels]

NOTHING = Pixels(np.zeros((1, 1, 1)), np.zeros((1, 1, 1), np.bool_))


def reduced(images: Sequence[Image], reducer: Reducer, dtype: np.dtype | None) -> Image:
    """One image from a stack; ``dtype`` None is what holds all of theirs."""
    if not images:
        return Image((), np.dtype(np.float64), lambda grid, which: NOTHING)
    names = images[0].names
    if stranger := next((image for image in images if image.names != names), None):
        raise Refused(
            "Expected a homogeneous image collection, but an image with incompatible bands was encountered. "
            f"Last image's band names: {list(names)}, current image's band names: {list(stranger.names)}."
        )

    def read(grid: Grid, which: tuple[int, ...]) -> Pixels:
        shape = (len(which), grid.height, grid.width)
        layers = (image.read(grid, which) for image in images)
        seen = [layer for layer in layers if layer.mask is None or layer.mask.any()]
        return reducer(seen, shape) if seen else NOTHING

    held = dtype or np.result_type(*(image.dtype for image in images))
    return Image(names, held, read, {}, _union([image.footprint for image in images]))


def median(layers: list[Pixels], shape: tuple[int, int, int]) -> Pixels:
    """Per pixel over those that are there; an even count averages the two in the middle."""
    dtype = np.result_type(*(layer.values.dtype for layer in layers))
    stack = [np.broadcast_to(layer.values, shape).astype(dtype) for layer in layers]
    if all(layer.mask is None for layer in layers):
        _sort(stack)
        return Pixels(_middle(stack[(len(stack) - 1) // 2], stack[len(stack) // 2]))
    count = np.zeros(shape, np.intp)
    behind = np.inf if dtype.kind == "f" else np.iinfo(dtype).max  # sorts last, or beside its equals
    for values, layer in zip(stack, layers, strict=True):
        there = True if layer.mask is None else layer.mask
        count += there
        np.copyto(values, behind, where=np.logical_not(there))
    _sort(stack)
    whole = np.stack(stack)
    low, high = (np.take_along_axis(whole, i[None], axis=0)[0] for i in ((count - 1) // 2, count // 2))
    return Pixels(np.where(count > 0, _middle(low, high), 0), count > 0)


def _sort(stack: list[Array]) -> None:
    """Order the layers pixel by pixel: comparing whole layers is ten times as fast as ``ndarray.sort``."""
    spare = np.empty_like(stack[0])
    for i, j in _network(len(stack)):
        low, high = stack[i], stack[j]
        np.minimum(low, high, out=spare)
        np.maximum(low, high, out=high)
        stack[i], spare = spare, low


@cache
def _network(count: int) -> tuple[tuple[int, int], ...]:
    """The comparisons of Batcher's merge exchange (Knuth, The Art of Computer Programming 3, 5.2.2, algorithm M)."""
    pairs = []
    top = 1 << max(0, count - 1).bit_length() >> 1
    p = top
    while p:
        q, r, d = top, 0, p
        while True:
            pairs += [(i, i + d) for i in range(count - d) if i & p == r]
            if q == p:
                break
            q, r, d = q >> 1, p, q - p
        p >>= 1
    return tuple(pairs)


def _middle(low: Array, high: Array) -> Array:
    """The mean of two, exactly: half sums of 16-bit integers fit float32, others go through float64."""
    wide = np.float32 if low.dtype.kind in "iu" and low.dtype.itemsize <= 2 else np.float64
    return (low.astype(wide) + high) / wide(2)


def mosaic(layers: list[Pixels], shape: tuple[int, int, int]) -> Pixels:
    """The last of those that are there, pixel by pixel."""
    values = np.zeros(shape, np.result_type(*(layer.values.dtype for layer in layers)))
    there: Mask = np.zeros(shape, np.bool_)
    for layer in layers:
        where = True if layer.mask is None else layer.mask
        np.copyto(values, layer.values, where=where)
        there |= where
    return Pixels(values, None if there.all() else there)


def side_by_side(parts: Sequence[tuple[Image, tuple[str, ...]]]) -> Image:
    """All bands of all images, under the names given with each."""
    names = tuple(name for _, own in parts for name in own)
    dtype = np.result_type(*(image.dtype for image, _ in parts)) if parts else np.dtype(np.float64)
    places = [(image, band) for image, own in parts for band in range(len(own))]

    def read(grid: Grid, which: tuple[int, ...]) -> Pixels:
        values = np.zeros((len(which), grid.height, grid.width), dtype)
        mask = np.ones(values.shape, np.bool_)
        for image, targets, bands in _by_image([places[i] for i in which]):
            pixels = image.read(grid, bands)
            values[targets] = pixels.values
            if pixels.mask is not None:
                mask[targets] = pixels.mask
        return Pixels(values, None if mask.all() else mask)

    return Image(names, dtype, read, {}, _union([image.footprint for image, _ in parts]))


def _by_image(places: list[tuple[Image, int]]) -> list[tuple[Image, list[int], tuple[int, ...]]]:
    """Each image once, with where its bands go and which they are: a composite is computed once, not per band."""
    found: dict[int, tuple[Image, list[int], list[int]]] = {}
    for target, (image, band) in enumerate(places):
        _, targets, bands = found.setdefault(id(image), (image, [], []))
        targets.append(target)
        bands.append(band)
    return [(image, targets, tuple(bands)) for image, targets, bands in found.values()]


def _union(footprints: Sequence[shapely.Geometry | None]) -> shapely.Geometry | None:
    known = [footprint for footprint in footprints if footprint is not None]
    return shapely.union_all(known) if known and len(known) == len(footprints) else None
