from __future__ import annotations

import datetime as dt
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from pyproj import Transformer
from rasterio.transform import Affine

from rs_embed_core.chip import Acquisition, FetchPlan, Period
from rs_embed_core.errors import NoImagery, ProviderTimeout
from rs_embed_core.geo import WEB_MERCATOR, Bounds, Grid, to_mercator
from rs_embed_core.providers.base import Provider
from rs_embed_core.providers.calls import Terms, under
from rs_embed_core.providers.tessera import TesseraProvider, TesseraSettings
from rs_embed_core.specs.spatial import BBox, PointBuffer, Spatial
from tests.parity.golden import assert_close, cases, load_case
from tests.unit.tessera_tiles import (
    EAST_TILE,
    INSIDE,
    SAMPLE,
    SEAM,
    WEST_TILE,
    MadeUpTile,
    around,
    asked,
    calendar,
    filled,
    provider,
    read,
    region,
    save_all,
    tile,
)

# --- what the reference says -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", cases("tessera"))
def test_a_golden_case(name):
    case = load_case("tessera", name)
    meta, stride = case.spec["meta"], case.spec["grid_stride"]
    chip = read(SAMPLE, region(case.spec["spatial"]))
    grid = chip.data[0]
    assert list(grid.shape) == meta["chw_shape"]
    assert_close(grid[:, ::stride, ::stride], case.tensors.get("grid", case.tensors.get("allow_nan_grid")))
    facts = dict(chip.facts)
    assert facts["coverage"] == pytest.approx(meta["coverage"], abs=1e-12)
    assert facts["tile_crs"] == ", ".join(meta["tile_crs"])
    if "pooled_mean" in case.tensors:
        assert_close(grid.mean((1, 2)), case.tensors["pooled_mean"])
        assert_close(grid.max((1, 2)), case.tensors["pooled_max"])
    else:  # one pixel of water is enough
        assert np.isnan(grid).any()
        assert np.isfinite(grid).any()


def test_a_chip_says_what_it_is():
    chip = read(SAMPLE, BBox(0.195, 52.04, 0.206, 52.05))
    assert isinstance(provider(SAMPLE), Provider)
    assert (chip.provider, chip.collection, chip.frames) == ("tessera", "tessera", (calendar(2024),))
    assert (chip.bands[0], chip.bands[-1], len(chip.bands)) == ("T000", "T127", 128)
    assert dict(chip.facts) == {
        "dataset_version": "v1.1-cambridge",
        "tiles": 2,
        "coverage": 1.0,
        "tile_crs": "EPSG:32631",
        "utm_zones": 1,
    }
    assert chip.acquisitions == (
        Acquisition("grid_0.15_52.05", "2024-01-01", 0),
        Acquisition("grid_0.25_52.05", "2024-01-01", 0),
    )
    assert chip.valid is None


def test_bands_come_in_the_order_asked_for():
    whole = read(SAMPLE).data
    chip = read(SAMPLE, bands=("T100", "T003"))
    assert chip.bands == ("T100", "T003")
    assert np.array_equal(chip.data, whole[:, [100, 3]])


def test_the_year_is_that_of_the_start_of_the_frame():
    plan = FetchPlan("tessera", (), asked(INSIDE).grid, (Period(dt.date(2024, 3, 1), dt.date(2025, 9, 1)),))
    chip = provider(SAMPLE).fetch(plan)
    assert chip.frames == (calendar(2024),)
    assert np.array_equal(chip.data, read(SAMPLE).data)


# --- which pixel -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale_m", [10, 37.5])
def test_a_pixel_takes_the_value_that_its_centre_falls_into(tmp_path, scale_m):
    place = around(5.95, 50.05, "EPSG:32631", pixel_m=30)
    save_all(tmp_path, [tile(WEST_TILE, transform=place)])
    chip = read(tmp_path, PointBuffer(5.95, 50.05, 400), scale_m=scale_m)
    to_tile = Transformer.from_crs(WEB_MERCATOR, "EPSG:32631", always_xy=True)
    xs, ys = chip.grid.centres
    for row, column in ((0, 0), (5, 11), (chip.grid.height - 1, chip.grid.width - 1)):
        x, y = to_tile.transform(xs[column], ys[row])
        expected = [(place.f - y) // 30, (x - place.c) // 30, 7]
        assert chip.data[0, :, row, column].tolist() == expected


def test_tiles_that_are_turned_are_followed(tmp_path):
    straight = around(5.95, 50.05, "EPSG:32631", pixel_m=30)
    turned = Affine(0, 30, straight.c, 30, 0, straight.f - 1200)  # rows run east, columns north
    save_all(tmp_path / "straight", [tile(WEST_TILE, transform=straight)])
    save_all(tmp_path / "turned", [tile(WEST_TILE, transform=turned)])
    roi = PointBuffer(5.95, 50.05, 400)
    expected = read(tmp_path / "straight", roi).data[0]
    found = read(tmp_path / "turned", roi).data[0]
    assert np.array_equal(found[0], expected[1])
    assert np.array_equal(found[1], 39 - expected[0])


def test_a_value_is_the_integer_times_its_scale(tmp_path):
    scales = np.full((40, 40), 0.5, np.float32)
    save_all(tmp_path, [tile(WEST_TILE, values=filled(-3), scales=scales)])
    assert np.unique(read(tmp_path, PointBuffer(5.95, 50.05, 100)).data).tolist() == [-1.5]


def test_scales_may_differ_by_band(tmp_path):
    scales = np.ones((40, 40, 3), np.float32) * np.array([1, 2, 0.25], np.float32)
    save_all(tmp_path, [tile(WEST_TILE, values=filled(4), scales=scales)])
    chip = read(tmp_path, PointBuffer(5.95, 50.05, 100))
    assert chip.data[0, :, 0, 0].tolist() == [4, 8, 1]


@pytest.mark.parametrize("scale", [np.nan, np.inf, -np.inf])
def test_pixels_without_data_are_nan_in_their_place(tmp_path, scale):
    scales = np.ones((40, 40), np.float32)
    scales[20, 21] = scale
    save_all(tmp_path, [tile(WEST_TILE, scales=scales)])
    chip = read(tmp_path, PointBuffer(5.95, 50.05, 900), scale_m=20)
    there = read_without_gaps(tmp_path, PointBuffer(5.95, 50.05, 900), scale_m=20)
    water = (there[0] == 20) & (there[1] == 21)
    assert water.any()
    assert np.array_equal(np.isnan(chip.data[0]), np.broadcast_to(water, there.shape))
    assert chip.valid is None  # a tile covers them: nothing is missing from the product


def read_without_gaps(root: Path, spatial: Spatial, *, scale_m: float) -> np.ndarray:
    other = save_all(root / "without_gaps", [tile(WEST_TILE)])
    return read(other, spatial, scale_m=scale_m).data[0]


# --- several tiles -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_the_first_tile_of_the_manifest_wins(tmp_path, order):
    places = {1: WEST_TILE, 2: {**WEST_TILE, "lon": 6.05}}
    same = around(6.0, 50.05, "EPSG:32631")
    save_all(tmp_path, [tile(places[value], values=filled(value), transform=same) for value in order])
    chip = read(tmp_path, SEAM)
    assert np.unique(chip.data).tolist() == [order[0]]
    assert len(chip.acquisitions) == 1


def test_a_tile_that_can_give_nothing_is_not_read(tmp_path):
    same = around(6.0, 50.05, "EPSG:32631")
    first, second = tile(WEST_TILE, transform=same), tile({**WEST_TILE, "lon": 6.05}, transform=same)
    save_all(tmp_path, [first, second])
    (tmp_path / second.key.quantized).unlink()
    assert dict(read(tmp_path, SEAM).facts)["tiles"] == 1


def test_a_region_in_two_utm_zones(tmp_path):
    save_all(tmp_path, [tile(WEST_TILE, values=filled(1)), tile(EAST_TILE, values=filled(2))])
    chip = read(tmp_path, BBox(5.92, 50.04, 6.08, 50.06), scale_m=50)
    assert np.unique(chip.data).tolist() == [1, 2]
    facts = dict(chip.facts)
    assert (facts["tile_crs"], facts["utm_zones"]) == ("EPSG:32631, EPSG:32632", 2)


def test_pixels_that_no_tile_covers_are_zero_and_not_valid(tmp_path):
    save_all(tmp_path, [tile(WEST_TILE, values=filled(5))])
    chip = read(tmp_path, BBox(5.95, 50.04, 6.05, 50.06))
    assert chip.valid is not None
    assert np.array_equal(chip.data[0, 0], np.where(chip.valid[0], 5, 0))
    assert dict(chip.facts)["coverage"] == pytest.approx(chip.valid.mean())
    assert 0.2 < chip.valid.mean() < 0.8
    assert chip.valid[0, :, 0].all()
    assert not chip.valid[0, :, -1].any()


def test_the_fill_value_of_the_plan_is_kept(tmp_path):
    save_all(tmp_path, [tile(WEST_TILE, values=filled(5))])
    chip = read(tmp_path, BBox(5.95, 50.04, 6.05, 50.06), fill_value=-1.0)
    assert np.unique(chip.data).tolist() == [-1, 5]


@pytest.mark.parametrize(("lon", "lat"), [(5.95, 50.05), (93.05, 0.05)])  # the latter is infinite in zone 31
def test_a_tile_whose_projection_is_far_off_covers_nothing(tmp_path, lon, lat):
    crs = "EPSG:32631" if lon > 90 else "EPSG:32660"
    made = MadeUpTile(lon, lat, crs, around(5.95, 50.05, "EPSG:32631"))
    with pytest.raises(NoImagery):
        read(save_all(tmp_path, [made]), PointBuffer(lon, lat, 500))


@pytest.mark.parametrize("offset_m", [-20, 20])
def test_tiles_answer_half_a_tile_around_their_centre(tmp_path, offset_m):
    save_all(tmp_path, [tile(WEST_TILE)])  # its pixels reach beyond 6.0 degrees
    x, y = to_mercator(6.0, 50.05)
    plan = asked(SEAM, grid=Grid.on_lattice(Bounds(x + offset_m, y - 10, x + offset_m + 10, y), 10))
    if offset_m < 0:
        assert np.isfinite(provider(tmp_path).fetch(plan).data).all()
    else:
        with pytest.raises(NoImagery):
            provider(tmp_path).fetch(plan)


# --- processes and threads ---------------------------------------------------------------------------------

_WITHOUT_THE_EXTRA = """
import sys
sys.modules["geotessera"] = None
from rs_embed_core.chip import FetchPlan, Period
from rs_embed_core.errors import ProviderError
from rs_embed_core.geo import Grid
from rs_embed_core.providers.tessera import TesseraProvider
import datetime as dt
grid = Grid("EPSG:3857", (10.0, 0.0, 16390.0, 0.0, -10.0, 6809480.0), 5, 5)
try:
    TesseraProvider().fetch(FetchPlan("t", (), grid, (Period(dt.date(2024, 1, 1), dt.date(2025, 1, 1)),)))
except ProviderError as error:
    print(error.code, error.retryable, error.hint)
"""


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_without_the_extra():
    assert python(_WITHOUT_THE_EXTRA) == "missing_extra False pip install rs-embed-serve[tessera]"


def test_building_the_provider_loads_no_sdk():
    code = (
        "import sys; from rs_embed_core.providers.tessera import TesseraProvider; TesseraProvider();"
        "print(sorted({'geotessera', 'rasterio', 'pyproj', 'pandas'} & set(sys.modules)))"
    )
    assert python(code) == "[]"


def test_many_threads_read_at_once():
    source = provider(SAMPLE)
    spots = [PointBuffer(0.12 + i / 200, 52.05, 200) for i in range(16)]
    with ThreadPoolExecutor(8) as threads:
        chips = list(threads.map(lambda spot: source.fetch(asked(spot)), spots))
    for spot, chip in zip(spots, chips, strict=True):
        assert np.array_equal(chip.data, read(SAMPLE, spot).data, equal_nan=True)


def test_a_read_whose_deadline_passed():
    source = provider(SAMPLE)
    source.fetch(asked(INSIDE))
    with under(Terms(deadline=time.monotonic() - 1)), pytest.raises(ProviderTimeout):
        source.fetch(asked(INSIDE))


def test_a_folder_is_read_and_nothing_is_written(tmp_path):
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copytree(SAMPLE, root)
    before = sorted(root.rglob("*"))
    here = Path.cwd()
    os.chdir(elsewhere)
    try:
        TesseraProvider(TesseraSettings(root)).fetch(asked(INSIDE))
    finally:
        os.chdir(here)
    assert sorted(root.rglob("*")) == before
    assert not list(elsewhere.iterdir())
