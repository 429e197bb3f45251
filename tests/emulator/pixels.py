"""Pixels on an output grid: nearest-neighbour sampling of a raster, and what lies inside a region."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any  # pixels of every type

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import Transformer

from rs_embed_core.geo import Grid
from tests.emulator.limits import Refused

type Array = NDArray[Any]
type Mask = NDArray[np.bool_]

LONLAT = "EPSG:4326"


@dataclass(frozen=True, eq=False)
class Pixels:
    """Values of some bands on a grid.

    Attributes:
        values: ``[C, H, W]``, or something that broadcasts to it.
        mask: likewise, True where there is a pixel; None where all are there.
    """

    values: Array
    mask: Mask | None = None


@dataclass(frozen=True, eq=False)
class Raster:
    """One band of one scene as it is stored.

    Attributes:
        array: ``[rows, columns]``.
        crs: anything that PROJ understands.
        transform: (a, b, c, d, e, f) of pixel corners, north-up (b = d = 0).
        mask: True where the scene has a pixel; None where it has all.
    """

    array: Array
    crs: str
    transform: tuple[float, float, float, float, float, float]
    mask: Mask | None = None


def sample(raster: Raster, grid: Grid) -> Pixels:
    """The raster's nearest pixel at each pixel centre of the grid, ``[1, H, W]``."""
    rows, columns, inside = _indices(grid, raster.crs, raster.transform, raster.array.shape)
    mask = inside if raster.mask is None else inside & raster.mask[rows, columns]
    return Pixels(raster.array[rows, columns][None], None if mask.all() else mask[None])


def covered(region: shapely.Geometry, grid: Grid) -> Mask:
    """Which pixel centres of the grid lie in a region (degrees), ``[1, H, W]``."""
    lon, lat = centres(grid, LONLAT)
    return shapely.contains_xy(region, lon, lat)[None]


@lru_cache(maxsize=64)
def centres(grid: Grid, crs: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """X and y of the grid's pixel centres in another CRS, each ``[H, W]``."""
    a, b, c, d, e, f = grid.transform
    columns, rows = np.meshgrid(np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5)
    x, y = c + a * columns + b * rows, f + d * columns + e * rows
    return _transformer(grid.crs, crs).transform(x, y)


@lru_cache(maxsize=128)
def _indices(
    grid: Grid, crs: str, transform: tuple[float, ...], shape: tuple[int, int]
) -> tuple[NDArray[np.intp], NDArray[np.intp], Mask]:
    """Row and column of the pixel under each centre (0 outside the raster), and which are inside."""
    x, y = centres(grid, crs)
    a, _, c, _, e, f = transform
    columns, rows = np.floor((x - c) / a), np.floor((y - f) / e)
    inside = (columns >= 0) & (columns < shape[1]) & (rows >= 0) & (rows < shape[0])
    return np.where(inside, rows, 0).astype(np.intp), np.where(inside, columns, 0).astype(np.intp), inside


@lru_cache(maxsize=64)
def _transformer(source: str, target: str) -> Transformer:
    from pyproj.exceptions import CRSError  # noqa: PLC0415

    try:
        return Transformer.from_crs(source, target, always_xy=True)
    except CRSError as error:
        raise Refused(f"The CRS of a map projection could not be parsed: {source}.") from error
