"""The ``world`` catalogue: scenes of any place and date, for demonstrations and load tests.

Scenes lie in squares of a lattice over EPSG:3857, pass every few days, and show the ``synthetic`` provider's
ground of their month, a little brighter or darker from scene to scene. Only the place and the date decide, so
every process makes the same. The ground can be drawn on north-up grids in EPSG:3857 only.
"""

from __future__ import annotations

import datetime as dt
import itertools
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import shapely

from rs_embed_core.chip import FetchPlan, Period
from rs_embed_core.errors import JSONValue, ProviderError
from rs_embed_core.geo import WEB_MERCATOR, Grid, to_lonlat, to_mercator
from rs_embed_core.providers.synthetic import SyntheticProvider
from rs_embed_core.providers.synthetic.sensors import SENSORS
from tests.emulator.limits import Refused
from tests.emulator.pixels import Array, Mask, Pixels, centres
from tests.emulator.scenes import Search, milliseconds

_DAY_MS = 86_400_000
_MOST_SCENES = 5_000
_SHADES = 20  # up and down
_EMBEDDED = tuple(f"A{i:02d}" for i in range(64))
_FIRST_EMBEDDED = dt.date(2017, 1, 1)
_SYNTHETIC = SyntheticProvider()


@dataclass(frozen=True)
class Series:
    """A collection of the world.

    Attributes:
        identity: its id.
        dtype: what holds its values.
        cell_m: side of a scene; None is one scene for the whole world.
        revisit_days: between two passes; 0 is one scene a year.
        step: by how much one shade of brightness differs from the next.
        cloud: the property that tells the share of cloud.
        radar: scenes have an orbit, a mode and polarisations.
    """

    identity: str
    dtype: np.dtype
    cell_m: float | None
    revisit_days: int
    step: float = 0.0
    cloud: str | None = None
    radar: bool = False

    @property
    def bands(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(SENSORS[self.identity].bands) if self.identity in SENSORS else _EMBEDDED

    @property
    def first(self) -> dt.date:
        """Day of the first scene."""
        return SENSORS[self.identity].first if self.identity in SENSORS else _FIRST_EMBEDDED

    def scenes(self, search: Search) -> Sequence[WorldScene]:
        """All scenes in a region and a range of time."""
        if search.region is None or search.start is None or search.stop is None:
            raise Refused(f"The emulator's {self.identity} has no end: filter it by bounds and dates first.")
        start = max(search.start, milliseconds(dt.datetime.combine(self.first, dt.time())))
        made = (
            WorldScene(self, cell, day)
            for cell in self._cells(search.region)
            for day in self._days(cell, start, search.stop)
        )
        found = list(itertools.islice(made, _MOST_SCENES + 1))
        if len(found) > _MOST_SCENES:
            raise Refused("User memory limit exceeded.")
        return sorted(found, key=lambda scene: scene.index)

    def _cells(self, region: shapely.Geometry) -> Iterator[tuple[int, int]]:
        west, south, east, north = region.bounds
        if self.cell_m is None:
            yield (0, 0)
            return
        (x0, y0), (x1, y1) = to_mercator(west, south), to_mercator(east, north)
        side = self.cell_m
        for column in range(math.floor(x0 / side), math.floor(x1 / side) + 1):
            for row in range(math.floor(y0 / side), math.floor(y1 / side) + 1):
                yield column, row

    def _days(self, cell: tuple[int, int], start: int, stop: int) -> Iterator[int]:
        """Days since 1970 of the passes over a cell, a day around the range to be sure."""
        if not self.revisit_days:
            years = range(1970 + start // _DAY_MS // 366, 1971 + stop // _DAY_MS // 365)
            yield from ((dt.date(year, 1, 1) - dt.date(1970, 1, 1)).days for year in years)
            return
        first = start // _DAY_MS - 1
        phase = (cell[0] * 7 + cell[1] * 3 - first) % self.revisit_days
        yield from range(first + phase, stop // _DAY_MS + 1, self.revisit_days)


@dataclass(frozen=True)
class WorldScene:
    """One pass over one cell; ``day`` counts from 1970."""

    series: Series
    cell: tuple[int, int]
    day: int

    @property
    def names(self) -> tuple[str, ...]:
        """Its bands."""
        return self.series.bands

    @property
    def dtype(self) -> np.dtype:
        """The type of its values."""
        return self.series.dtype

    @property
    def date(self) -> dt.date:
        """The day of the pass."""
        return dt.date(1970, 1, 1) + dt.timedelta(self.day)

    @property
    def index(self) -> str:
        """Its ``system:index``."""
        place = "" if self.series.cell_m is None else f"_E{self.cell[0]:+05d}N{self.cell[1]:+05d}"
        return f"{self.date:%Y%m%d}{place}"

    @cached_property
    def footprint(self) -> shapely.Polygon:
        """Its cell in degrees."""
        if self.series.cell_m is None:
            return shapely.box(-180.0, -90.0, 180.0, 90.0)
        side = self.series.cell_m
        west, south = to_lonlat(self.cell[0] * side, self.cell[1] * side)
        east, north = to_lonlat((self.cell[0] + 1) * side, (self.cell[1] + 1) * side)
        return shapely.box(west, south, east, north)

    @cached_property
    def properties(self) -> Mapping[str, JSONValue]:
        """Time, cloud and what radar tells of itself."""
        hour = 0 if not self.series.revisit_days else 17 if self._descending else 10
        properties: dict[str, JSONValue] = {
            "system:index": self.index,
            "system:time_start": self.day * _DAY_MS + hour * 3_600_000,
        }
        if self.series.cloud:
            properties[self.series.cloud] = round(100 * (self._chance("cloud") / 1000) ** 1.5, 3)
        if self.series.radar:
            properties |= {
                "orbitProperties_pass": "DESCENDING" if self._descending else "ASCENDING",
                "instrumentMode": "IW",
                "transmitterReceiverPolarisation": ["VV", "VH"],
            }
        return properties

    @property
    def _descending(self) -> bool:
        return self.series.radar and self.day // self.series.revisit_days % 2 == 1

    def _chance(self, what: str) -> int:
        """A number from 0 to 999 that belongs to the scene."""
        return zlib.crc32(f"{what} {self.index} {self.series.identity}".encode()) % 1000

    def read(self, grid: Grid, names: Sequence[str]) -> Pixels:
        """The ground of the month in the scene's shade."""
        month = (self.date.year, self.date.month)
        values = _ground(self.series.identity, tuple(names), grid, month)
        if self.series.step:
            shade = (self._chance("shade") % (2 * _SHADES + 1) - _SHADES) * self.series.step
            values = (values + np.float32(shade)).astype(self.dtype)
        return Pixels(values, self._inside(grid))

    def _inside(self, grid: Grid) -> Mask | None:
        """Which pixels lie in the cell; None for all."""
        side = self.series.cell_m
        if side is None:
            return None
        x, y = centres(grid, WEB_MERCATOR)
        inside = (np.floor(x[:1] / side) == self.cell[0]) & (np.floor(y[:, :1] / side) == self.cell[1])
        return None if inside.all() else inside[None]


@lru_cache(maxsize=48)
def _ground(identity: str, names: tuple[str, ...], grid: Grid, month: tuple[int, int]) -> Array:
    """What the sensor sees of the ground in a month, ``[C, H, W]``; 16-bit values keep room for the shade."""
    series = SERIES[identity]
    if identity not in SENSORS:
        return _waves(names, grid, month[0])
    start = dt.date(*month, 1)
    period = Period(start, (start + dt.timedelta(31)).replace(day=1))
    plan = FetchPlan(identity, names, grid, (period,), composite="mosaic", cloudy_pct=None)
    try:
        data = _SYNTHETIC.fetch(plan).data[0]
    except ProviderError as error:
        raise Refused(error.message) from error
    if series.dtype.kind == "f":
        return data
    room = int(_SHADES * series.step)
    limits = np.iinfo(series.dtype)
    return np.clip(data, room + 1, limits.max - room)


def _waves(names: tuple[str, ...], grid: Grid, year: int) -> Array:
    """Smooth fields; 64 of them have a length of about one, as the embeddings of a pixel do."""
    x, y = centres(grid, WEB_MERCATOR)
    out = np.empty((len(names), grid.height, grid.width), np.float64)
    for place, name in zip(out, names, strict=True):
        turn = int(name[1:]) * 0.7
        along = (x[:1] * math.cos(turn) + 40 * year) / (300 + 40 * turn)
        across = y[:, :1] * math.sin(turn) / (300 + 40 * turn)
        np.sin(along + across, out=place)
    return out * math.sqrt(2.0 / len(_EMBEDDED))


_U16, _I16, _F32, _F64 = (np.dtype(kind) for kind in (np.uint16, np.int16, np.float32, np.float64))
SERIES: Mapping[str, Series] = {
    series.identity: series
    for series in (
        Series("COPERNICUS/S2_SR_HARMONIZED", _U16, 100_000.0, 5, step=1.0, cloud="CLOUDY_PIXEL_PERCENTAGE"),
        Series("COPERNICUS/S1_GRD_FLOAT", _F32, 200_000.0, 6, radar=True),
        Series("COPERNICUS/S1_GRD", _F32, 200_000.0, 6, step=0.05, radar=True),
        Series("LANDSAT/LC08/C02/T1_L2", _U16, 180_000.0, 16, step=4.0, cloud="CLOUD_COVER"),
        Series("NASA/HLS/HLSL30/v002", _F32, 100_000.0, 8, step=1e-4, cloud="CLOUD_COVERAGE"),
        Series("MODIS/061/MOD09GA", _I16, None, 1, step=2.0),
        Series("MODIS/061/MOD21A1D", _F32, None, 1),
        Series("GOOGLE/SATELLITE_EMBEDDING/V1/ANNUAL", _F64, 160_000.0, 0),
    )
}


class World:
    """The catalogue of everything, everywhere."""

    def collection(self, identity: str) -> Series | None:
        """A series by its id."""
        return SERIES.get(identity)

    def scene(self, identity: str) -> WorldScene | None:
        """A scene by its id: its series', a slash, its index."""
        parent, _, index = identity.rpartition("/")
        series = SERIES.get(parent)
        return _scene(series, index) if series else None


def _scene(series: Series, index: str) -> WorldScene | None:
    try:
        day = (dt.datetime.strptime(index[:8], "%Y%m%d").replace(tzinfo=dt.UTC).date() - dt.date(1970, 1, 1)).days
        cell = (0, 0) if series.cell_m is None else (int(index[10:15]), int(index[16:21]))
    except ValueError:
        return None
    return WorldScene(series, cell, day)
