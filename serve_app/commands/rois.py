"""ROIs from files, here or in an object store: GeoJSON, CSV, Parquet and GeoParquet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
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
_LARGE_BYTES = 20e6
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


@dataclass(frozen=True)
class Places:
    """The rows of a file, in its order.

    Attributes:
        rows: each an ROI, or what is wrong with it (``index`` in the context).
        columns: those that were asked for; and ``geometry`` (WKB, null where there is none), where boxes stand for
            geometries.
        unused: names of the others.
    """

    rows: list[Spatial | RSEmbedError]
    columns: pa.Table
    unused: tuple[str, ...]


def scan_rois(path: str | Path) -> list[Spatial | RSEmbedError]:
    """The ROIs of a file, in its order, as ``scan_places`` finds them."""
    return scan_places(path).rows


def scan_places(path: str | Path, keep: Sequence[str] = ()) -> Places:
    """The rows of a file, and some of its columns.

    Args:
        path: of a file, or a URL such as ``gs://bucket/fields.parquet``.
        keep: names of the columns; properties of features are columns.

    Raises:
        InvalidRequest: no such file, another format, no row, or no such column.
    """
    name = PurePosixPath(str(path)).name
    read = _READERS.get(PurePosixPath(name).suffix.lower())
    if read is None:
        msg = f"{name} is of no known format."
        raise InvalidRequest(msg, hint=f"Give one of {', '.join(_READERS)}.")
    try:
        filesystem, inside = located(str(path))
        with filesystem.open_input_file(inside) as file:
            found = read(file, keep)
    except _UNREADABLE as error:
        msg = f"{path} cannot be read ({type(error).__name__}: {error})."
        raise InvalidRequest(msg, hint="See rs-embed embed --help for the formats.") from error
    if not found.rows:
        msg = f"{path} has no ROI."
        raise InvalidRequest(msg, hint="Give at least one.")
    return found


def is_large(path: str) -> bool:
    """Whether a file may take more than a moment to read: a large one, or one that is not on this machine."""
    return "://" in path or (Path(path).is_file() and Path(path).stat().st_size > _LARGE_BYTES)


type _Found = tuple[Spatial, bytes | None]
"""An ROI, and the geometry (WKB) that it is the box of."""


def _places(
    found: Iterable[_Found | RSEmbedError], names: Sequence[str], kept: Mapping[str, pa.Array | pa.ChunkedArray]
) -> Places:
    """What a reader has found; ``names`` are those of all columns."""
    both = [(row, None) if isinstance(row, RSEmbedError) else row for row in found]
    columns = {name: _joined(column) for name, column in kept.items()}
    if any(shape is not None for _, shape in both):
        columns["geometry"] = _joined(pa.array([shape for _, shape in both], pa.large_binary()))
    used = {*_BOX, *_POINT, *kept}
    return Places([row for row, _ in both], pa.table(columns), tuple(name for name in names if name not in used))


def _joined(column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """The column as one array, of texts or bytes that may be more than 2 GiB.

    Whoever takes rows of several pieces joins them each time, and cannot where they are more than that.
    """
    wide = {pa.string(): pa.large_string(), pa.binary(): pa.large_binary()}.get(column.type)
    found = column if wide is None else column.cast(wide)
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found


def _check_kept(keep: Sequence[str], names: Sequence[str]) -> None:
    if lacking := [name for name in keep if name not in names]:
        msg = f"there is no column {', '.join(lacking)}."
        raise InvalidRequest(msg, hint=f"The columns are {', '.join(names)}.")


def _check_columns(names: Sequence[str]) -> None:
    if not set(_BOX) <= set(names) and not set(_POINT) <= set(names):
        raise InvalidRequest(f"the columns are {', '.join(names)}.", hint=f"{_COLUMNS}.")


def _numbered(rows: Iterable[object], build: Callable[[object], _Found]) -> Iterator[_Found | RSEmbedError]:
    """Yield what each row is; an error says which row."""
    for index, row in enumerate(rows):
        try:
            yield build(row)
        except RSEmbedError as error:
            yield _of_row(index, error)
        except _NO_GEOMETRY as error:
            what = f"its geometry cannot be read ({type(error).__name__}: {error})."
            yield _of_row(index, InvalidRequest(what, hint="Mend it, or leave such rows out."))


def _of_row(index: int, error: RSEmbedError) -> RSEmbedError:
    error.message = f"ROI {index}: {error.message}"
    error.context["index"] = index
    return error


def _csv(file: IO[bytes], keep: Sequence[str]) -> Places:
    read = csv.DictReader(io.StringIO(file.read().decode("utf-8-sig"), newline=""))
    rows, names = list(read), tuple(read.fieldnames or ())
    if names:
        _check_columns(names)
    _check_kept(keep, names)
    kept = {name: pa.array([row[name] for row in rows], pa.string()) for name in keep}
    return _places(_numbered(rows, _of_columns), names, kept)


def _of_columns(row: object) -> _Found:
    """One row by its column names."""
    values = row if isinstance(row, Mapping) else {}
    if set(_BOX) <= set(values):
        west, south, east, north = (_number(name, values[name]) for name in _BOX)
        return BBox(west, south, east, north), None
    lon, lat, buffer_m = (_number(name, values[name]) for name in _POINT)
    return PointBuffer(lon, lat, buffer_m), None


def _number(name: str, value: object) -> float:
    try:
        return float(str(value))
    except ValueError:
        msg = f"{name} is {value!r}."
        raise InvalidRequest(msg, hint=f"{name} is a number.") from None


def _geojson(file: IO[bytes], keep: Sequence[str]) -> Places:
    document = json.loads(file.read())
    _check_named_degrees(document.get("crs"))
    features = document["features"] if document.get("type") == "FeatureCollection" else [document]
    found = [_properties(feature) for feature in features]
    names = tuple(dict.fromkeys(name for properties in found for name in properties))
    _check_kept(keep, names)
    kept = {name: _array([properties.get(name) for properties in found]) for name in keep}
    return _places(_numbered(features, _of_feature), names, kept)


def _check_named_degrees(crs: object) -> None:
    """Refuse the CRS of the older GeoJSON of 2008, unless it names what GeoJSON always has."""
    if crs is not None and not any(name in str(crs) for name in ("CRS84", "EPSG::4326", "EPSG:4326")):
        name = _properties(crs).get("name", crs)
        msg = f"the coordinates are in {name}."
        raise InvalidRequest(msg, hint="Convert them to longitude and latitude (EPSG:4326).")


def _properties(feature: object) -> Mapping[str, object]:
    found = feature.get("properties") if isinstance(feature, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _array(values: Sequence[object]) -> pa.Array:
    """An Arrow array of JSON values; where they are of several types, of their texts."""
    try:
        return pa.array(values)
    except pa.ArrowException:
        return pa.array([value if value is None or isinstance(value, str) else json.dumps(value) for value in values])


def _of_feature(feature: object) -> _Found:
    if not isinstance(feature, Mapping):
        msg = f"it is a {type(feature).__name__}."
        raise InvalidRequest(msg, hint="Give a GeoJSON feature.")
    bare = feature.get("type") != "Feature"
    found = feature if bare else feature.get("geometry")
    geometry = None if found is None else shapely.from_geojson(json.dumps(found))
    return _of_geometry(geometry, None if bare else _properties(feature).get("buffer_m"))


def _of_geometry(geometry: shapely.Geometry | None, buffer_m: object = None) -> _Found:
    """The bounding box of a geometry, or the square around a point."""
    if geometry is None or shapely.is_empty(geometry):
        raise InvalidRequest("it has no geometry.", hint="Leave such rows out.")
    if isinstance(geometry, shapely.Point):
        if buffer_m is None:
            msg = "it is a point without extent."
            raise InvalidRequest(msg, hint="Give it a property buffer_m, half the side of a square in metres.")
        return PointBuffer(geometry.x, geometry.y, _number("buffer_m", buffer_m)), None
    west, south, east, north = map(float, shapely.bounds(geometry))
    return BBox(west, south, east, north), shapely.to_wkb(geometry, flavor="iso")  # as GeoParquet has heights


def _parquet(file: IO[bytes], keep: Sequence[str]) -> Places:
    table = pq.ParquetFile(file)
    schema = table.schema_arrow
    geo = json.loads((schema.metadata or {}).get(b"geo", b"null"))
    name = None if geo is None else str(geo["primary_column"])
    names = tuple(other for other in schema.names if other not in (name, "bbox"))
    _check_kept(keep, names)
    if geo is None or name is None:
        _check_columns(names)
        wanted, build = [other for other in (*_BOX, *_POINT) if other in names], _of_columns
    else:
        _check_encoding(geo["columns"][name].get("encoding", "WKB"))
        _check_degrees(geo["columns"][name].get("crs"))
        wanted, build = [other for other in (name, "buffer_m") if other in schema.names], partial(_of_wkb, name=name)
    rows = (row for batch in table.iter_batches(columns=wanted) for row in batch.to_pylist())  # never all of them
    kept = {other: table.read(columns=[other])[other] for other in keep}
    return _places(_numbered(rows, build), names, kept)


def _check_encoding(encoding: str) -> None:
    """Refuse geometries that are no WKB: GeoParquet 1.1 knows Arrow's own kinds, too."""
    if encoding.upper() != "WKB":
        msg = f"the geometries are encoded as {encoding}."
        raise InvalidRequest(msg, hint="Write them as WKB (GeoPandas: geometry_encoding='WKB').")


def _check_degrees(crs: object) -> None:
    """Refuse coordinates that are not longitude and latitude; a GeoParquet file without a CRS has those."""
    found = crs.get("id", {}) if isinstance(crs, Mapping) else {}
    if isinstance(crs, Mapping) and f"{found.get('authority')}:{found.get('code')}" not in _DEGREES:
        msg = f"the geometries are in {crs.get('name')}."
        raise InvalidRequest(msg, hint="Convert them to longitude and latitude (EPSG:4326).")


def _of_wkb(row: object, name: str) -> _Found:
    values = row if isinstance(row, Mapping) else {}
    return _of_geometry(shapely.from_wkb(values[name]), values.get("buffer_m"))


_READERS: Mapping[str, Callable[[IO[bytes], Sequence[str]], Places]] = {
    ".geojson": _geojson,
    ".json": _geojson,
    ".csv": _csv,
    ".parquet": _parquet,
    ".geoparquet": _parquet,
}
