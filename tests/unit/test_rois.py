from __future__ import annotations

import json
from pathlib import Path

import geopandas as gpd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely

from rs_embed_core.errors import InvalidRequest
from rs_embed_core.specs.spatial import BBox, PointBuffer
from serve_app.commands.rois import read_rois, scan_places, scan_rois

TRIANGLE = shapely.Polygon([(8, 47), (9, 47), (8.5, 48)])


def _geojson(path: Path, *features: object) -> Path:
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def _feature(geometry: object, **properties: object) -> dict[str, object]:
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def test_csv_by_column_names(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("name,maxlon,minlon,minlat,maxlat\nx,9,8,47,48\n")
    assert read_rois(path) == [BBox(8, 47, 9, 48)]
    path.write_text("\ufefflon,lat,buffer_m\n-8,47,320\n9,-47,10\n", encoding="utf-8")  # as Excel writes it
    assert read_rois(path) == [PointBuffer(-8, 47, 320), PointBuffer(9, -47, 10)]


def test_geojson_geometries_and_points(tmp_path: Path) -> None:
    polygon, point = json.loads(shapely.to_geojson(TRIANGLE)), {"type": "Point", "coordinates": [8, 47]}
    path = _geojson(tmp_path / "a.geojson", _feature(polygon), _feature(point, buffer_m=320))
    assert read_rois(path) == [BBox(8, 47, 9, 48), PointBuffer(8, 47, 320)]
    path.write_text(json.dumps(polygon))
    assert read_rois(path) == [BBox(8, 47, 9, 48)]


def test_parquet_with_columns_and_with_geometries(tmp_path: Path) -> None:
    pq.write_table(pa.table({"lon": [8.0], "lat": [47.0], "buffer_m": [320]}), tmp_path / "a.parquet")
    assert read_rois(tmp_path / "a.parquet") == [PointBuffer(8, 47, 320)]
    frame = gpd.GeoDataFrame(geometry=[TRIANGLE], crs="EPSG:4326")
    frame.to_parquet(tmp_path / "b.parquet")
    assert read_rois(tmp_path / "b.parquet") == [BBox(8, 47, 9, 48)]
    frame.to_crs("EPSG:3857").to_parquet(tmp_path / "c.parquet")
    with pytest.raises(InvalidRequest, match="EPSG:4326"):
        read_rois(tmp_path / "c.parquet")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.txt", "", "no known format"),
        ("a.csv", "lon,lat,buffer_m\n", "has no ROI"),
        ("a.csv", "x,y\n1,2\n", "the columns are x, y."),
        ("a.csv", "lon,lat,buffer_m\n8,47,1\n8,north,1\n", "ROI 1: lat is 'north'"),
        ("a.csv", "lon,lat,buffer_m\n8,147,1\n", "ROI 0: lat is 147.0"),
        ("a.geojson", "{", "cannot be read"),
        ("a.geojson", "[]", "cannot be read"),
        ("a.geojson", '{"type": "FeatureCollection"}', "cannot be read"),
        ("a.geojson", '{"type": "Point", "coordinates": [8, 47]}', "without extent"),
        ("a.geojson", '{"type": "Feature", "geometry": null}', "no geometry"),
        ("a.parquet", "no parquet", "cannot be read"),
    ],
)
def test_what_is_no_list_of_rois_says_so(name: str, text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InvalidRequest) as caught:
        read_rois(path)
    assert said in str(caught.value)


def test_a_geometry_that_cannot_be_read_is_its_row_s_problem(tmp_path: Path) -> None:
    good = json.loads(shapely.to_geojson(TRIANGLE))
    ring = {"type": "Polygon", "coordinates": [[[8, 47], [9, 47]]]}
    path = _geojson(
        tmp_path / "a.geojson", _feature(good), _feature(ring), {"type": "Feature"}, _feature("x"), _feature(good)
    )
    found = scan_rois(path)
    assert [isinstance(row, BBox) for row in found] == [True, False, False, False, True]
    assert [str(row)[:6] for row in found[1:4]] == ["ROI 1:", "ROI 2:", "ROI 3:"]
    frame = gpd.GeoDataFrame(geometry=[TRIANGLE, TRIANGLE], crs="EPSG:4326")
    frame.to_parquet(tmp_path / "a.parquet")
    table = pq.read_table(tmp_path / "a.parquet")
    cut = pa.array([table["geometry"][0].as_py(), b"\x01\x03"], pa.binary())
    pq.write_table(table.set_column(0, table.schema.field(0), cut), tmp_path / "b.parquet")
    first, second = scan_rois(tmp_path / "b.parquet")
    assert first == BBox(8, 47, 9, 48)
    assert isinstance(second, InvalidRequest)
    assert second.context["index"] == 1


def test_a_parquet_file_that_is_none_of_ours_is_refused_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"longitude": [8.0, 9.0], "latitude": [47.0, 48.0]}), path)
    with pytest.raises(InvalidRequest, match=r"^the columns are longitude, latitude\. Give the columns minlon"):
        scan_rois(path)
    gpd.GeoDataFrame(geometry=[TRIANGLE], crs="EPSG:4326").to_parquet(path, geometry_encoding="geoarrow")
    with pytest.raises(InvalidRequest, match=r"^the geometries are encoded as polygon\. Write them as WKB"):
        scan_rois(path)


# --- columns that go along ---------------------------------------------------------------------------------


def test_columns_are_kept_and_the_others_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,lon,lat,buffer_m,start,crop\nä,8,47,80,2020-01-01,\nb,9,x,80,2021-01-01,rye\n")
    found = scan_places(path, ["crop", "id"])
    assert found.columns.to_pydict() == {"crop": ["", "rye"], "id": ["ä", "b"]}  # of rows that are no ROI, too
    assert found.unused == ("start",)
    with pytest.raises(InvalidRequest, match=r"no column name. The columns are id, lon"):
        scan_places(path, ["name"])


def test_properties_and_geometries_go_along(tmp_path: Path) -> None:
    polygon, point = json.loads(shapely.to_geojson(TRIANGLE)), {"type": "Point", "coordinates": [8, 47]}
    features = [_feature(polygon, id=1, size=2), _feature(point, buffer_m=80, id="b"), _feature(None)]
    found = scan_places(_geojson(tmp_path / "a.geojson", *features), ["id"])
    assert found.columns["id"].to_pylist() == ["1", "b", None]
    shapes = found.columns["geometry"].to_pylist()
    assert shapely.from_wkb(shapes[0]).equals(TRIANGLE)
    assert shapes[1:] == [None, None]
    assert found.unused == ("size",)
    frame = gpd.GeoDataFrame({"id": [7], "crop": ["rye"]}, geometry=[TRIANGLE], crs="EPSG:4326")
    frame.to_parquet(tmp_path / "b.parquet", write_covering_bbox=True)
    found = scan_places(tmp_path / "b.parquet", ["id"])
    assert found.columns["id"].to_pylist() == [7]
    assert shapely.from_wkb(found.columns["geometry"][0].as_py()).equals(TRIANGLE)
    assert found.unused == ("crop",)


def test_geojson_of_another_crs_is_refused(tmp_path: Path) -> None:
    document = {"type": "FeatureCollection", "features": [_feature(json.loads(shapely.to_geojson(TRIANGLE)))]}
    path = tmp_path / "a.geojson"
    for name, good in (("urn:ogc:def:crs:OGC:1.3:CRS84", True), ("urn:ogc:def:crs:EPSG::32632", False)):
        path.write_text(json.dumps({**document, "crs": {"type": "name", "properties": {"name": name}}}))
        if good:
            assert len(read_rois(path)) == 1
        else:
            with pytest.raises(InvalidRequest, match="32632"):
                read_rois(path)


def test_heights_are_written_as_geoparquet_has_them(tmp_path: Path) -> None:
    high = shapely.force_3d(TRIANGLE, 400)
    gpd.GeoDataFrame(geometry=[high], crs="EPSG:4326").to_parquet(tmp_path / "a.parquet")
    paths = tmp_path / "a.parquet", _geojson(tmp_path / "a.geojson", _feature(json.loads(shapely.to_geojson(high))))
    for path in paths:
        shape = scan_places(path).columns["geometry"][0].as_py()
        assert int.from_bytes(shape[1:5], "little") == 1003  # ISO's polygon with heights
        assert shapely.from_wkb(shape).equals(high)


def test_columns_have_room_for_more_than_an_array_of_32_bits(tmp_path: Path) -> None:
    """In pieces, from which rows can be taken only while all of it is less than 2 GiB."""
    frame = gpd.GeoDataFrame({"crop": ["rye", "oat"], "tag": [b"1", b"2"]}, geometry=[TRIANGLE] * 2, crs="EPSG:4326")
    frame.to_parquet(tmp_path / "a.parquet", row_group_size=1)
    (tmp_path / "a.csv").write_text("crop,lon,lat,buffer_m\nrye,8,47,80\n")
    columns = scan_places(tmp_path / "a.parquet", ["crop", "tag"]).columns
    assert {name: str(column.type) for name, column in zip(columns.column_names, columns.columns, strict=True)} == {
        "crop": "large_string",
        "tag": "large_binary",
        "geometry": "large_binary",
    }
    assert {column.num_chunks for column in columns.columns} == {1}
    assert scan_places(tmp_path / "a.csv", ["crop"]).columns["crop"].type == pa.large_string()
