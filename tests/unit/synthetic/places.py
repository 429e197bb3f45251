"""Collections, periods and places of the synthetic imagery."""

from __future__ import annotations

import datetime as dt

import numpy as np

from rs_embed_core.chip import Chip, FetchPlan, Period
from rs_embed_core.geo import WEB_MERCATOR, Grid, to_mercator
from rs_embed_core.providers.synthetic import SyntheticProvider

S2 = "COPERNICUS/S2_SR_HARMONIZED"
L1C = "COPERNICUS/S2_HARMONIZED"
S1 = "COPERNICUS/S1_GRD_FLOAT"
S1_DB = "COPERNICUS/S1_GRD"
LANDSAT8 = "LANDSAT/LC08/C02/T1_L2"
LANDSAT7 = "LANDSAT/LE07/C02/T1_L2"
HLS = "NASA/HLS/HLSL30/v002"
MODIS = "MODIS/061/MOD09GA"
LST = "MODIS/061/MOD21A1D"
S2_BANDS = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B11", "B12")
JULY, JANUARY = (
    Period(dt.date(2022, 7, 1), dt.date(2022, 8, 1)),
    Period(dt.date(2022, 1, 1), dt.date(2022, 2, 1)),
)
SOME_BANDS = {
    S2: ("B2", "B4", "B8", "B12"),
    L1C: ("B1", "B10"),
    S1: ("VV", "VH"),
    S1_DB: ("VH",),
    LANDSAT8: ("SR_B4", "SR_B5"),
    HLS: ("B5",),
    MODIS: ("sur_refl_b02",),
    LST: ("LST_1KM",),
}
BAVARIA = (11.5, 48.2)
PROVIDER = SyntheticProvider()


def lattice(column: int, row: int, height: int, width: int, scale_m: float = 10.0) -> Grid:
    transform = (scale_m, 0.0, column * scale_m, 0.0, -scale_m, -row * scale_m)
    return Grid(WEB_MERCATOR, transform, height, width)


def around(place: tuple[float, float], pixels: int = 65, scale_m: float = 10.0) -> Grid:
    x, y = to_mercator(*place)
    return lattice(round(x / scale_m), round(-y / scale_m), pixels, pixels, scale_m)


def fetch(grid: Grid, *frames: Period, collection: str = S2, bands: tuple[str, ...] | None = None) -> Chip:
    return PROVIDER.fetch(FetchPlan(collection, bands or SOME_BANDS[collection], grid, frames or (JULY,)))


def ndvi(grid: Grid, period: Period) -> np.ndarray:
    red, nir = fetch(grid, period, bands=("B4", "B8")).data[0]
    return (nir - red) / (nir + red)
