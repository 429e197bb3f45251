"""Projections of images and ``sampleRectangle``: the way rs-embed itself reads pixels (earth_engine.md, 1.9)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import shapely
from pyproj import Transformer

from rs_embed_core.errors import JSONValue
from rs_embed_core.geo import Grid
from tests.emulator.evaluate import Function
from tests.emulator.images import Image, Lattice, as_type
from tests.emulator.limits import Refused, check_sample
from tests.emulator.pixels import LONLAT, Pixels

_EPS = 1e-6  # of a pixel: a region on pixel edges comes back from degrees a little off


def on_lattice(
    image: Image,
    crs: Lattice | str,
    crsTransform: Sequence[float] | None = None,
    scale: float | None = None,
) -> Image:
    """The image with a default projection; a scale means north-up, a projection keeps its own row order."""
    lattice = crs if isinstance(crs, Lattice) else Lattice(crs)
    if scale is not None:
        lattice = Lattice(lattice.crs, (float(scale), 0.0, 0.0, 0.0, -float(scale), 0.0))
    if crsTransform is not None:
        a, b, c, d, e, f = crsTransform
        lattice = Lattice(lattice.crs, (a, b, c, d, e, f))
    return replace(image, lattice=lattice)


def reproject(
    image: Image,
    crs: Lattice | str,
    crsTransform: Sequence[float] | None = None,
    scale: float | None = None,
) -> Image:
    """The image computed in a projection. The emulator reads it there only, where nothing is left to resample."""
    placed = on_lattice(image, crs, crsTransform, scale)

    def read(grid: Grid, which: tuple[int, ...]) -> Pixels:
        if placed.lattice is None or not _aligned(grid, placed.lattice):
            raise Refused("The emulator reads a reprojected image on its own pixels only.")
        return image.read(grid, which)

    return replace(placed, read=read)


def _aligned(grid: Grid, lattice: Lattice) -> bool:
    a, b, c, d, e, f = grid.transform
    sizes = (a, b, d, abs(e)) == (lattice.transform[0], 0.0, 0.0, abs(lattice.transform[4]))
    offsets = ((c - lattice.transform[2]) / a, (f - lattice.transform[5]) / e)
    return grid.crs == lattice.crs and sizes and all(abs(v - round(v)) < _EPS for v in offsets)


def sample_rectangle(
    image: Image,
    region: shapely.Geometry,
    properties: Sequence[str] | None = None,
    defaultValue: float | None = None,
    defaultArrayValue: object = None,
) -> Mapping[str, JSONValue]:
    """A feature whose properties are the bands' rows, over the pixels that touch the region's rectangle."""
    if image.lattice is None:
        raise Refused("The emulator samples images with a projection of their own: reproject first.")
    grid = _around(region, image.lattice)
    check_sample(grid.width * grid.height)
    pixels = image.all_bands(grid)
    values = as_type(pixels.values, image.dtype)
    if pixels.mask is not None and not pixels.mask.all():
        if defaultValue is None:
            raise Refused("Image.sampleRectangle: The image has masked pixels; a default value is needed.")
        values = np.where(pixels.mask, values, defaultValue)
    kept = {name: image.properties.get(name) for name in properties or ()}
    rows = {name: band.tolist() for name, band in zip(image.names, values, strict=True)}
    return {"type": "Feature", "geometry": None, "properties": {**kept, **rows}}


def _around(region: shapely.Geometry, lattice: Lattice) -> Grid:
    """The lattice's pixels over a region's bounds; row 0 is where the lattice begins to count."""
    to_lattice = Transformer.from_crs(LONLAT, lattice.crs, always_xy=True).transform
    west, south, east, north = shapely.transform(region, to_lattice, interleaved=False).bounds
    a, _, c, _, e, f = lattice.transform
    (first, last), (top, bottom) = sorted(((west - c) / a, (east - c) / a)), sorted(((south - f) / e, (north - f) / e))
    column, row = math.floor(first + _EPS), math.floor(top + _EPS)
    width, height = math.ceil(last - _EPS) - column, math.ceil(bottom - _EPS) - row
    return Grid(lattice.crs, (a, 0.0, c + a * column, 0.0, e, f + e * row), max(1, height), max(1, width))


FUNCTIONS: Mapping[str, Function] = {
    "Image.reproject": reproject,
    "Image.sampleRectangle": sample_rectangle,
    "Image.setDefaultProjection": on_lattice,
}
