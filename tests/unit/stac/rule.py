"""What a read must give by the rule, in NumPy and apart from the provider's own code."""

from __future__ import annotations

import datetime as dt
import warnings

import numpy as np
from pyproj import Transformer

from rs_embed_core.chip import FetchPlan, Period
from rs_embed_core.geo import Grid
from rs_embed_core.providers.base import Provider
from tests.unit.stac.written import OLD_VERSION, PIXEL_M, SCENES, Scene

S2 = "COPERNICUS/S2_SR_HARMONIZED"
BANDS = ("B2", "B5", "B1", "B8", "B11", "B3")
JUNE = Period(dt.date(2022, 6, 1), dt.date(2022, 7, 1))
JULY = Period(dt.date(2022, 7, 1), dt.date(2022, 8, 1))
MAY = Period(dt.date(2022, 5, 1), dt.date(2022, 6, 1))


def scenes_of(period: Period, cloudy_pct: int | None, *, passing: tuple[int, ...] = (11,)) -> list[Scene]:
    """What Earth Engine's filters leave, by hand; ``passing`` are scenes that do not meet the region."""
    days = (period.start.isoformat(), period.end.isoformat())
    return [
        scene
        for scene in SCENES
        if days[0] <= scene.time[:10] < days[1]
        and scene.number not in (OLD_VERSION, *passing)
        and (cloudy_pct is None or scene.cloud is None or scene.cloud <= cloudy_pct)
    ]


def sampled(scene: Scene, band: str, grid: Grid, *, offset: bool = True) -> np.ndarray:
    """A scene on a grid, NaN where it has nothing: every centre projected by itself, nearest pixel."""
    a, _, c, _, e, f = grid.transform
    rows, columns = np.mgrid[: grid.height, : grid.width]
    to_file = Transformer.from_crs("EPSG:3857", scene.crs, always_xy=True)
    x, y = to_file.transform(c + a * (columns + 0.5), f + e * (rows + 0.5))
    west, north = scene.corner
    column = np.floor((x - west) / PIXEL_M[band]).astype(int)
    row = np.floor((north - y) / PIXEL_M[band]).astype(int)
    side = len(scene.bands[band])
    inside = (column >= 0) & (column < side) & (row >= 0) & (row < side)
    dn = np.where(inside, scene.bands[band][row.clip(0, side - 1), column.clip(0, side - 1)], 0).astype(float)
    lowered = np.maximum(dn - (1000 if offset and scene.baseline >= "04.00" else 0), 0)
    return np.where(dn == 0, np.nan, lowered)


def expected(
    scenes: list[Scene], grid: Grid, bands: tuple[str, ...] = BANDS, composite: str = "median", fill: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """``[C, H, W]`` and where all bands are there."""
    images = []
    for band in bands:
        stack = np.stack([sampled(scene, band, grid, offset=band != "SCL") for scene in scenes])
        if composite == "median":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # pixels with no scene at all
                images.append(np.nanmedian(stack, axis=0))
        else:
            image = np.full(stack.shape[1:], np.nan)
            for plane in stack:
                image = np.where(np.isnan(plane), image, plane)
            images.append(image)
    image = np.stack(images)
    valid = ~np.isnan(image).all(axis=0)
    return np.where(np.isnan(image), fill, image).astype(np.float32), valid


def read(provider: Provider, grid: Grid, *periods: Period, bands: tuple[str, ...] = BANDS, **plan: object):
    return provider.fetch(FetchPlan(S2, bands, grid, periods or (JUNE,), **plan))
