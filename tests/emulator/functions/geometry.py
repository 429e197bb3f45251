"""Regions, dates and projections. A region is a shapely geometry in degrees."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import shapely
from pyproj import Transformer

from tests.emulator.evaluate import Function
from tests.emulator.images import Lattice
from tests.emulator.limits import Refused
from tests.emulator.pixels import LONLAT
from tests.emulator.scenes import milliseconds

_EQUATOR_M_PER_DEGREE = 111_319.49079327358  # 6378137 * pi / 180


@dataclass(frozen=True)
class DateRange:
    """Milliseconds since 1970, end-exclusive."""

    start: int
    stop: int


def date(value: str | float, timeZone: str | None = None) -> int:
    """Milliseconds since 1970 of an ISO date or a number."""
    if isinstance(value, int | float):
        return int(value)
    try:
        return milliseconds(dt.datetime.fromisoformat(value))
    except ValueError as error:
        raise Refused(f"Date: Invalid date '{value}'.") from error


def date_range(start: str | float, end: str | float | None = None, timeZone: str | None = None) -> DateRange:
    """From start to end; one millisecond without an end."""
    first = date(start)
    last = first + 1 if end is None else date(end)
    if last <= first:
        raise Refused("DateRange: Empty date range specified for filterDate: start must be before end.")
    return DateRange(first, last)


def projection(crs: str, transform: Sequence[float] | None = None, transformWkt: str | None = None) -> Lattice:
    """A named projection; its pixels are one unit large where no transform says otherwise."""
    a, b, c, d, e, f = transform or (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    return Lattice(crs, (a, b, c, d, e, f))


def at_scale(projection: Lattice, meters: float) -> Lattice:
    """The projection with pixels of so many metres; rows go south to north, as the service's do."""
    size = meters / _EQUATOR_M_PER_DEGREE if projection.crs == LONLAT else float(meters)
    return Lattice(projection.crs, (size, 0.0, 0.0, 0.0, size, 0.0))


def rectangle(
    coordinates: Sequence[float] | Sequence[Sequence[float]],
    crs: Lattice | str | None = None,
    geodesic: bool = False,
    evenOdd: bool = True,
) -> shapely.Geometry:
    """A rectangle from (west, south, east, north) or two corners."""
    flat = [float(v) for item in coordinates for v in (item if isinstance(item, Sequence) else (item,))]
    west, south, east, north = flat
    return _in_degrees(shapely.box(west, south, east, north), crs)


def bbox(west: float, south: float, east: float, north: float) -> shapely.Geometry:
    """A rectangle in degrees."""
    return shapely.box(west, south, east, north)


def point(coordinates: Sequence[float], crs: Lattice | str | None = None) -> shapely.Geometry:
    """A point."""
    return _in_degrees(shapely.Point(*coordinates[:2]), crs)


def polygon(
    coordinates: Sequence[Sequence[Sequence[float]]],
    crs: Lattice | str | None = None,
    geodesic: bool = False,
    maxError: object = None,
    evenOdd: bool = True,
) -> shapely.Geometry:
    """A polygon from its rings."""
    shell, *holes = coordinates
    return _in_degrees(shapely.Polygon(shell, holes), crs)


def _in_degrees(shape: shapely.Geometry, crs: Lattice | str | None) -> shapely.Geometry:
    name = crs.crs if isinstance(crs, Lattice) else crs
    if name in {None, LONLAT}:
        return shape
    return shapely.transform(shape, Transformer.from_crs(name, LONLAT, always_xy=True).transform, interleaved=False)


def feature(geometry: shapely.Geometry, metadata: Mapping[str, object] | None = None) -> shapely.Geometry:
    """A feature stands for its geometry: filters ask for no more."""
    return geometry


FUNCTIONS: Mapping[str, Function] = {
    "Date": date,
    "DateRange": date_range,
    "Feature": feature,
    "GeometryConstructors.BBox": bbox,
    "GeometryConstructors.Point": point,
    "GeometryConstructors.Polygon": polygon,
    "GeometryConstructors.Rectangle": rectangle,
    "Projection": projection,
    "Projection.atScale": at_scale,
}
