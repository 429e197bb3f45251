"""Images of an expression: lazy, a function of the output grid."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import shapely

from rs_embed_core.errors import JSONValue
from rs_embed_core.geo import Grid
from tests.emulator.limits import Refused
from tests.emulator.pixels import Array, Mask, Pixels
from tests.emulator.scenes import Scene

type Read = Callable[[Grid, tuple[int, ...]], Pixels]
"""The bands of these indices on a grid."""


@dataclass(frozen=True, eq=False)
class Image:
    """A lazy image.

    Attributes:
        names: of its bands.
        dtype: of its values.
        read: makes the pixels of some bands.
        properties: ``system:index`` and the rest.
        footprint: where it may have pixels, in degrees; None everywhere.
        lattice: the pixels of its default projection, where one was set.
    """

    names: tuple[str, ...]
    dtype: np.dtype
    read: Read
    properties: Mapping[str, JSONValue] = field(default_factory=dict)
    footprint: shapely.Geometry | None = None
    lattice: Lattice | None = None

    def all_bands(self, grid: Grid) -> Pixels:
        """Every band on a grid, shapes written out."""
        pixels = self.read(grid, tuple(range(len(self.names))))
        shape = (len(self.names), grid.height, grid.width)
        mask = None if pixels.mask is None else np.broadcast_to(pixels.mask, shape)
        return Pixels(np.broadcast_to(pixels.values, shape), mask)


@dataclass(frozen=True)
class Lattice:
    """A projection with a pixel size; ``transform`` as in ``Grid``."""

    crs: str
    transform: tuple[float, float, float, float, float, float] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def of_scene(scene: Scene) -> Image:
    """The image of a stored scene."""

    def read(grid: Grid, which: tuple[int, ...]) -> Pixels:
        return scene.read(grid, [scene.names[i] for i in which])

    return Image(scene.names, scene.dtype, read, scene.properties, scene.footprint)


def constant(values: Sequence[float]) -> Image:
    """The same numbers everywhere, one band each."""
    array = np.asarray(values)
    if array.dtype.kind in "iu":
        array = array.astype(np.int32 if np.abs(array).max(initial=0) < 2**31 else np.int64)
    names = ("constant",) if len(values) == 1 else tuple(f"constant_{i}" for i in range(len(values)))
    return Image(names, array.dtype, lambda grid, which: Pixels(array[list(which), None, None]))


def select(image: Image, selectors: Sequence[str | int], new_names: Sequence[str] | None) -> Image:
    """Some bands, by name, pattern or position, perhaps renamed."""
    chosen = tuple(index for selector in selectors for index in _matching(image.names, selector))
    names = distinct([image.names[index] for index in chosen]) if new_names is None else tuple(new_names)
    if len(names) != len(chosen):
        raise Refused(f"Image.select: Can't rename {len(chosen)} bands to {len(names)} names.")
    return replace(image, names=names, read=lambda grid, which: image.read(grid, tuple(chosen[i] for i in which)))


def distinct(names: Sequence[str]) -> tuple[str, ...]:
    """The names; one that came before gets the first free ``_1``, ``_2``, ... ."""
    out: list[str] = []
    for name in names:
        tries = (name, *(f"{name}_{i}" for i in range(1, len(names))))
        out.append(next(new for new in tries if new not in out))
    return tuple(out)


def _matching(names: tuple[str, ...], selector: str | int) -> list[int]:
    if isinstance(selector, int):
        if not 0 <= selector < len(names):
            raise Refused(f"Image.select: Band number {selector} is out of range. Available bands: {_listed(names)}")
        return [selector]
    if selector in names:
        return [names.index(selector)]
    found = [index for index, name in enumerate(names) if re.fullmatch(selector, name)]
    if not found:
        message = f"Band pattern '{selector}' did not match any bands. Available bands: {_listed(names)}"
        raise Refused(f"Image.select: {message}")
    return found


def _listed(names: tuple[str, ...]) -> str:
    return f"[{', '.join(names)}]"


def on_pixels(image: Image, change: Callable[[Grid, Pixels], Pixels], dtype: np.dtype | None = None) -> Image:
    """The image with its pixels changed band by band."""
    return replace(image, dtype=dtype or image.dtype, read=lambda grid, which: change(grid, image.read(grid, which)))


def beside(image: Image, other: Image, names: tuple[str, ...], join: Callable[[Pixels, Pixels], Pixels]) -> Image:
    """Band i of one with band i of the other; a single band goes with each."""
    if len(other.names) not in {1, len(image.names)} and len(image.names) != 1:
        raise Refused(f"Images must have the same number of bands, or one: {len(image.names)} and {len(other.names)}.")

    def read(grid: Grid, which: tuple[int, ...]) -> Pixels:
        ours, theirs = (which if len(i.names) > 1 else (0,) for i in (image, other))
        return join(image.read(grid, ours), other.read(grid, theirs))

    return replace(image, names=names, dtype=np.result_type(image.dtype, other.dtype), read=read)


def both(mask: Mask | None, other: Mask | None) -> Mask | None:
    """Where both have a pixel."""
    if mask is None or other is None:
        return other if mask is None else mask
    return mask & other


def as_type(values: Array, dtype: np.dtype) -> Array:
    """Cast as the service does: integers are rounded down towards zero and held in range."""
    if dtype.kind in "iu" and values.dtype != dtype:
        limits = np.iinfo(dtype)
        values = np.clip(values, limits.min, limits.max)
    return values.astype(dtype, copy=False)
