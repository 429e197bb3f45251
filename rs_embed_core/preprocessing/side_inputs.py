"""Stage prepare: non-image inputs of a network: date, place, wavelengths."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from rs_embed_core.chip import Period
from rs_embed_core.errors import InvalidInput
from rs_embed_core.sample import Array
from rs_embed_core.specs.request import OptionValue

_UNIX_DAY = dt.date(1970, 1, 1)
_NANOMETRES = re.compile(r"([1-9]\d*(?:\.\d+)?)nm")


@dataclass(frozen=True)
class Scene:
    """What is known about a sample besides its pixels.

    Attributes:
        place: longitude and latitude of the centre in degrees; None where the pixels are nowhere.
        scale_m: pixel size asked of the provider, in metres.
        asked: how many frames were asked of the provider; those without imagery may have been left out since.
    """

    bands: tuple[str, ...]
    frames: tuple[Period, ...]
    place: tuple[float, float] | None
    scale_m: float
    options: Mapping[str, OptionValue]
    asked: int = 1

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
    """Central wavelengths of the bands, or another number of the kind, in the table's unit: float32 ``[C]``.

    Attributes:
        what: the kind of number, for messages.
        nanometres: the unit; a band that is not in the table may be called by its wavelength, as ``665nm``.
    """

    name: str
    table: tuple[tuple[str, float], ...]
    what: str = "wavelength"
    nanometres: bool = False

    def __call__(self, scene: Scene) -> Array:
        """The wavelengths in band order.

        Raises:
            InvalidInput: a band that the table does not have.
        """
        return self.of(scene.bands)

    def of(self, bands: tuple[str, ...]) -> Array:
        """The wavelengths of some bands.

        Raises:
            InvalidInput: a band that the table does not have.
        """
        table = dict(self.table)
        if self.nanometres:
            spelled = {band: _NANOMETRES.fullmatch(band) for band in bands if band not in table}
            table |= {band: float(match[1]) for band, match in spelled.items() if match}
        return np.array(_by_band(table, bands, self.what), np.float32)


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
class Timestamps:
    """Day (from 1), month (from 0) and year of each frame: int64 ``[T, 3]``.

    Those of its start in a series (``temporal_mode`` multi, or several frames were asked for), else of its middle.
    """

    name: str

    def __call__(self, scene: Scene) -> Array:
        """The dates in frame order."""
        series = scene.options.get("temporal_mode") == "multi" or max(scene.asked, len(scene.frames)) > 1
        days = [frame.start if series else frame.middle for frame in scene.frames]
        return np.array([(day.day, day.month - 1, day.year) for day in days], np.int64)


@dataclass(frozen=True)
class YearAndDay:
    """Year and day of the year (from 1) of the middle of each frame: float32 ``[T, 2]``."""

    name: str

    def __call__(self, scene: Scene) -> Array:
        """The dates in frame order."""
        days = [frame.middle for frame in scene.frames]
        return np.array([(day.year, day.timetuple().tm_yday) for day in days], np.float32)


@dataclass(frozen=True)
class DayOfYear:
    """Day of the year of the middle of each frame, from 0: int64 ``[T]``; the last of a leap year counts as 364."""

    name: str

    def __call__(self, scene: Scene) -> Array:
        """The days in frame order."""
        return np.array([min(frame.middle.timetuple().tm_yday, 365) - 1 for frame in scene.frames], np.int64)


@dataclass(frozen=True)
class CentreLatLon:
    """Latitude and longitude of the centre in degrees, in this order: float32 ``[2]``."""

    name: str

    def __call__(self, scene: Scene) -> Array:
        """The place."""
        return np.array(scene.latlon, np.float32)


@dataclass(frozen=True)
class CentreLonLat:
    """Longitude and latitude of the centre in degrees: float32 ``[2]``; NaN where the pixels are nowhere."""

    name: str

    def __call__(self, scene: Scene) -> Array:
        """The place."""
        return np.array(scene.place or (np.nan, np.nan), np.float32)


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
class DayNumber:
    """Days from 1970-01-01 to the middle of the first frame: float32, a single number."""

    name: str

    def __call__(self, scene: Scene) -> Array:
        """The day."""
        return np.array((scene.frames[0].middle - _UNIX_DAY).days, np.float32)


@dataclass(frozen=True)
class PatchArea:
    """Area of one patch in km2 at the pixel size that was asked of the provider: float32, a single number.

    Attributes:
        option: the option that holds the side of a patch in pixels.
    """

    name: str
    option: str

    def __call__(self, scene: Scene) -> Array:
        """The area."""
        side_km = float(scene.options[self.option]) * scene.scale_m / 1000
        return np.array(side_km**2, np.float32)


@dataclass(frozen=True)
class PixelSize:
    """Size of a pixel in metres, as asked of the provider: float32, a single number."""

    name: str

    def __call__(self, scene: Scene) -> Array:
        """The size."""
        return np.array(scene.scale_m, np.float32)


@dataclass(frozen=True)
class PixelOffsets:
    """Where the pixels of a patch lie along its side, in metres from the first: float32 ``[p]``.

    A patch is as long as a pixel that was asked of the provider. The length of the array is how the network learns
    that a patch has p pixels, and why samples of another scale are in another batch.

    Attributes:
        pixel_m: size of a pixel after resizing, whatever the provider's is.
        sides: the p that the network takes; the one nearest to the pixel asked for is taken.
    """

    name: str
    pixel_m: float
    sides: tuple[int, ...]

    def __call__(self, scene: Scene) -> Array:
        """The offsets."""
        side = min(self.sides, key=lambda pixels: abs(pixels * self.pixel_m - scene.scale_m))
        return np.arange(side, dtype=np.float32) * np.float32(self.pixel_m)
