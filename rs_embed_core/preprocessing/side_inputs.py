"""Stage prepare: non-image inputs of a network: date, place, wavelengths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from rs_embed_core.chip import Period
from rs_embed_core.errors import InvalidInput
from rs_embed_core.sample import Array
from rs_embed_core.specs.request import OptionValue


@dataclass(frozen=True)
class Scene:
    """What is known about a sample besides its pixels.

    Attributes:
        place: longitude and latitude of the centre in degrees; None where the pixels are nowhere.
        scale_m: pixel size asked of the provider, in metres.
    """

    bands: tuple[str, ...]
    frames: tuple[Period, ...]
    place: tuple[float, float] | None
    scale_m: float
    options: Mapping[str, OptionValue]

    @property
    def latlon(self) -> tuple[float, float]:
        """Latitude and longitude of the centre.

        Raises:
            InvalidInput: the pixels came without a place.
        """
        if self.place is None:
            msg = "the pixels have no place, and this model needs one."
            raise InvalidInput(msg, hint="Give UserData spatial=BBox(...) or PointBuffer(...), or crs and transform.")
        lon, lat = self.place
        return lat, lon


class SideInput(Protocol):
    """One named array that a network takes beside the image."""

    @property
    def name(self) -> str:
        """The argument's name in the network's forward."""

    def __call__(self, scene: Scene) -> Array:
        """The array, without a batch axis."""


def _by_band[N](table: Mapping[str, N], bands: tuple[str, ...], what: str) -> list[N]:
    """What a table says of each band."""
    if missing := [band for band in bands if band not in table]:
        msg = f"no {what} is known for {', '.join(missing)}."
        raise InvalidInput(msg, hint=f"Known bands are {', '.join(table)}.")
    return [table[band] for band in bands]


@dataclass(frozen=True)
class Wavelengths:
    """Central wavelengths of the bands in micrometres: float32 ``[C]``."""

    name: str
    table: tuple[tuple[str, float], ...]

    def __call__(self, scene: Scene) -> Array:
        """The wavelengths in band order.

        Raises:
            InvalidInput: a band that the table does not have.
        """
        return np.array(_by_band(dict(self.table), scene.bands, "wavelength"), np.float32)


@dataclass(frozen=True)
class BandKeys:
    """The number by which a network knows each band: int64 ``[C]``."""

    name: str
    table: tuple[tuple[str, int], ...]

    def __call__(self, scene: Scene) -> Array:
        """The keys in band order.

        Raises:
            InvalidInput: a band that the table does not have.
        """
        return np.array(_by_band(dict(self.table), scene.bands, "key"), np.int64)


@dataclass(frozen=True)
class Months:
    """Calendar month of the middle of each frame, 0..11: int64 ``[T]``; option ``month`` (1..12) forces one."""

    name: str

    def __call__(self, scene: Scene) -> Array:
        """The months in frame order."""
        forced = scene.options.get("month", 0)
        if isinstance(forced, int) and forced > 0:
            return np.full(len(scene.frames), forced - 1, np.int64)
        return np.array([frame.middle.month - 1 for frame in scene.frames], np.int64)


@dataclass(frozen=True)
class YearAndDay:
    """Year and day of the year (from 1) of the middle of each frame: float32 ``[T, 2]``."""

    name: str

    def __call__(self, scene: Scene) -> Array:
        """The dates in frame order."""
        days = [frame.middle for frame in scene.frames]
        return np.array([(day.year, day.timetuple().tm_yday) for day in days], np.float32)


@dataclass(frozen=True)
class CentreLatLon:
    """Latitude and longitude of the centre in degrees, in this order: float32 ``[2]``."""

    name: str

    def __call__(self, scene: Scene) -> Array:
        """The place."""
        return np.array(scene.latlon, np.float32)


@dataclass(frozen=True)
class CentreOnCircles:
    """Sine and cosine of the centre's latitude, then of its longitude: float32 ``[4]``."""

    name: str

    def __call__(self, scene: Scene) -> Array:
        """The place."""
        angles = np.radians(scene.latlon)
        return np.column_stack([np.sin(angles), np.cos(angles)]).ravel().astype(np.float32)


@dataclass(frozen=True)
class WeekAndHour:
    """Sine and cosine of the first frame's ISO week, of 52, then of its hour: float32 ``[4]``.

    A composite of days has no hour: it counts as midnight.
    """

    name: str

    def __call__(self, scene: Scene) -> Array:
        """The time."""
        week = scene.frames[0].middle.isocalendar().week
        angle = 2 * np.pi * week / 52
        return np.array([np.sin(angle), np.cos(angle), 0, 1], np.float32)


@dataclass(frozen=True)
class PixelSize:
    """Size of a pixel in metres, as asked of the provider: float32, a single number."""

    name: str

    def __call__(self, scene: Scene) -> Array:
        """The size."""
        return np.array(scene.scale_m, np.float32)
