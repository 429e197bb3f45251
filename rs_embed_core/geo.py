"""Stage plan: pixel grids. ``Grid`` (crs, transform, shape), ROI -> bounds -> square -> ``Grid``.

Facts: the reference's lattice (earth_engine.md 1.1) and squaring of rectangles (1.2). All imagery lies in
EPSG:3857 (spherical Mercator, R = 6378137 m) with pixel edges on ``k * scale_m`` from the projection's origin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Self

from rs_embed_core.errors import InvalidRequest
from rs_embed_core.specs.spatial import LONLAT, RADIUS_M, PointBuffer, Spatial

if TYPE_CHECKING:
    from pyproj import CRS, Transformer

WEB_MERCATOR = "EPSG:3857"
MAX_LATITUDE = 85.05112878  # where the Mercator square ends
_ROUNDED = 1e-5  # the end as others write it: 85.05113
_LATTICE_EPS = 1e-9
_SQUARE_TOLERANCE = 1e-4
FULL_INSET = (0.0, 1.0, 0.0, 1.0)

type Inset = tuple[float, float, float, float]
"""An ROI inside its square fetch: fractions (y0, y1, x0, x1) of height and width, y from north."""


def to_mercator(lon: float, lat: float) -> tuple[float, float]:
    """EPSG:3857 metres of a point in degrees; latitude is clamped to +-85.05112878."""
    clamped = max(-MAX_LATITUDE, min(MAX_LATITUDE, lat))
    y = RADIUS_M * math.log(math.tan(math.pi / 4 + math.radians(clamped) / 2))
    return RADIUS_M * math.radians(lon), y


def to_lonlat(x: float, y: float) -> tuple[float, float]:
    """Degrees of a point in EPSG:3857 metres."""
    return math.degrees(x / RADIUS_M), math.degrees(2 * math.atan(math.exp(y / RADIUS_M)) - math.pi / 2)


@dataclass(frozen=True)
class Bounds:
    """A rectangle in EPSG:3857 metres."""

    west: float
    south: float
    east: float
    north: float

    @property
    def width(self) -> float:
        """East minus west, in Mercator metres."""
        return self.east - self.west

    @property
    def height(self) -> float:
        """North minus south, in Mercator metres."""
        return self.north - self.south

    @property
    def centre(self) -> tuple[float, float]:
        """Longitude and latitude of the centre, degrees."""
        return to_lonlat((self.west + self.east) / 2, (self.south + self.north) / 2)


def bounds_of(spatial: Spatial) -> Bounds:
    """The ROI in EPSG:3857.

    Raises:
        InvalidRequest: a point or a part of a box beyond +-85.05 degrees, where the projection ends; or a box so thin
            that its sides fall together there.
    """
    if isinstance(spatial, PointBuffer):
        _check_latitudes(spatial.lat)
        x, y = to_mercator(spatial.lon, spatial.lat)
        r = spatial.buffer_m
        return Bounds(x - r, y - r, x + r, y + r)
    _check_latitudes(spatial.minlat, spatial.maxlat)
    west, south = to_mercator(spatial.minlon, spatial.minlat)
    east, north = to_mercator(spatial.maxlon, spatial.maxlat)
    if east <= west or north <= south:
        msg = f"the box {spatial.minlon}, {spatial.minlat}, {spatial.maxlon}, {spatial.maxlat} has no extent in metres."
        raise InvalidRequest(
            msg, hint="Its sides are less than a nanometre apart: give a box of some width and height."
        )
    return Bounds(west, south, east, north)


def _check_latitudes(*latitudes: float) -> None:
    """Refuse what the projection does not have: clamped, it would be another place."""
    if beyond := [latitude for latitude in latitudes if abs(latitude) > MAX_LATITUDE + _ROUNDED]:
        msg = f"latitude {beyond[0]} lies beyond +-{MAX_LATITUDE}."
        raise InvalidRequest(msg, hint="Imagery is read in EPSG:3857, which ends at 85.05 degrees: end there.")


def square(spatial: Spatial) -> tuple[Bounds, Inset]:
    """The centred square that is fetched for an ROI, and the ROI's inset in it.

    A ``PointBuffer``, and a box whose sides differ by at most 1e-4, stays as it is. If the square would leave
    valid longitudes or latitudes the ROI's own rectangle is used, as in the reference.
    """
    bounds = bounds_of(spatial)
    width, height = bounds.width, bounds.height
    side = max(width, height)
    if isinstance(spatial, PointBuffer) or abs(width - height) <= _SQUARE_TOLERANCE * side:
        return bounds, FULL_INSET
    dx, dy = (side - width) / 2, (side - height) / 2
    grown = Bounds(bounds.west - dx, bounds.south - dy, bounds.east + dx, bounds.north + dy)
    limit = math.pi * RADIUS_M
    if max(abs(grown.west), abs(grown.east)) > limit or max(abs(grown.south), abs(grown.north)) > limit:
        return bounds, FULL_INSET
    return grown, (*_fractions(height / side), *_fractions(width / side))


def _fractions(share: float) -> tuple[float, float]:
    """Where a centred part begins and ends, six decimals; a part too thin for those keeps the last of them."""
    start = (1 - share) / 2
    first = round(start, 6)
    return first, max(round(start + share, 6), round(first + 1e-6, 6))


@dataclass(frozen=True)
class Grid:
    """Pixels on the ground: ``x = a*col + b*row + c``, ``y = d*col + e*row + f`` of pixel corners; row 0 north.

    ``transform`` is (a, b, c, d, e, f) in units of ``crs``, as in rasterio's ``Affine``.
    """

    crs: str
    transform: tuple[float, float, float, float, float, float]
    height: int
    width: int

    @classmethod
    def on_lattice(cls, bounds: Bounds, scale_m: float) -> Self:
        """The pixels of the EPSG:3857 lattice ``k * scale_m`` that cover ``bounds`` (at least one)."""
        s, eps = scale_m, _LATTICE_EPS
        col0, col1 = math.floor(bounds.west / s + eps), math.ceil(bounds.east / s - eps)
        row0, row1 = math.floor(-bounds.north / s + eps), math.ceil(-bounds.south / s - eps)
        transform = (s, 0.0, col0 * s, 0.0, -s, -row0 * s)
        return cls(WEB_MERCATOR, transform, max(1, row1 - row0), max(1, col1 - col0))

    @classmethod
    def spanning(cls, bounds: Bounds, height: int, width: int) -> Self:
        """``height`` x ``width`` equal pixels spanning ``bounds`` exactly (imagery that brings its own shape)."""
        dx, dy = bounds.width / width, bounds.height / height
        return cls(WEB_MERCATOR, (dx, 0.0, bounds.west, 0.0, -dy, bounds.north), height, width)

    def crop(self, row0: float, row1: float, col0: float, col1: float) -> Grid:
        """The same pixels between fractional rows and columns; the shape is rounded."""
        a, b, c, d, e, f = self.transform
        origin = (c + a * col0 + b * row0, f + d * col0 + e * row0)
        height, width = max(1, round(row1 - row0)), max(1, round(col1 - col0))
        return replace(self, transform=(a, b, origin[0], d, e, origin[1]), height=height, width=width)

    def with_shape(self, height: int, width: int) -> Grid:
        """The same extent cut into ``height`` x ``width`` pixels."""
        return self.divided((0.0, self.height, 0.0, self.width), height, width)

    def divided(self, extent: tuple[float, float, float, float], height: int, width: int) -> Grid:
        """``height`` x ``width`` equal cells over ``extent``: fractional rows and columns (row0, row1, col0, col1)."""
        a, b, c, d, e, f = self.transform
        row0, row1, col0, col1 = extent
        sy, sx = (row1 - row0) / height, (col1 - col0) / width
        origin = (c + a * col0 + b * row0, f + d * col0 + e * row0)
        transform = (a * sx, b * sy, origin[0], d * sx, e * sy, origin[1])
        return replace(self, transform=transform, height=height, width=width)

    @property
    def centre(self) -> tuple[float, float]:
        """Longitude and latitude of the centre, degrees; the origin where there is no CRS."""
        a, b, c, d, e, f = self.transform
        column, row = self.width / 2, self.height / 2
        x, y = c + a * column + b * row, f + d * column + e * row
        if self.crs == WEB_MERCATOR:
            return to_lonlat(x, y)
        return _to_degrees(self.crs).transform(x, y) if self.crs else (0.0, 0.0)

    @property
    def is_north_up(self) -> bool:
        """Whether row 0 is north and column 0 west, with no rotation."""
        a, b, _, d, e, _ = self.transform
        return a > 0 > e and b == d == 0

    @property
    def pixel_m(self) -> float:
        """Width of a pixel in metres of the projection; degrees count as at the equator, as in EPSG:3857."""
        if not self.crs or self.crs == WEB_MERCATOR:
            return self.transform[0]
        crs = projection(self.crs)
        metres = crs.axis_info[0].unit_conversion_factor * (RADIUS_M if crs.is_geographic else 1)
        return self.transform[0] * metres

    @property
    def centres(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """X of the column centres and y of the row centres (north-up grids only), in units of ``crs``."""
        a, _, c, _, e, f = self.transform
        xs = tuple(c + a * (i + 0.5) for i in range(self.width))
        return xs, tuple(f + e * (i + 0.5) for i in range(self.height))


@lru_cache(maxsize=64)
def projection(crs: str) -> CRS:
    """The coordinate reference system of a name (``EPSG:32632``) or WKT.

    Raises:
        InvalidRequest: PROJ does not know it.
    """
    from pyproj import CRS  # noqa: PLC0415 - slow to import, and only grids need it
    from pyproj.exceptions import CRSError  # noqa: PLC0415 - loaded with it

    try:
        return CRS.from_user_input(crs)
    except CRSError as error:
        msg = f"crs {crs!r} is not known."
        raise InvalidRequest(msg, hint='Give a name such as "EPSG:32632", or WKT.') from error


@lru_cache(maxsize=64)
def _to_degrees(crs: str) -> Transformer:
    from pyproj import Transformer  # noqa: PLC0415 - slow to import, and only the caller's own grids need it

    return Transformer.from_crs(projection(crs), LONLAT, always_xy=True)
