"""Composites of the ``small`` catalogue in plain NumPy, to hold the emulator to.

Shares no code with the evaluator: own projections (spherical Mercator, Krueger's series for UTM, sinusoidal), own
indexing, own reductions.
"""

from __future__ import annotations

import datetime as dt
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rs_embed_core.geo import Grid
from tests.emulator.pixels import Raster
from tests.emulator.scenes import StoredScene
from tests.emulator.small import SINUSOIDAL, small

type Floats = NDArray[np.float64]
type Keep = Callable[[StoredScene], bool]

_A, _F = 6378137.0, 1 / 298.257223563  # WGS 84
_N = _F / (2 - _F)
_MERIDIAN = _A / (1 + _N) * (1 + _N**2 / 4 + _N**4 / 64 + _N**6 / 256)
_ALPHA = (  # Krueger 1912, in Karney's "Transverse Mercator with an accuracy of a few nanometers" (2011), eq. 35
    _N / 2 - 2 / 3 * _N**2 + 5 / 16 * _N**3 + 41 / 180 * _N**4 - 127 / 288 * _N**5 + 7891 / 37800 * _N**6,
    13 / 48 * _N**2 - 3 / 5 * _N**3 + 557 / 1440 * _N**4 + 281 / 630 * _N**5 - 1983433 / 1935360 * _N**6,
    61 / 240 * _N**3 - 103 / 140 * _N**4 + 15061 / 26880 * _N**5 + 167603 / 181440 * _N**6,
    49561 / 161280 * _N**4 - 179 / 168 * _N**5 + 6601661 / 7257600 * _N**6,
)


def scenes(
    collection: str, start: str, stop: str, *, cloudy_pct: int | None = None, keep: Keep = lambda _: True
) -> list[StoredScene]:
    """The scenes of ``[start, stop)`` in order of time; one that tells no cloud passes the cloud filter."""
    first, last = (dt.datetime.fromisoformat(day).replace(tzinfo=dt.UTC) for day in (start, stop))

    def clear(scene: StoredScene) -> bool:
        cloud = scene.own.get("CLOUDY_PIXEL_PERCENTAGE", scene.own.get("CLOUD_COVER"))
        return cloudy_pct is None or not isinstance(cloud, float) or cloud <= cloudy_pct

    found = [s for s in small().collections[collection].members if first <= s.time_start < last and clear(s)]
    return sorted(filter(keep, found), key=lambda scene: scene.time_start)


def composite(
    members: Sequence[StoredScene], bands: Sequence[str], grid: Grid, how: Literal["median", "mosaic"] = "median"
) -> Floats:
    """One image ``[C, H, W]`` in an EPSG:3857 grid, NaN where no scene has a pixel."""
    lon, lat = _degrees(grid)
    out = np.full((len(bands), grid.height, grid.width), np.nan)
    for place, band in zip(out, bands, strict=True):
        stack = [_nearest(scene.bands[band], lon, lat) for scene in members]
        if stack and how == "median":
            with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # of all-NaN pixels
                place[:] = np.nanmedian(np.stack(stack), axis=0)
        for layer in stack if how == "mosaic" else ():
            place[:] = np.where(np.isnan(layer), place, layer)
    return out


def _degrees(grid: Grid) -> tuple[Floats, Floats]:
    a, _, c, _, e, f = grid.transform
    x = c + a * (np.arange(grid.width) + 0.5)
    y = f + e * (np.arange(grid.height) + 0.5)
    lat = 2 * np.arctan(np.exp(y / _A)) - math.pi / 2
    lon, lat = np.meshgrid(np.degrees(x / _A), np.degrees(lat))
    return lon, lat


def _nearest(raster: Raster, lon: Floats, lat: Floats) -> Floats:
    """The raster's pixel under each place, NaN where it has none."""
    x, y = _sinusoidal(lon, lat) if raster.crs == SINUSOIDAL else _utm(lon, lat, int(raster.crs[-2:]))
    size, west, north = raster.transform[0], raster.transform[2], raster.transform[5]
    column, row = np.floor((x - west) / size).astype(int), np.floor((north - y) / size).astype(int)
    height, width = raster.array.shape
    out = np.full(lon.shape, np.nan)
    known = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    if raster.mask is not None:
        known[known] = raster.mask[row[known], column[known]]
    out[known] = raster.array[row[known], column[known]]
    return out


def _sinusoidal(lon: Floats, lat: Floats) -> tuple[Floats, Floats]:
    radius, latitude = 6371007.181, np.radians(lat)  # MODIS's sphere
    return radius * np.radians(lon) * np.cos(latitude), radius * latitude


def _utm(lon: Floats, lat: Floats, zone: int) -> tuple[Floats, Floats]:
    """Easting and northing on the northern hemisphere."""
    away = np.radians(lon - (6 * zone - 183))
    e = 2 * math.sqrt(_N) / (1 + _N)
    s = np.sin(np.radians(lat))
    t = np.sinh(np.arctanh(s) - e * np.arctanh(e * s))
    xi, eta = np.arctan2(t, np.cos(away)), np.arcsinh(np.sin(away) / np.hypot(t, np.cos(away)))
    x, y = eta.copy(), xi.copy()
    for j, alpha in enumerate(_ALPHA, start=1):
        x += alpha * np.cos(2 * j * xi) * np.sinh(2 * j * eta)
        y += alpha * np.sin(2 * j * xi) * np.cosh(2 * j * eta)
    return 500_000 + 0.9996 * _MERIDIAN * x, 0.9996 * _MERIDIAN * y
