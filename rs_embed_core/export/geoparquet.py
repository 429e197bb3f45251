"""Pooled embeddings as GeoParquet 1.1: one row per ROI, polygon, vector and provenance."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray
from pyproj import CRS

from rs_embed_core.degrees import degrees_of
from rs_embed_core.embedding import Embedding
from rs_embed_core.errors import InvalidInput, InvalidRequest, JSONValue
from rs_embed_core.export import stac
from rs_embed_core.geo import MAX_LATITUDE, bounds_of, to_lonlat
from rs_embed_core.specs.spatial import LONLAT, BBox, Spatial

_VERSION = "1.1.0"
_ROW_GROUP_BYTES = 128 * 2**20  # geoembeddings.org: row groups near 128 MB
_ROW_OVERHEAD = 2048  # meta, polygon and box of a row, about
_HILBERT_BITS = 24  # cells of about 2 m
_COVERING = ("xmin", "ymin", "xmax", "ymax")


def write_geoparquet(
    path: str | Path,
    embeddings: Sequence[Embedding],
    spatials: Sequence[Spatial],
    *,
    indices: Sequence[int] | None = None,
    columns: pa.Table | None = None,
) -> Path:
    """Write pooled embeddings and their ROIs, in Hilbert order.

    Columns: ``index``, ``geometry`` (WKB, EPSG:4326), ``bbox``, ``embedding`` (float32, fixed size) and
    ``meta`` (JSON). The file's metadata has ``geo`` (GeoParquet) and ``emb`` (a STAC Collection).

    Args:
        path: of the file; its folder is made.
        embeddings: of one model, asked in one way.
        spatials: their ROIs, in the same order.
        indices: where each was in the caller's list; None counts from 0.
        columns: more of them, in the same order. Where one is named ``geometry`` and has a value (WKB, EPSG:4326,
            inside the ROI's box), this stands in the place of the box; the vector is the box's all the same.

    Raises:
        InvalidInput: grids, or vectors of several models or lengths.
        InvalidRequest: lists of different lengths, or empty ones; a further column with the name of one above.
    """
    numbers = range(len(embeddings)) if indices is None else indices
    if not embeddings or not len(embeddings) == len(spatials) == len(numbers):
        msg = f"there are {len(embeddings)} embeddings, {len(spatials)} spatials and {len(numbers)} indices."
        raise InvalidRequest(msg, hint="Give the same number of each, at least one.")
    vectors = _vectors(embeddings)
    boxes = np.array([_degrees(spatial) for spatial in spatials])  # [N, 4]
    order = hilbert_order(boxes)
    table = _table([embeddings[i] for i in order], vectors[order], boxes[order], np.asarray(numbers, np.int32)[order])
    if columns is not None:
        table = _with_columns(table, columns.take(order))
    west, south, east, north = (float(v) for v in (*boxes[:, :2].min(axis=0), *boxes[:, 2:].max(axis=0)))
    extent = (west, south, east, north)
    emb = stac.collection(embeddings[0].meta, extent, vectors.shape[1])
    geo = _geo(extent, _types(table["geometry"]))
    table = table.replace_schema_metadata({"geo": json.dumps(geo), "emb": json.dumps(emb)})
    return _write(table, Path(path), dim=vectors.shape[1])


def _write(table: pa.Table, path: Path, *, dim: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Byte stream split: vectors are noise to a dictionary, but the exponents of their floats compress.
    pq.write_table(
        table,
        path,
        compression="zstd",
        row_group_size=max(1, _ROW_GROUP_BYTES // (4 * dim + _ROW_OVERHEAD)),
        use_dictionary=["meta"],
        use_byte_stream_split=["embedding.list.element"],
    )
    return path


def _vectors(embeddings: Sequence[Embedding]) -> NDArray[np.float32]:
    """All vectors ``[N, D]``."""
    shapes = {tuple(np.shape(embedding.data)) for embedding in embeddings}
    if len(shapes) != 1 or len(next(iter(shapes))) != 1:
        msg = f"the embeddings have the shapes {sorted(shapes)}."
        raise InvalidInput(msg, hint="Give pooled vectors (OutputSpec.pooled()) of one model.")
    models = {(str(e.meta.get("model")), str(e.meta.get("variant"))) for e in embeddings}
    if len(models) != 1:
        msg = f"the embeddings are of {len(models)} models: {sorted(models)}."
        raise InvalidInput(msg, hint="Write one file per model and variant.")
    return np.stack([np.asarray(embedding.data, np.float32) for embedding in embeddings])


def _degrees(spatial: Spatial) -> stac.Extent:
    """West, south, east, north of an ROI (a square in EPSG:3857 is a box in degrees)."""
    if isinstance(spatial, BBox):
        return spatial.minlon, spatial.minlat, spatial.maxlon, spatial.maxlat
    if abs(spatial.lat) > MAX_LATITUDE:  # only products in degrees have something there
        west, south, east, north = degrees_of(spatial)
        return max(west, -180.0), max(south, -90.0), min(east, 180.0), min(north, 90.0)
    bounds = bounds_of(spatial)
    return *to_lonlat(bounds.west, bounds.south), *to_lonlat(bounds.east, bounds.north)


def _table(
    embeddings: Sequence[Embedding],
    vectors: NDArray[np.float32],
    boxes: NDArray[np.float64],
    indices: NDArray[np.int32],
) -> pa.Table:
    polygons = shapely.box(*boxes.T)
    covering = pa.StructArray.from_arrays([pa.array(boxes[:, k]) for k in range(4)], names=list(_COVERING))
    flat = pa.array(np.ascontiguousarray(vectors).reshape(-1))
    return pa.table(
        {
            "index": pa.array(indices),
            "geometry": pa.array(shapely.to_wkb(polygons), pa.binary()),
            "bbox": covering,
            "embedding": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]),
            "meta": pa.array([json.dumps(embedding.meta) for embedding in embeddings], pa.string()),
        }
    )


def _with_columns(table: pa.Table, columns: pa.Table) -> pa.Table:
    """The table with more columns at its end; boxes make room for geometries.

    Raises:
        InvalidRequest: a name that the table has already, which no reader could tell apart.
    """
    for name in columns.column_names:
        if name in table.column_names and name != "geometry":
            msg = f"columns has one named {name}, and the file has its own."
            raise InvalidRequest(msg, hint=f"Call it something else: {', '.join(table.column_names)} are taken.")
        column = columns[name]
        if name == "geometry":
            own = pc.coalesce(column.cast(pa.binary()), table[name])
            table = table.set_column(table.schema.get_field_index(name), name, own)
        else:
            table = table.append_column(name, column)
    return table


def _types(geometries: pa.ChunkedArray) -> list[str]:
    """The kinds of geometry that there are, as GeoParquet names them."""
    found = shapely.from_wkb(geometries.to_pylist())
    return sorted({f"{one.geom_type}{' Z' if one.has_z else ''}" for one in found})


def _geo(extent: stac.Extent, types: Sequence[str]) -> dict[str, JSONValue]:
    """The file's ``geo`` metadata (GeoParquet 1.1)."""
    covering: dict[str, JSONValue] = {name: ["bbox", name] for name in _COVERING}
    return {
        "version": _VERSION,
        "primary_column": "geometry",
        "columns": {
            "geometry": {
                "encoding": "WKB",
                "geometry_types": list(types),
                "crs": CRS.from_user_input(LONLAT).to_json_dict(),
                "bbox": list(extent),
                "covering": {"bbox": covering},
            }
        },
    }


def hilbert_order(boxes: NDArray[np.float64]) -> NDArray[np.intp]:
    """The order of boxes ``[N, 4]`` (degrees) along a Hilbert curve over the world, by their centres."""
    side = 2**_HILBERT_BITS
    shares = ((boxes[:, :2] + boxes[:, 2:]) / 2 + (180.0, 90.0)) / (360.0, 180.0)
    cells = np.clip((shares * side).astype(np.int64), 0, side - 1)
    x, y = cells[:, 0].copy(), cells[:, 1].copy()
    distance = np.zeros(len(boxes), np.int64)
    step = side // 2
    while step:  # from the largest quadrant to the smallest; x and y are turned with the curve
        right, upper = ((x & step) > 0).astype(np.int64), ((y & step) > 0).astype(np.int64)
        distance += step * step * ((3 * right) ^ upper)
        turned, mirrored = upper == 0, (upper == 0) & (right == 1)
        x[mirrored], y[mirrored] = side - 1 - x[mirrored], side - 1 - y[mirrored]
        x[turned], y[turned] = y[turned], x[turned]
        step //= 2
    return np.argsort(distance, kind="stable")
