from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401 - registers the accessor
import xarray as xr
from rasterio.transform import Affine

from rs_embed_core import BBox, PointBuffer, UserData
from rs_embed_core.errors import InvalidInput, InvalidRequest
from tests.unit.own_pixels import BANDS, PLACE, S2, SUMMER, TRANSFORM, assert_same, embed, pixels

# --- where the pixels are ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "scale_m"),
    [
        ({}, 10),  # the model's own
        ({"scale_m": 20}, 20),
        ({"scale_m": np.float32(20)}, 20),
        ({"crs": "EPSG:32632", "transform": TRANSFORM}, 10),
        ({"crs": "EPSG:32632", "transform": (30, 0, 0, 0, -30, 0)}, 30),
        ({"crs": "EPSG:4326", "transform": (1e-4, 0, 11, 0, -1e-4, 48)}, 11.1319),
        ({"crs": "EPSG:4326", "transform": (1e-4, 0, 11, 0, -1e-4, 48), "scale_m": 10}, 10),
        ({"spatial": PointBuffer(11, 48, 640)}, 20),
    ],
)
def test_the_pixel_size_is_in_metres(more, scale_m):
    assert embed(pixels(10), **more).meta["sensor"]["scale_m"] == pytest.approx(scale_m, rel=1e-4)


def test_crs_and_transform_are_kept_in_the_grid():
    ours = embed(pixels(10), grid=True, crs="EPSG:32632", transform=TRANSFORM)
    assert ours.data.shape == (512, 6, 8)
    assert ours.meta["transform"] == [80, 0, 600_000, 0, -80, 5_300_000]
    assert ours.data.x.to_numpy().tolist() == [600_040 + 80 * i for i in range(8)]
    assert ours.data.y.to_numpy().tolist() == [5_299_960 - 80 * i for i in range(6)]
    assert ours.data.rio.crs.to_epsg() == 32632


@pytest.mark.parametrize("kind", [lambda six: Affine(*six), np.array, list])
def test_a_transform_may_be_rasterio_s(kind):
    data = UserData(pixels(10), S2, crs="EPSG:32632", transform=kind(TRANSFORM))
    assert data.transform == TRANSFORM
    assert embed(data, grid=True).meta["transform"] == [80, 0, 600_000, 0, -80, 5_300_000]


def test_an_roi_is_spanned_by_its_pixels():
    ours = embed(pixels(10), grid=True, spatial=BBox(0, 0, 0.01, 0.01))
    west, south, east, north = ours.data.rio.bounds()
    assert (west, south) == pytest.approx((0, 0), abs=1e-6)
    assert (east, north) == pytest.approx((1113.195, 1113.195), abs=0.01)
    assert ours.meta["roi"] == BBox(0, 0, 0.01, 0.01).to_dict()


# --- xarray ------------------------------------------------------------------------------------------------


def cube(*, crs: str | None = "EPSG:32632", names: tuple[str, str, str] = ("band", "y", "x")) -> xr.DataArray:
    """The pixels with the coordinates of their centres, north up."""
    a, _, c, _, e, f = TRANSFORM
    x, y = c + a * (np.arange(64) + 0.5), f + e * (np.arange(48) + 0.5)
    out = xr.DataArray(pixels(10), dims=names, coords={names[0]: list(BANDS), names[1]: y, names[2]: x})
    return out.rio.write_crs(crs) if crs else out


def test_a_data_array_brings_its_bands_and_its_place():
    ours = embed(cube(), grid=True)
    assert_same(ours, embed(pixels(10), grid=True))
    assert ours.meta["crs"] == "EPSG:32632"
    assert ours.meta["transform"] == [80, 0, 600_000, 0, -80, 5_300_000]
    assert ours.meta["sensor"]["bands"] == list(BANDS)


@pytest.mark.parametrize(
    "turn",
    [
        lambda a: a.isel(y=slice(None, None, -1)),  # rows from the south
        lambda a: a.isel(x=slice(None, None, -1)),
        lambda a: a.isel(y=slice(None, None, -1), x=slice(None, None, -1)),
        lambda a: a.transpose("y", "x", "band"),
        lambda a: a.expand_dims("time"),
        lambda a: a.transpose("y", "x", "band").expand_dims("t", -1),
        lambda a: a.rename(band="Channel", y="Y", x="X"),
    ],
)
def test_a_data_array_may_lie_any_way(turn):
    array = cube()
    ours = embed(turn(array), grid=True)
    assert_same(ours, embed(array, grid=True))
    np.testing.assert_allclose(ours.data.x, embed(array, grid=True).data.x)
    np.testing.assert_allclose(ours.data.y, embed(array, grid=True).data.y)


def test_degrees_are_a_place_too():
    array = cube(crs=None, names=("band", "latitude", "longitude"))
    array = array.assign_coords(latitude=48 - 1e-4 * np.arange(48), longitude=11 + 1e-4 * np.arange(64))
    ours = embed(array.rio.set_spatial_dims("longitude", "latitude").rio.write_crs("EPSG:4326"), grid=True)
    assert ours.meta["crs"] == "EPSG:4326"
    assert ours.data.y.to_numpy()[0] == pytest.approx(48 - 3.5e-4)


def test_what_is_said_wins_over_what_is_found():
    given = embed(cube(), grid=True, crs="EPSG:32633", transform=TRANSFORM, bands=[f"X{i}" for i in range(10)])
    assert given.meta["crs"] == "EPSG:32633"
    assert given.meta["sensor"]["bands"][0] == "X0"
    placed = embed(cube(crs=None), grid=True, spatial=PLACE)
    assert placed.meta["crs"] == "EPSG:3857"
    assert not embed(cube(crs=None), grid=True).data.coords


@pytest.mark.parametrize("degrees", [np.float32, np.float64])
def test_coordinates_of_few_digits_place_the_pixels_all_the_same(degrees):
    step = 9e-5  # float32 at 151 degrees knows steps of 1.5e-5
    y, x = -33 - step * np.arange(48), 151 + step * np.arange(64)
    array = cube(crs="EPSG:4326").assign_coords(y=y.astype(degrees), x=x.astype(degrees))
    (west, _, _, north), transform = (x[0] - step / 2, 0, 0, y[0] + step / 2), UserData(array, S2).resolved().transform
    assert (transform[2], transform[5]) == pytest.approx((west, north), abs=step / 4)
    assert (transform[0] * 64, transform[4] * 48) == pytest.approx((step * 64, -step * 48), abs=step / 4)


@pytest.mark.parametrize("shift", [5.0, float("nan")])
def test_coordinates_that_are_uneven_are_refused(shift):
    array = cube()
    x = array.x.to_numpy().copy()
    x[30] += shift
    with pytest.raises(InvalidInput, match="x of the DataArray are not evenly spaced"):
        embed(array.assign_coords(x=x))
    assert embed(array.assign_coords(x=x).drop_vars("spatial_ref")).data.shape == (512,)  # no CRS: they say nothing


@pytest.mark.parametrize("name", ["_FillValue", "nodata"])
@pytest.mark.parametrize(("dtype", "nodata"), [("int16", -9999), ("float32", -3.4e38), ("uint8", -9999)])
def test_what_a_data_array_says_is_missing_is_missing(name, dtype, nodata):
    array = (cube() % 200).astype(dtype)
    holed = array.copy()
    there = dtype != "uint8"  # a value that it cannot hold
    if there:
        holed[:, 3, 4] = nodata
    ours = UserData(holed.assign_attrs({name: nodata}), S2).resolved().values
    assert np.isnan(ours[:, 3, 4]).all() == there
    assert np.isnan(ours).sum() == 10 * there
    assert np.array_equal(ours[:, 5], array[:, 5])


def test_a_nodata_value_in_a_list_counts_and_text_is_refused():
    array = cube().astype("int16")
    array[:, 3, 4] = -9999
    values = UserData(array.assign_attrs(_FillValue=np.array([-9999])), S2).resolved().values
    assert np.isnan(values).sum() == 10
    far = UserData(array.astype("float32").assign_attrs(_FillValue=-1.797e308), S2).resolved().values
    assert not np.isnan(far).any()
    with pytest.raises(InvalidInput, match="'none' missing, which is no number"):
        UserData(array.assign_attrs(_FillValue="none"), S2).resolved()


@pytest.mark.parametrize("dims", [("band", "x", "y"), ("band", "row", "column"), ("z", "y", "x"), ("y", "x")])
def test_dims_that_say_nothing_are_refused(dims):
    data = pixels(10) if len(dims) == 3 else pixels(10)[0]
    with pytest.raises(InvalidInput, match="y before x"):
        embed(xr.DataArray(data, dims=dims))


# --- rasters -----------------------------------------------------------------------------------------------


def raster(path: Path, data: np.ndarray, transform: tuple[float, ...] | None = TRANSFORM, **profile: object) -> Path:
    place = {} if transform is None else {"crs": "EPSG:32632", "transform": Affine(*transform)}
    count, height, width = data.shape
    shape = {"count": count, "height": height, "width": width, "dtype": data.dtype.name}
    with rasterio.open(path, "w", driver="GTiff", **shape, **place, **profile) as file:
        file.write(data)
        for index, band in enumerate(BANDS[:count], start=1):
            file.set_band_description(index, band)
    return path


def test_a_raster_brings_its_bands_and_its_place(tmp_path):
    ours = embed(UserData.from_raster(raster(tmp_path / "s2.tif", pixels(10)), S2, temporal=SUMMER), grid=True)
    expected = embed(cube(), grid=True, temporal=SUMMER)
    assert_same(ours, expected)
    xr.testing.assert_allclose(ours.data, expected.data)
    assert ours.meta["transform"] == expected.meta["transform"]
    assert ours.meta["sensor"] == expected.meta["sensor"]
    own = UserData.from_raster(tmp_path / "s2.tif", S2, bands=tuple(f"X{i}" for i in range(10)))
    assert own.bands == tuple(f"X{i}" for i in range(10))


def test_what_a_raster_says_is_missing_is_missing(tmp_path):
    data = pixels(10)
    data[:, 3, 4] = data[0, 7, 7] = 65535
    own = UserData.from_raster(raster(tmp_path / "s2.tif", data, nodata=65535), S2)
    assert np.isnan(own.data[:, 3, 4]).all()
    assert np.isnan(own.data).sum() == 11
    assert "2 of 3072 pixels" in embed(own).meta["notices"][-1]["text"]
    plain = UserData.from_raster(raster(tmp_path / "full.tif", pixels(10), nodata=65535), S2)
    assert plain.data.dtype == np.uint16  # nothing is missing, so nothing is changed


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_raster_of_no_place_or_of_a_turned_one(tmp_path):
    own = UserData.from_raster(raster(tmp_path / "plain.tif", pixels(10), transform=None), S2)
    assert (own.crs, own.transform) == (None, None)
    with pytest.raises(InvalidRequest, match="warp"):
        UserData.from_raster(raster(tmp_path / "turned.tif", pixels(10), (10, 1, 0, 1, -10, 0)), S2)


def test_a_file_that_is_no_raster_is_refused(tmp_path):
    (tmp_path / "text.tif").write_text("no raster")
    for path in (tmp_path / "none.tif", tmp_path / "text.tif"):
        with pytest.raises(InvalidInput, match=path.name) as caught:
            UserData.from_raster(path, S2)
        assert "GDAL" in caught.value.hint
