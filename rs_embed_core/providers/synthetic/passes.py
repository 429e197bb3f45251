"""Stage fetch, synthetic imagery: when satellites passed (plausible times and ids, of no real scene)."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Self

from rs_embed_core.chip import Acquisition, FetchPlan, Period
from rs_embed_core.geo import to_lonlat, to_mercator
from rs_embed_core.providers.synthetic.sensors import SENSORS, Sensor

type Orbit = Literal["ASCENDING", "DESCENDING"] | None

_LISTED = 12  # acquisitions per frame
_CELL_M = 100_000.0  # places this near to each other are seen in the same scenes
_DAY_S = 86_400
_MGRS_BANDS = "CDEFGHJKLMNPQRSTUVWX"
_MGRS_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"


def passes(sensor: Sensor, period: Period) -> int:
    """How many overpasses a period has; at least one where the sensor was in orbit at all."""
    start = max(period.start, sensor.first)
    end = min(period.end, sensor.last + dt.timedelta(days=1)) if sensor.last else period.end
    return max(1, (end - start).days // sensor.revisit_days)


def acquisitions(plan: FetchPlan) -> tuple[Acquisition, ...]:
    """What went into the plan's frames, at most 12 each, in time order."""
    a, _, c, _, e, f = plan.grid.transform
    x, y = c + a * plan.grid.width / 2, f + e * plan.grid.height / 2
    cell = (math.floor(x / _CELL_M), math.floor(y / _CELL_M))
    return _listed(plan.collection, plan.frames, plan.orbit, cell)


@lru_cache(maxsize=1024)
def _listed(
    collection: str, frames: tuple[Period, ...], orbit: Orbit, cell: tuple[int, int]
) -> tuple[Acquisition, ...]:
    sensor = SENSORS[collection]
    seen = [
        (day, index) for index, period in enumerate(frames) if sensor.saw(period) for day in _days(sensor, period, cell)
    ]
    seen.sort()
    names = _Names.at(sensor, cell)
    return tuple(names.acquisition(day, index, orbit) for day, index in seen)


@dataclass(frozen=True)
class _Names:
    """What all acquisitions of one sensor over one cell have in common.

    Attributes:
        clocks: UTC time of day of ascending (or only) and descending passes.
        ids: theirs, with ``*`` for the date.
    """

    sensor: Sensor
    clocks: tuple[str, str]
    ids: tuple[str, str]

    @classmethod
    def at(cls, sensor: Sensor, cell: tuple[int, int]) -> Self:
        lon, lat = to_lonlat((cell[0] + 0.5) * _CELL_M, (cell[1] + 0.5) * _CELL_M)
        apart = 12.0 if sensor.kind == "radar" else 0.0  # radar passes are half a day apart
        seconds = (round((hour - lon / 15.0) * 3600) % _DAY_S for hour in (sensor.hour, sensor.hour - apart))
        clocks = tuple(f"{s // 3600:02d}:{s // 60 % 60:02d}:{s % 60:02d}" for s in seconds)
        up, down = (
            sensor.form.format(
                clock=clock.replace(":", ""),
                tile=_tile(lon, lat),
                path=math.floor((180.0 - lon) / 360.0 * 233) % 233 + 1,  # Landsat's WRS-2 has 233 paths
                row=math.floor((90.0 - lat) / 180.0 * 124) + 1,  # and 124 rows on the day side
            )
            for clock in clocks
        )
        return cls(sensor, (clocks[0], clocks[1]), (up, down))

    def acquisition(self, day: int, frame: int, orbit: Orbit) -> Acquisition:
        """The overpass of a day (a proleptic ordinal); passes alternate where both are wanted."""
        down = orbit == "DESCENDING" or (orbit is None and day // self.sensor.revisit_days % 2 == 1)
        date = dt.date.fromordinal(day).isoformat()
        identity = self.ids[down].replace("*", date.replace("-", self.sensor.date_separator))
        return Acquisition(identity, f"{date}T{self.clocks[down]}Z", frame)


def _days(sensor: Sensor, period: Period, cell: tuple[int, int]) -> list[int]:
    """Days (proleptic ordinals) of overpasses: every so many days, on other days in the next cell."""
    start = max(period.start, sensor.first)
    stop = period.end if sensor.last is None else min(period.end, sensor.last + dt.timedelta(days=1))
    phase = (cell[0] * 7 + cell[1] * 3) % sensor.revisit_days
    wait = (phase - start.toordinal()) % sensor.revisit_days
    days = range(start.toordinal() + wait, stop.toordinal(), sensor.revisit_days)
    if not days:  # a short period: the satellite is kind and passes at its start
        return [start.toordinal()]
    if len(days) > _LISTED:
        return [days[i * len(days) // _LISTED] for i in range(_LISTED)]
    return list(days)


def _tile(lon: float, lat: float) -> str:
    """A name in the style of a Sentinel-2 tile (``32TQM``): the true zone and band, made-up letters."""
    zone = math.floor((lon + 180.0) / 6.0) % 60 + 1
    band = _MGRS_BANDS[max(0, min(19, math.floor((lat + 80.0) / 8.0)))]
    x, y = to_mercator(lon, lat)
    letters = (_MGRS_LETTERS[math.floor(v / _CELL_M) % len(_MGRS_LETTERS)] for v in (x, y))
    return f"{zone:02d}{band}{''.join(letters)}"
