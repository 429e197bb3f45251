"""The ``small`` catalogue: explicit rasters of one year around 12 E 50 N, where two UTM zones meet.

Sentinel-2 has 10, 20 and 60 m bands, tiles in both zones that overlap between them, swaths that cover part of
their tile, clouds below, at and above 30 %, one scene that tells no cloud, and nothing in August. Sentinel-1 has
both orbits, one scene without VH, and only EW scenes in April. All pixels are random numbers from fixed seeds.
"""

from __future__ import annotations

import datetime as dt
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import shapely
from pyproj import Transformer

from rs_embed_core.errors import JSONValue
from tests.emulator.pixels import LONLAT, Mask, Raster
from tests.emulator.scenes import StoredCatalogue, StoredCollection, StoredScene

LON, LAT = 12.0, 50.0
YEAR = 2022
EMPTY_MONTH, EW_MONTH = 8, 4
SINUSOIDAL = "+proj=sinu +R=6371007.181 +units=m"

S2, S1_LINEAR, S1_DB = "COPERNICUS/S2_SR_HARMONIZED", "COPERNICUS/S1_GRD_FLOAT", "COPERNICUS/S1_GRD"
LANDSAT, ANNUAL = "LANDSAT/LC08/C02/T1_L2", "GOOGLE/SATELLITE_EMBEDDING/V1/ANNUAL"
MODIS, MODIS_LST = "MODIS/061/MOD09GA", "MODIS/061/MOD21A1D"

S2_BANDS: Mapping[str, float] = {
    **dict.fromkeys(("B2", "B3", "B4", "B8"), 10.0),
    **dict.fromkeys(("B5", "B6", "B7", "B8A", "B11", "B12"), 20.0),
    **dict.fromkeys(("B1", "B9"), 60.0),
}
_CLOUDS = (4.5, 12.0, 30.0, 30.4, 61.0, 22.0, 0.0)
_EMBEDDED = tuple(f"A{i:02d}" for i in range(64))
_SINU_PIXEL_M = 926.625433055833  # of a 1 km MODIS pixel; reflectances have half of it


@dataclass(frozen=True)
class Tile:
    """A square of ground in one projection; its sides are multiples of 60 m where it is UTM."""

    name: str
    crs: str
    west: float
    north: float
    side_m: float

    @property
    def footprint(self) -> shapely.Polygon:
        """Its corners, in degrees."""
        west, north, side = self.west, self.north, self.side_m
        box = shapely.box(west, north - side, west + side, north)
        to_degrees = Transformer.from_crs(self.crs, LONLAT, always_xy=True)
        return shapely.transform(box, to_degrees.transform, interleaved=False)


WESTERN = Tile("T32UQA", "EPSG:32632", 713_760.0, 5_544_120.0, 2_400.0)
EASTERN = Tile("T33UTR", "EPSG:32633", 284_580.0, 5_544_180.0, 2_400.0)
_MODIS_TILE = Tile("h18v03", SINUSOIDAL, 902 * _SINU_PIXEL_M, 6_020 * _SINU_PIXEL_M, 40 * _SINU_PIXEL_M)


def _raster(tile: Tile, pixel_m: float, values: np.ndarray, mask: Mask | None) -> Raster:
    return Raster(values, tile.crs, (pixel_m, 0.0, tile.west, 0.0, -pixel_m, tile.north), mask)


def _swath(tile: Tile, pixel_m: float, *, east: bool) -> Mask:
    """The part of the tile on one side of a slanted edge through its middle."""
    count = round(tile.side_m / pixel_m)
    centres = (np.arange(count) + 0.5) * pixel_m
    beyond = centres[None, :] + 0.25 * centres[:, None] > 0.6 * tile.side_m
    return beyond if east else ~beyond


def _seed(*parts: object) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(repr(parts).encode()))


def _moment(day: dt.date, hour: int) -> dt.datetime:
    return dt.datetime(day.year, day.month, day.day, hour, 10, 31, tzinfo=dt.UTC)


def _integers(tile: Tile, bands: Mapping[str, float], index: str, swath: bool | None) -> dict[str, Raster]:
    """Random 16-bit bands by name and pixel size; ``swath`` says which side has pixels, None both."""
    made = {}
    for name, pixel_m in bands.items():
        count = round(tile.side_m / pixel_m)
        values = _seed(index, name).integers(1, 10_000, (count, count)).astype(np.uint16)
        mask = None if swath is None else _swath(tile, pixel_m, east=swath)
        made[name] = _raster(tile, pixel_m, values, mask)
    return made


def _days(*days: int) -> list[dt.date]:
    """These days of each month that has scenes."""
    return [dt.date(YEAR, month, day) for month in range(1, 13) if month != EMPTY_MONTH for day in days]


def _sentinel2() -> list[StoredScene]:
    visits = [(day, WESTERN) for day in _days(4, 17)] + [(day, EASTERN) for day in _days(9)]
    scenes = []
    for number, (day, tile) in enumerate(sorted(visits, key=lambda visit: visit[0])):
        index = f"{day:%Y%m%d}T101031_{day:%Y%m%d}T101030_{tile.name}"
        cloud = {"CLOUDY_PIXEL_PERCENTAGE": _CLOUDS[number % len(_CLOUDS)]}
        own: dict[str, JSONValue] = {"MGRS_TILE": tile.name[1:], **(cloud if number != 16 else {})}
        swath = (None, None, True, False)[number % 4]
        bands = _integers(tile, S2_BANDS, index, swath)
        scenes.append(StoredScene(index, _moment(day, 10), own, tile.footprint, bands))
    return scenes


def _sentinel1(*, decibels: bool) -> list[StoredScene]:
    scenes = []
    for number, day in enumerate(_days(3, 8, 20)):
        mode = "EW" if day.month == EW_MONTH else "IW"
        orbit = "DESCENDING" if number % 2 else "ASCENDING"
        names: tuple[str, ...] = ("VV",) if number == 4 else ("VV", "VH")
        tile = EASTERN if number % 3 == 2 else WESTERN
        index = f"S1A_{mode}_GRDH_1S{'SV' if len(names) == 1 else 'DV'}_{day:%Y%m%d}T052500_{number:06X}"
        own: dict[str, JSONValue] = {
            "instrumentMode": mode,
            "orbitProperties_pass": orbit,
            "transmitterReceiverPolarisation": list(names),
        }
        bands = {name: _backscatter(tile, index, name, decibels=decibels) for name in names}
        scenes.append(StoredScene(index, _moment(day, 5), own, tile.footprint, bands))
    return scenes


def _backscatter(tile: Tile, index: str, name: str, *, decibels: bool) -> Raster:
    """Random power, linear or in dB; the western side of each tile's swath."""
    count = round(tile.side_m / 10.0)
    power = _seed(index, name).gamma(4.0, 0.02, (count, count))
    values = (10.0 * np.log10(power) if decibels else power).astype(np.float32)
    return _raster(tile, 10.0, values, _swath(tile, 10.0, east=False) if name == "VV" else None)


def _landsat() -> list[StoredScene]:
    bands = {f"SR_B{i}": 30.0 for i in range(1, 8)}
    scenes = []
    for number, day in enumerate(_days(12, 28)):
        index = f"LC08_192025_{day:%Y%m%d}"
        own: dict[str, JSONValue] = {"CLOUD_COVER": _CLOUDS[number % len(_CLOUDS)]}
        scenes.append(
            StoredScene(index, _moment(day, 9), own, WESTERN.footprint, _integers(WESTERN, bands, index, None))
        )
    return scenes


def _annual() -> list[StoredScene]:
    scenes = []
    for tile, year in ((WESTERN, YEAR - 1), (WESTERN, YEAR), (EASTERN, YEAR)):
        index = f"{tile.name}_{year}"
        shape = (round(tile.side_m / 20.0),) * 2  # coarser than the real 10 m: 64 bands are many
        bands = {
            name: _raster(tile, 20.0, _seed(index, name).uniform(-0.4, 0.4, shape).astype(np.float32), None)
            for name in _EMBEDDED
        }
        scenes.append(StoredScene(index, dt.datetime(year, 1, 1, tzinfo=dt.UTC), {}, tile.footprint, bands))
    return scenes


def _modis(bands: Mapping[str, float]) -> list[StoredScene]:
    tile = _MODIS_TILE
    return [
        StoredScene(
            f"{day:%Y_%m_%d}",
            _moment(day, 0),
            {},
            tile.footprint,
            _integers(tile, bands, f"{day}", (None, True)[i % 2]),
        )
        for i, day in enumerate(dt.date(YEAR, 6, day) for day in range(1, 6))
    ]


@cache
def small() -> StoredCatalogue:
    """The catalogue, made once per process."""
    series: dict[str, Sequence[StoredScene]] = {
        S2: _sentinel2(),
        S1_LINEAR: _sentinel1(decibels=False),
        S1_DB: _sentinel1(decibels=True),
        LANDSAT: _landsat(),
        ANNUAL: _annual(),
        MODIS: _modis({f"sur_refl_b{i:02d}": _SINU_PIXEL_M / 2 for i in range(1, 8)}),
        MODIS_LST: _modis({"LST_1KM": _SINU_PIXEL_M}),
    }
    return StoredCatalogue({name: StoredCollection(scenes) for name, scenes in series.items()})
