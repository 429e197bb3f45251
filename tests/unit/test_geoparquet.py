from __future__ import annotations

import json
import math
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely

from rs_embed_core.embedding import Embedding
from rs_embed_core.errors import InvalidInput, InvalidRequest
from rs_embed_core.export.geoparquet import hilbert_order, write_geoparquet
from rs_embed_core.specs.spatial import BBox, PointBuffer, Spatial

_META = {
    "model": "mosaiks",
    "variant": "gaussian",
    "modality": "s2",
    "backend": "synthetic",
    "source": "COPERNICUS/S2_SR_HARMONIZED",
    "sensor": {"scale_m": 10},
    "temporal": {"mode": "range", "start": "2022-06-01", "end": "2022-09-01"},
    "frames": {"requested": 1, "used": 1, "empty": 0},
    "input_prep": {"chain": "Clip(0, 10000)"},
    "versions": {"numpy": "2"},
    "checkpoint": None,
}


def _embeddings(count: int, dim: int = 8) -> list[Embedding]:
    return [Embedding(np.full(dim, i, np.float32), {**_META, "roi": {"n": i}}) for i in range(count)]


def _places() -> list[Spatial]:
    return [PointBuffer(100, 60, 1000), BBox(-70, -30, -69.9, -29.95), PointBuffer(100.01, 60.01, 500)]


def test_geopandas_reads_polygons_vectors_and_provenance(tmp_path: Path) -> None:
    path = write_geoparquet(tmp_path / "new" / "e.parquet", _embeddings(3), _places(), indices=[4, 5, 9])
    frame = gpd.read_parquet(path).sort_values("index")
    assert frame.crs == "EPSG:4326"
    assert frame["index"].tolist() == [4, 5, 9]
    assert [vector.tolist() for vector in frame["embedding"]] == [[0.0] * 8, [1.0] * 8, [2.0] * 8]
    assert frame.geometry.iloc[1].bounds == (-70, -30, -69.9, -29.95)
    west, south, east, north = frame.geometry.iloc[0].bounds
    assert east - west == pytest.approx(math.degrees(2000 / 6378137))
    assert (south + north) / 2 == pytest.approx(60, abs=1e-4)
    assert [json.loads(text)["roi"]["n"] for text in frame["meta"]] == [0, 1, 2]


def test_the_box_column_filters_rows(tmp_path: Path) -> None:
    path = write_geoparquet(tmp_path / "e.parquet", _embeddings(3), _places())
    assert gpd.read_parquet(path, bbox=(-80, -40, -60, -20))["index"].tolist() == [1]


def test_file_metadata_follows_geoparquet_and_stac(tmp_path: Path) -> None:
    path = write_geoparquet(tmp_path / "e.parquet", _embeddings(3), _places())
    file = pq.ParquetFile(path)
    assert str(file.schema_arrow.field("embedding").type) == "fixed_size_list<element: float>[8]"
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"
    geo, emb = (json.loads(file.schema_arrow.metadata[key]) for key in (b"geo", b"emb"))
    column = geo["columns"]["geometry"]
    assert geo["version"] == "1.1.0"
    assert column["covering"]["bbox"]["xmax"] == ["bbox", "xmax"]
    assert column["crs"]["id"] == {"authority": "EPSG", "code": 4326}
    assert column["bbox"][0] == -70
    assert emb["type"] == "Collection"
    assert emb["emb:dimensions"] == 8
    assert {link["rel"] for link in emb["links"]} == {"emb:model", "emb:source-data"}
    known = {"emb:type", "emb:dimensions", "emb:chip_layout", "emb:temporal_resolution"}
    assert {key for key in emb if key.startswith("emb:")} == known
    assert emb["extent"]["temporal"]["interval"] == [["2022-06-01T00:00:00Z", "2022-09-01T00:00:00Z"]]


def test_hilbert_order_visits_quadrants_in_turn_and_walks_to_neighbours() -> None:
    corners = np.array([[-90, -45], [-90, 45], [90, 45], [90, -45]])
    assert hilbert_order(np.tile(corners, 2)).tolist() == [0, 1, 2, 3]
    side = 16
    cells = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2) + 0.5
    points = cells / side * (360, 180) - (180, 90)
    walk = cells[hilbert_order(np.tile(points, 2))]
    assert np.abs(np.diff(walk, axis=0)).sum(axis=1).tolist() == [1.0] * (side * side - 1)


def test_what_does_not_belong_in_one_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "e.parquet"
    with pytest.raises(InvalidRequest, match="3 spatials"):
        write_geoparquet(path, _embeddings(2), _places())
    with pytest.raises(InvalidRequest):
        write_geoparquet(path, [], [])
    grid = Embedding(np.zeros((2, 3, 3), np.float32), dict(_META))
    with pytest.raises(InvalidInput, match="pooled"):
        write_geoparquet(path, [grid], _places()[:1])
    mixed = [_embeddings(1)[0], Embedding(np.zeros(8, np.float32), {**_META, "model": "dofa"})]
    with pytest.raises(InvalidInput, match="2 models"):
        write_geoparquet(path, mixed, _places()[:2])
    assert not path.exists()


@pytest.mark.parametrize("name", ["index", "bbox", "embedding", "meta"])
def test_a_column_of_the_file_s_own_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidRequest, match=f"named {name}"):
        write_geoparquet(tmp_path / "e.parquet", _embeddings(3), _places(), columns=pa.table({name: [1, 2, 3]}))
    assert not (tmp_path / "e.parquet").exists()


def test_a_point_beyond_the_projection_has_its_box_in_degrees(tmp_path: Path) -> None:
    places = [PointBuffer(10, 89, 111_320), PointBuffer(170, -89.5, 111_320)]  # a degree to the north and south
    frame = gpd.read_parquet(write_geoparquet(tmp_path / "e.parquet", _embeddings(2), places)).sort_values("index")
    assert frame.geometry.iloc[0].bounds[1::2] == pytest.approx((88, 90))
    assert frame.geometry.iloc[1].bounds[1:] == pytest.approx((-90, 180, -88.5))


def test_more_columns_go_along_and_a_geometry_stands_in_place_of_its_box(tmp_path: Path) -> None:
    triangle = shapely.Polygon([(-70, -30), (-69.9, -30), (-69.95, -29.95)])
    columns = pa.table({"name": ["a", "b", "c"], "geometry": pa.array([None, triangle.wkb, None], pa.binary())})
    path = write_geoparquet(tmp_path / "e.parquet", _embeddings(3), _places(), columns=columns)
    frame = gpd.read_parquet(path).sort_values("index")
    assert frame["name"].tolist() == ["a", "b", "c"]
    assert frame.geometry.iloc[1].equals(triangle)
    assert frame.geometry.iloc[0].area > 0
    assert json.loads(pq.read_schema(path).metadata[b"geo"])["columns"]["geometry"]["geometry_types"] == ["Polygon"]
    assert gpd.read_parquet(path, bbox=(-80, -40, -60, -20))["index"].tolist() == [1]
    several = shapely.MultiPolygon([triangle])
    columns = columns.set_column(1, "geometry", pa.array([None, several.wkb, None], pa.binary()))
    write_geoparquet(path, _embeddings(3), _places(), columns=columns)
    geo = json.loads(pq.read_schema(path).metadata[b"geo"])["columns"]["geometry"]
    assert geo["geometry_types"] == ["MultiPolygon", "Polygon"]
