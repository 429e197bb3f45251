"""Stage fetch, synthetic imagery: when satellites passed. Times and ids are plausible, not those of real scenes."""

from __future__ import annotations

import datetime as dt
import math
from functools import lru_cache
from typing import Literal

from rs_embed_core.chip import Acquisition, FetchPlan, Period
from rs_embed_core.geo import to_lonlat, to_mercator
from rs_embed_core.providers._synthetic_sensors import SENSORS, Sensor

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
    lon, lat = to_lonlat((cell[0] + 0.5) * _CELL_M, (cell[1] + 0.5) * _CELL_M)
    out = []
    for index, period in enumerate(frames):
        if sensor.saw(period):
            out += [_acquisition(sensor, day, index, (lon, lat), orbit) for day in _days(sensor, period, cell)]
    return tuple(sorted(out, key=lambda item: (item.time, item.frame)))


def _days(sensor: Sensor, period: Period, cell: tuple[int, int]) -> list[dt.date]:
    """Days of overpasses: every so many days, on other days in the next cell."""
    start = max(period.start, sensor.first)
    stop = period.end if sensor.last is None else min(period.end, sensor.last + dt.timedelta(days=1))
    phase = (cell[0] * 7 + cell[1] * 3) % sensor.revisit_days
    wait = (phase - start.toordinal()) % sensor.revisit_days
    days = range(start.toordinal() + wait, stop.toordinal(), sensor.revisit_days)
    if not days:  # a short period: the satellite is kind and passes at its start
        return [start]
    thinned = [days[i * len(days) // _LISTED] for i in range(_LISTED)] if len(days) > _LISTED else list(days)
    return [dt.date.fromordinal(day) for day in thinned]


def _acquisition(
    sensor: Sensor, day: dt.date, frame: int, place: tuple[float, float], orbit: Orbit
) -> Acquisition:
    lon, lat = place
    descending = orbit == "DESCENDING" or (orbit is None and day.toordinal() // sensor.revisit_days % 2 == 1)
    local_hour = sensor.hour - 12.0 if sensor.kind == "radar" and descending else sensor.hour
    second = round((local_hour - lon / 15.0) * 3600) % _DAY_S
    time = dt.datetime.combine(day, dt.time()) + dt.timedelta(seconds=second)
    identity = sensor.form.format(
        time=time,
        tile=_tile(lon, lat),
        path=math.floor((180.0 - lon) / 360.0 * 233) % 233 + 1,  # Landsat WRS-2 has 233 paths and 248 rows
        row=math.floor((90.0 - lat) / 180.0 * 124) + 1,
        orbit=(day.toordinal() - 735_000) * 15 % 1_000_000,
    )
    return Acquisition(identity, time.isoformat() + "Z", frame)


def _tile(lon: float, lat: float) -> str:
    """A name in the style of a Sentinel-2 tile (``32TQM``): the true zone and band, made-up letters."""
    zone = math.floor((lon + 180.0) / 6.0) % 60 + 1
    band = _MGRS_BANDS[max(0, min(19, math.floor((lat + 80.0) / 8.0)))]
    x, y = to_mercator(lon, lat)
    letters = (_MGRS_LETTERS[math.floor(v / _CELL_M) % len(_MGRS_LETTERS)] for v in (x, y))
    return f"{zone:02d}{band}{''.join(letters)}"
