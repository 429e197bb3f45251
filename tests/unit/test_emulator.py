"""The emulator holds what a separate NumPy computation says, asked through the unmodified client."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import ee
import numpy as np
import pytest

from rs_embed_core.geo import Grid, bounds_of
from rs_embed_core.specs.spatial import PointBuffer
from tests.emulator import reference, small
from tests.emulator.client import Client, client, compute_pixels
from tests.emulator.control import Emulator, emulator

FILL = -9999.0
TEN_BANDS = ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12")
BOTH_ZONES = Grid.on_lattice(bounds_of(PointBuffer(lon=small.LON, lat=small.LAT, buffer_m=1280)), 10)
EDGE = Grid.on_lattice(bounds_of(PointBuffer(lon=small.LON + 0.026, lat=small.LAT, buffer_m=900)), 10)
COARSE = Grid.on_lattice(bounds_of(PointBuffer(lon=small.LON, lat=small.LAT, buffer_m=2000)), 37)


@pytest.fixture(scope="module")
def server() -> Iterator[Emulator]:
    with emulator("small") as running:
        yield running


@pytest.fixture(scope="module")
def earth(server) -> Iterator[Client]:
    with client(server.url) as running:
        yield running


def region(grid: Grid) -> Any:
    """What a provider filters by: the grid's own rectangle."""
    a, _, west, _, e, north = grid.transform
    corners = [west, north + e * grid.height, west + a * grid.width, north]
    return ee.Geometry.Rectangle(corners, "EPSG:3857", geodesic=False)


def series(collection: str, grid: Grid, start: str, stop: str, cloudy_pct: int | None = None) -> Any:
    found = ee.ImageCollection(collection).filterBounds(region(grid)).filterDate(start, stop)
    name = "CLOUD_COVER" if "LANDSAT" in collection else "CLOUDY_PIXEL_PERCENTAGE"
    return found if cloudy_pct is None else found.filter(ee.Filter.lte(name, cloudy_pct))


def filled(image: Any) -> Any:
    return image.unmask(FILL, False).toFloat()


def median(bands, collection, grid, *window) -> Any:
    return filled(series(collection, grid, *window).select(list(bands)).median())


def mosaic(bands, collection, grid, *window) -> Any:
    return filled(series(collection, grid, *window).sort("system:time_start").select(list(bands)).mosaic())


def expected(members, bands, grid, how="median") -> np.ndarray:
    values = reference.composite(members, bands, grid, how)
    return np.where(np.isnan(values), FILL, values).astype(np.float32)


@pytest.mark.parametrize("grid", [BOTH_ZONES, EDGE, COARSE], ids=["both zones", "edge of a tile", "coarse"])
@pytest.mark.parametrize(("how", "graph"), [("median", median), ("mosaic", mosaic)])
def test_sentinel2_composites_are_bit_identical(earth, grid, how, graph):
    window = ("2022-03-01", "2022-08-01")
    got = earth.pixels(graph, grid, TEN_BANDS, small.S2, grid, *window, 30)
    want = expected(reference.scenes(small.S2, *window, cloudy_pct=30), TEN_BANDS, grid, how)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, want)
    assert (want == FILL).any() == (grid is not BOTH_ZONES)


def test_bands_of_60_m_take_the_nearest_pixel(earth):
    window = ("2022-05-01", "2022-06-01")
    got = earth.pixels(median, EDGE, ("B9", "B1"), small.S2, EDGE, *window)
    np.testing.assert_array_equal(got, expected(reference.scenes(small.S2, *window), ("B9", "B1"), EDGE))


@pytest.mark.parametrize(
    ("collection", "bands", "window"),
    [
        (small.LANDSAT, ("SR_B4", "SR_B7"), ("2022-01-01", "2023-01-01", 30)),
        (small.ANNUAL, ("A00", "A63"), ("2022-01-01", "2023-01-01")),
        (small.MODIS, ("sur_refl_b02", "sur_refl_b07"), ("2022-06-01", "2022-07-01")),
        (small.MODIS_LST, ("LST_1KM",), ("2022-06-02", "2022-06-05")),
    ],
)
def test_other_collections_are_bit_identical(earth, collection, bands, window):
    cloudy_pct = window[2] if len(window) > 2 else None
    got = earth.pixels(median, COARSE, bands, collection, COARSE, *window)
    want = expected(reference.scenes(collection, *window[:2], cloudy_pct=cloudy_pct), bands, COARSE)
    np.testing.assert_array_equal(got, want)
    assert (want != FILL).any()


def radar(collection, grid, start, stop, orbit, mode) -> Any:
    found = series(collection, grid, start, stop)
    for pol in ("VV", "VH"):
        found = found.filter(ee.Filter.listContains("transmitterReceiverPolarisation", pol))
    if orbit is not None:
        found = found.filter(ee.Filter.eq("orbitProperties_pass", orbit))
    return found if mode is None else found.filter(ee.Filter.eq("instrumentMode", mode))


def radar_median(*question) -> Any:
    return filled(radar(*question).select(["VV", "VH"]).median())


def radar_indices(*question) -> Any:
    return radar(*question).aggregate_array("system:index")


def radar_scenes(collection, start, stop, orbit, mode):
    def keep(scene) -> bool:
        own = scene.own
        return (
            len(own["transmitterReceiverPolarisation"]) == 2
            and orbit in {None, own["orbitProperties_pass"]}
            and mode in {None, own["instrumentMode"]}
        )

    return reference.scenes(collection, start, stop, keep=keep)


@pytest.mark.parametrize("collection", [small.S1_LINEAR, small.S1_DB])
@pytest.mark.parametrize("orbit", [None, "ASCENDING", "DESCENDING"])
def test_sentinel1_by_orbit_is_bit_identical(earth, collection, orbit):
    window = ("2022-01-01", "2022-04-01")
    members = radar_scenes(collection, *window, orbit, "IW")
    got = earth.pixels(radar_median, BOTH_ZONES, collection, BOTH_ZONES, *window, orbit, "IW")
    np.testing.assert_array_equal(got, expected(members, ("VV", "VH"), BOTH_ZONES))
    assert len(members) == {None: 8, "ASCENDING": 4, "DESCENDING": 4}[orbit]


def test_a_month_may_have_other_radar_modes_only(earth):
    question = (small.S1_LINEAR, BOTH_ZONES, "2022-04-01", "2022-05-01", None)
    assert earth.value(radar_indices, *question, "IW") == []
    assert len(earth.value(radar_indices, *question, None)) == 3


def frames(bands, grid, windows) -> Any:
    """A whole series in one image: an empty bin is defined by a masked image with the right bands."""
    nothing = ee.Image.constant([0] * len(bands)).rename(list(bands)).updateMask(0)
    bins = [
        series(small.S2, grid, *window, 30).select(list(bands)).merge(ee.ImageCollection([nothing])).median()
        for window in windows
    ]
    return filled(ee.ImageCollection(bins).toBands())


def test_a_series_with_an_empty_month_comes_in_one_request(earth, server):
    windows = [(f"2022-{month:02d}-01", f"2022-{month + 1:02d}-01") for month in (6, 7, 8, 9)]
    server.reset()
    structured = earth.call(compute_pixels, frames, BOTH_ZONES, ("B2", "B11"), BOTH_ZONES, windows)
    assert structured.dtype.names == tuple(f"{i}_{band}" for i in range(4) for band in ("B2", "B11"))
    for i, window in enumerate(windows):
        want = expected(reference.scenes(small.S2, *window, cloudy_pct=30), ("B2", "B11"), BOTH_ZONES)
        np.testing.assert_array_equal(np.stack([structured[f"{i}_B2"], structured[f"{i}_B11"]]), want)
    assert (structured["2_B2"] == FILL).all()
    assert server.counters()["requests"] == {"pixels": 1, "value": 0, "discovery": 0, "algorithms": 0, "asset": 0}


def listing(grid, windows) -> Any:
    found = [series(small.S2, grid, *window, 30) for window in windows]
    keys = ("system:index", "system:time_start", "CLOUDY_PIXEL_PERCENTAGE")
    return ee.List([[*(item.aggregate_array(key) for key in keys), item.size()] for item in found])


def test_the_scene_list_tells_ids_times_and_cloud(earth):
    windows = [("2022-05-01", "2022-06-01"), ("2022-08-01", "2022-09-01")]
    (ids, times, clouds, count), empty = earth.value(listing, BOTH_ZONES, windows)
    members = reference.scenes(small.S2, *windows[0], cloudy_pct=30)
    assert ids == [scene.index for scene in members]
    assert times == [round(scene.time_start.timestamp() * 1000) for scene in members]
    assert clouds == [scene.own["CLOUDY_PIXEL_PERCENTAGE"] for scene in members]
    assert (count, empty) == (len(members), [[], [], [], 0])


def uncertain(grid) -> Any:
    """Scenes of June that pass a strict cloud filter."""
    return series(small.S2, grid, "2022-06-01", "2022-07-01", -1).aggregate_array("system:index")


def test_an_image_that_tells_no_cloud_passes_the_cloud_filter(earth):
    silent = [s for s in reference.scenes(small.S2, "2022-01-01", "2023-01-01") if len(s.own) == 1]
    month = f"{silent[0].time_start:%Y-%m}"
    assert len(silent) == 1
    assert month == "2022-06"
    assert earth.value(uncertain, BOTH_ZONES) == [silent[0].index]


def compact(grid) -> Any:
    found = series(small.S2, grid, "2022-06-01", "2022-07-01").select(["B2", "B3"])
    return found.median().multiply(2).toUint16()


def test_doubled_medians_are_lossless_in_16_bits(earth):
    got = earth.pixels(compact, BOTH_ZONES, BOTH_ZONES)
    values = reference.composite(reference.scenes(small.S2, "2022-06-01", "2022-07-01"), ("B2", "B3"), BOTH_ZONES)
    assert got.dtype == np.uint16
    np.testing.assert_array_equal(got / 2, np.nan_to_num(values))


def arithmetic(grid) -> Any:
    image = ee.Image(series(small.LANDSAT, grid, "2022-06-01", "2022-07-01").first())
    halves = image.select(["SR_B2"], ["half"]).divide(20000).clamp(0.1, 0.4)
    return (
        image.toDouble()
        .addBands(halves)
        .addBands(ee.Image.constant(7).rename("seven"))
        .select(["half", "SR_B2", "seven"])
    )


def test_arithmetic_and_bands_side_by_side(earth):
    got = earth.pixels(arithmetic, BOTH_ZONES, BOTH_ZONES)
    (scene, _) = reference.scenes(small.LANDSAT, "2022-06-01", "2022-07-01")
    (values,) = reference.composite([scene], ("SR_B2",), BOTH_ZONES)
    known = ~np.isnan(values)
    np.testing.assert_array_equal(got[1], np.where(known, values, 0))
    np.testing.assert_array_equal(got[0][known], np.clip(values[known] / 20000, 0.1, 0.4))
    assert (got[2] == 7).all()


def test_a_geotiff_holds_the_same_numbers_and_its_place(earth):
    from rasterio.io import MemoryFile  # noqa: PLC0415

    graph = (median, BOTH_ZONES, ("B2", "B11"), small.S2, BOTH_ZONES, "2022-06-01", "2022-07-01")
    data = earth.call(partial(compute_pixels, file_format="GEO_TIFF"), *graph)
    with MemoryFile(data) as memory, memory.open() as file:
        np.testing.assert_array_equal(file.read(), earth.pixels(*graph))
        assert file.descriptions == ("B2", "B11")
        assert tuple(file.transform)[:6] == BOTH_ZONES.transform
        assert file.crs.to_epsg() == 3857


def asset(identity) -> Any:
    return ee.data.getAsset(identity)


def test_assets_are_collections_or_images(earth):
    index = small.small().collections[small.LANDSAT].members[0].index
    assert earth.call(asset, small.LANDSAT)["type"] == "IMAGE_COLLECTION"
    image = earth.call(asset, f"{small.LANDSAT}/{index}")
    assert image["type"] == "IMAGE"
    assert [band["id"] for band in image["bands"]] == [f"SR_B{i}" for i in range(1, 8)]


def single(identity) -> Any:
    return ee.Image(identity).select("SR_B1")


def test_a_single_image_loads_by_its_id(earth):
    scene = small.small().collections[small.LANDSAT].members[3]
    (got,) = earth.pixels(single, BOTH_ZONES, f"{small.LANDSAT}/{scene.index}")
    (want,) = reference.composite([scene], ("SR_B1",), BOTH_ZONES)
    np.testing.assert_array_equal(got, np.nan_to_num(want))


def sampled(grid, *, south_up) -> Any:
    """The way rs-embed reads: reproject, clip, sampleRectangle."""
    image = series(small.S2, grid, "2022-06-01", "2022-07-01").select(["B2", "B11"]).median()
    where = {"crs": ee.Projection(grid.crs).atScale(10)} if south_up else {"crs": grid.crs, "scale": 10}
    return image.reproject(**where).clip(region(grid)).sampleRectangle(region(grid), defaultValue=FILL)


@pytest.mark.parametrize("south_up", [False, True])
def test_sample_rectangle_gives_the_same_pixels(earth, south_up):
    feature = earth.value(partial(sampled, south_up=south_up), EDGE)
    got = np.array([feature["properties"][band] for band in ("B2", "B11")])
    want = expected(reference.scenes(small.S2, "2022-06-01", "2022-07-01"), ("B2", "B11"), EDGE)
    np.testing.assert_array_equal(got[:, ::-1] if south_up else got, want)
