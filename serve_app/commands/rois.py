"""ROIs from files, here or in an object store: GeoJSON, CSV, Parquet and GeoParquet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq
import shapely

from rs_embed_core.errors import InvalidRequest, RSEmbedError
from rs_embed_core.specs.spatial import LONLAT, BBox, PointBuffer, Spatial
from serve_app.export.store import located

_BOX = ("minlon", "minlat", "maxlon", "maxlat")
_POINT = ("lon", "lat", "buffer_m")
_COLUMNS = f"Give the columns {', '.join(_BOX)}, or {', '.join(_POINT)}"
_WRONG_SHAPE = (ValueError, KeyError, TypeError, AttributeError)  # JSON that is not GeoJSON
_NO_GEOMETRY = (*_WRONG_SHAPE, shapely.errors.ShapelyError)
_UNREADABLE = (*_WRONG_SHAPE, OSError, csv.Error, pa.ArrowException, shapely.errors.ShapelyError)
_DEGREES = (LONLAT, "OGC:CRS84")


def read_rois(path: str | Path) -> list[Spatial]:
    """The ROIs of a file, in its order.

    A geometry stands for its bounding box; a GeoJSON point needs the property ``buffer_m``.

    Raises:
        InvalidRequest: no such file, another format, or a row that is no ROI (``index`` in the context).
    """
    rois: list[Spatial] = []
    for row in scan_rois(path):
        if isinstance(row, RSEmbedError):
            raise row
        rois.append(row)
    return rois


def scan_rois(path: str | Path) -> list[Spatial | RSEmbedError]:
    """The rows of a file, in its order: each an ROI, or what is wrong with it (``index`` in the context).

    Args:
        path: of a file, or a URL such as ``gs://bucket/fields.parquet``.

    Raises:
        InvalidRequest: no such file, another format, or no row.
    """
    name = PurePosixPath(str(path)).name
    read = _READERS.get(PurePosixPath(name).suffix.lower())
    if read is None:
        msg = f"{name} is of no known format."
        raise InvalidRequest(msg, hint=f"Give one of {', '.join(_READERS)}.")
    try:
        filesystem, inside = located(str(path))
        with filesystem.open_input_file(inside) as file:
            rows = list(read(file))
    except _UNREADABLE as error:
        msg = f"{path} cannot be read: {error}"
        raise InvalidRequest(msg, hint="See rs-embed embed --help for the formats.") from error
    if not rows:
        msg = f"{path} has no ROI."
        raise InvalidRequest(msg, hint="Give at least one.")
    return rows


type _Rows = Iterator[Spatial | RSEmbedError]


def _numbered(rows: Iterable[object], build: Callable[[object], Spatial]) -> _Rows:
    """Yield what each row is; an error says which row."""
    for index, row in enumerate(rows):
        try:
            yield build(row)
        except RSEmbedError as error:
            yield _of_row(index, error)
        except _NO_GEOMETRY as error:
            what = f"its geometry cannot be read: {type(error).__name__}: {error}"
            yield _of_row(index, InvalidRequest(what, hint="Mend it, or leave such rows out."))


def _of_row(index: int, error: RSEmbedError) -> RSEmbedError:
    error.message = f"ROI {index}: {error.message}"
    error.context["index"] = index
    return error


def _csv(file: IO[bytes]) -> _Rows:
    text = io.StringIO(file.read().decode("utf-8-sig"), newline="")
    yield from _numbered(csv.DictReader(text), _of_columns)


def _of_columns(row: object) -> Spatial:
    """One row by its column names."""
    values = row if isinstance(row, Mapping) else {}
    if set(_BOX) <= set(values):
        west, south, east, north = (_number(name, values[name]) for name in _BOX)
        return BBox(west, south, east, north)
    if set(_POINT) <= set(values):
        lon, lat, buffer_m = (_number(name, values[name]) for name in _POINT)
        return PointBuffer(lon, lat, buffer_m)
    msg = f"the columns are {', '.join(map(str, values))}."
    raise InvalidRequest(msg, hint=f"{_COLUMNS}.")


def _number(name: str, value: object) -> float:
    try:
        return float(str(value))
    except ValueError:
        msg = f"{name} is {value!r}."
        raise InvalidRequest(msg, hint=f"{name} is a number.") from None


def _geojson(file: IO[bytes]) -> _Rows:
    document = json.loads(file.read())
    features = document["features"] if document.get("type") == "FeatureCollection" else [document]
    yield from _numbered(features, _of_feature)


def _of_feature(feature: object) -> Spatial:
    if not isinstance(feature, Mapping):
        msg = f"it is a {type(feature).__name__}."
        raise InvalidRequest(msg, hint="Give a GeoJSON feature.")
    bare = feature.get("type") != "Feature"
    found = feature if bare else feature.get("geometry")
    geometry = None if found is None else shapely.from_geojson(json.dumps(found))
    properties = {} if bare else feature.get("properties") or {}
    return _of_geometry(geometry, properties.get("buffer_m"))


def _of_geometry(geometry: shapely.Geometry | None, buffer_m: object = None) -> Spatial:
    """The bounding box of a geometry, or the square around a point."""
    if geometry is None or shapely.is_empty(geometry):
        raise InvalidRequest("it has no geometry.", hint="Leave such rows out.")
    if isinstance(geometry, shapely.Point):
        if buffer_m is None:
            msg = "it is a point without extent."
            raise InvalidRequest(msg, hint="Give it a property buffer_m, half the side of a square in metres.")
        return PointBuffer(geometry.x, geometry.y, _number("buffer_m", buffer_m))
    west, south, east, north = map(float, shapely.bounds(geometry))
    return BBox(west, south, east, north)


def _parquet(file: IO[bytes]) -> _Rows:
    table = pq.ParquetFile(file)
    schema = table.schema_arrow
    geo = json.loads((schema.metadata or {}).get(b"geo", b"null"))
    if geo is None:
        wanted = [name for name in (*_BOX, *_POINT) if name in schema.names]
        yield from _numbered(table.read(columns=wanted).to_pylist(), _of_columns)
        return
    name = geo["primary_column"]
    _check_degrees(geo["columns"][name].get("crs"))
    wanted = [column for column in (name, "buffer_m") if column in schema.names]
    rows = table.read(columns=wanted).to_pylist()
    yield from _numbered(rows, lambda row: _of_wkb(row, name))


def _check_degrees(crs: object) -> None:
    """Refuse coordinates that are not longitude and latitude; a GeoParquet file without a CRS has those."""
    found = crs.get("id", {}) if isinstance(crs, Mapping) else {}
    if isinstance(crs, Mapping) and f"{found.get('authority')}:{found.get('code')}" not in _DEGREES:
        msg = f"the geometries are in {crs.get('name')}."
        raise InvalidRequest(msg, hint="Convert them to longitude and latitude (EPSG:4326).")


def _of_wkb(row: object, name: str) -> Spatial:
    values = row if isinstance(row, Mapping) else {}
    return _of_geometry(shapely.from_wkb(values[name]), values.get("buffer_m"))


_READERS: Mapping[str, Callable[[IO[bytes]], _Rows]] = {
    ".geojson": _geojson,
    ".json": _geojson,
    ".csv": _csv,
    ".parquet": _parquet,
    ".geoparquet": _parquet,
}
