"""Where: ``BBox`` and ``PointBuffer``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from rs_embed_core.errors import InvalidRequest, JSONValue
from rs_embed_core.specs.plain import make_plain

LONLAT = "EPSG:4326"
RADIUS_M = 6378137.0  # of the sphere of EPSG:3857
_LON_LIMIT, _LAT_LIMIT = 180.0, 90.0
_LARGEST = 1e300
_HALF_WORLD_M = math.pi * RADIUS_M


def _check_crs(crs: object) -> None:
    if not isinstance(crs, str) or crs.upper() != LONLAT:
        msg = f"crs {crs!r} is not supported for an ROI."
        raise InvalidRequest(msg, hint=f"Give longitude and latitude in {LONLAT}.", context={"crs": str(crs)})


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        msg = f"{name} is {value!r}, not a number."
        raise InvalidRequest(msg, hint=f"{name} must be a finite number.")
    if not abs(value) < _LARGEST:  # NaN is not below it either; a long integer would overflow float()
        msg = f"{name} is {value if isinstance(value, float) else 'too large'}."
        raise InvalidRequest(msg, hint=f"{name} must be a finite number.")
    return float(value)


def _check_lonlat(lon_name: str, lon: object, lat_name: str, lat: object) -> None:
    longitude, latitude = _number(lon_name, lon), _number(lat_name, lat)
    if abs(longitude) > _LON_LIMIT:
        msg = f"{lon_name} is {lon!r}, outside [-180, 180]."
        raise InvalidRequest(msg, hint="Longitudes are degrees east between -180 and 180.")
    if abs(latitude) > _LAT_LIMIT:
        swapped = " Latitude and longitude look swapped." if abs(longitude) <= _LAT_LIMIT else ""
        msg = f"{lat_name} is {lat!r}, outside [-90, 90]."
        raise InvalidRequest(msg, hint=f"Latitudes are degrees north between -90 and 90.{swapped}")


@dataclass(frozen=True)
class BBox:
    """A box in longitude and latitude (degrees), west < east and south < north.

    Raises:
        InvalidRequest: not finite, out of range, reversed, empty, or across the antimeridian.
    """

    minlon: float
    minlat: float
    maxlon: float
    maxlat: float
    crs: str = LONLAT

    def __post_init__(self) -> None:
        make_plain(self)
        _check_crs(self.crs)
        _check_lonlat("minlon", self.minlon, "minlat", self.minlat)
        _check_lonlat("maxlon", self.maxlon, "maxlat", self.maxlat)
        if self.minlon >= self.maxlon:
            msg = f"minlon {self.minlon} is not west of maxlon {self.maxlon}."
            hint = (
                "Swap them; or, if the ROI crosses the antimeridian, ask for its two halves: one box ending at "
                "180 and one starting at -180."
            )
            raise InvalidRequest(msg, hint=hint)
        if self.minlat >= self.maxlat:
            msg = f"minlat {self.minlat} is not south of maxlat {self.maxlat}."
            raise InvalidRequest(msg, hint="Swap them; a box needs some height.")

    def validate(self) -> None:
        """Do nothing: a spec is checked when it is built (kept for callers of rs-embed)."""

    def to_dict(self) -> dict[str, JSONValue]:
        """The JSON form; ``spatial_from_dict`` reads it back."""
        return dict(asdict(self))


@dataclass(frozen=True)
class PointBuffer:
    """The square of half side ``buffer_m`` (EPSG:3857 metres) around a point in degrees.

    Raises:
        InvalidRequest: not finite, out of range, no extent, or across the antimeridian.
    """

    lon: float
    lat: float
    buffer_m: float
    crs: str = LONLAT

    def __post_init__(self) -> None:
        make_plain(self)
        _check_crs(self.crs)
        _check_lonlat("lon", self.lon, "lat", self.lat)
        if _number("buffer_m", self.buffer_m) <= 0:
            msg = f"buffer_m is {self.buffer_m}."
            raise InvalidRequest(msg, hint="buffer_m is half the side of the square in metres: above 0.")
        if abs(math.radians(self.lon)) * RADIUS_M + self.buffer_m > _HALF_WORLD_M:
            msg = f"{self.buffer_m} m around longitude {self.lon} cross the antimeridian."
            raise InvalidRequest(msg, hint="Ask for a BBox on each side of longitude 180 instead.")

    def validate(self) -> None:
        """Do nothing: a spec is checked when it is built (kept for callers of rs-embed)."""

    def to_dict(self) -> dict[str, JSONValue]:
        """The JSON form; ``spatial_from_dict`` reads it back."""
        return dict(asdict(self))


type Spatial = BBox | PointBuffer

_BBOX_KEYS = frozenset({"minlon", "minlat", "maxlon", "maxlat"})
_POINT_KEYS = frozenset({"lon", "lat", "buffer_m"})


def spatial_from_dict(value: object) -> Spatial:
    """The spec that a JSON object describes, told apart by its keys.

    Raises:
        InvalidRequest: not an object, or neither of the two key sets.
    """
    if isinstance(value, BBox | PointBuffer):
        return value
    if not isinstance(value, Mapping):
        msg = f"an ROI is {type(value).__name__}, not an object."
        raise InvalidRequest(msg, hint=_SHAPES)
    keys = set(value) - {"crs"}
    crs = value.get("crs", LONLAT)
    if not isinstance(crs, str):
        msg = f"crs is {crs!r}."
        raise InvalidRequest(msg, hint=f'Leave it out or say "{LONLAT}".')
    if keys == _BBOX_KEYS:
        return BBox(value["minlon"], value["minlat"], value["maxlon"], value["maxlat"], crs)
    if keys == _POINT_KEYS:
        return PointBuffer(value["lon"], value["lat"], value["buffer_m"], crs)
    msg = f"an ROI has the keys {sorted(map(str, value))}."
    raise InvalidRequest(msg, hint=_SHAPES)


_SHAPES = (
    'An ROI is {"minlon", "minlat", "maxlon", "maxlat"} or {"lon", "lat", "buffer_m"}, in degrees (EPSG:4326) '
    "and metres."
)
