"""Stage fetch, synthetic imagery: climate and calendar, as simple functions of latitude and day.

Nothing here claims to be a climatology; the numbers give warm tropics, dry subtropics at about 24 degrees,
forests and farmland at middle latitudes, snow in high-latitude winters, and seasons that are opposite south
of the equator.
"""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass
from functools import lru_cache

YEAR_DAYS = 365.25
_COLDEST_DAY = 20  # of the year, north: air temperature lags the sun by a month
_BELT_M, _BELT_PIXELS = 8192.0, 32  # rows of one climate: steps between belts stay below the pixel noise


def belt_rows(scale_m: float) -> int:
    """Rows of the lattice that share a climate: 8192 m, or 32 rows where pixels are large."""
    return max(_BELT_PIXELS, round(_BELT_M / scale_m))


def between(low: float, high: float, value: float) -> float:
    """0 at or below ``low``, 1 at or above ``high``, smooth between."""
    t = max(0.0, min(1.0, (value - low) / (high - low)))
    return t * t * (3.0 - 2.0 * t)


@dataclass(frozen=True)
class Zone:
    """What latitude alone decides.

    Attributes:
        latitude: degrees.
        tropical: 0..1, share of broadleaf evergreens among the evergreens.
        arid: 0..1, how much of a subtropical desert.
        forest, built, evergreen: above which value of their field there are some, in standard deviations.
        bare, farmed: below which value of the moisture (its sign changed) or height field, likewise.
    """

    latitude: float
    tropical: float
    arid: float
    forest: float
    built: float
    bare: float
    evergreen: float
    farmed: float


@lru_cache(maxsize=4096)
def zone_at(latitude: float) -> Zone:
    """The zone of a latitude in degrees."""
    away = abs(latitude)
    tropical = 1.0 - between(14.0, 32.0, away)
    boreal = between(46.0, 58.0, away)
    polar = between(60.0, 70.0, away)
    arid = math.exp(-(((away - 24.0) / 7.0) ** 2))
    return Zone(
        latitude=latitude,
        tropical=tropical,
        arid=arid,
        forest=0.55 - 0.75 * tropical - 0.65 * boreal + 2.2 * arid + 3.5 * polar,
        built=1.5 + 0.5 * arid + 0.5 * boreal + 4.0 * polar,
        bare=2.2 - 2.6 * arid - 1.6 * polar,
        evergreen=0.35 - 1.6 * tropical - 1.1 * boreal,
        farmed=0.75 - 1.3 * tropical - 1.7 * arid - 0.9 * boreal - 5.0 * polar,
    )


def air_temperature(latitude: float, day: float) -> float:
    """Air temperature at sea level, in degrees Celsius, on a day of the year."""
    away = abs(latitude)
    phase = math.cos(2.0 * math.pi * (_local_day(latitude, day) - _COLDEST_DAY) / YEAR_DAYS)
    return 27.0 - 0.0085 * away * away - 0.3 * away * phase


def day_of(date: dt.date) -> float:
    """The day of the year, with a shift of up to 6 days that makes years early or late."""
    late = (date.year * 7919 % 13) - 6
    return date.timetuple().tm_yday - late


def crop_stage(latitude: float, day: float, *, peak: float, half_width: float) -> float:
    """Greenness 0..1 of a crop that peaks on this day of the northern year.

    It grows and withers within ``half_width`` days of that. Near the equator something always grows.
    """
    distance = (_local_day(latitude, day) - peak + YEAR_DAYS / 2) % YEAR_DAYS - YEAR_DAYS / 2
    stage = between(0.0, 1.0, 1.25 * (1.0 - abs(distance) / half_width))
    seasonal = between(8.0, 28.0, abs(latitude))
    return seasonal * stage + (1.0 - seasonal) * 0.65


def _local_day(latitude: float, day: float) -> float:
    return day if latitude >= 0 else (day + YEAR_DAYS / 2) % YEAR_DAYS
