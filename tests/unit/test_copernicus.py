from __future__ import annotations

import datetime as dt
import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PosixPath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rs_embed_core.chip import Period
from rs_embed_core.degrees import degree_grid, degrees_of
from rs_embed_core.errors import InvalidRequest, NoImagery, ProviderError, ProviderTimeout
from rs_embed_core.geo import WEB_MERCATOR, Grid
from rs_embed_core.providers.base import Provider
from rs_embed_core.providers.calls import Terms, under
from rs_embed_core.providers.copernicus.cells import Place
from rs_embed_core.specs.spatial import BBox, PointBuffer
from tests.parity.golden import assert_close, cases, load_case
from tests.unit.copernicus_maps import INLAND, NORTH_WEST, SAMPLE, YEAR, asked, made_up, provider, read, region, save

STANDARD = Place(-180.0, 90.125, 0.25, 0.25, 721, 1440)


@pytest.fixture(scope="module")
def maps(tmp_path_factory) -> dict[str, Path]:
    """The golden cases' files, by their interleaving."""
    folder, values = tmp_path_factory.mktemp("maps"), made_up(8, 41)
    return {
        "separate": save(folder / "separate.tif", values, transform=NORTH_WEST),
        "contig": save(folder / "contig.tif", values, interleave="pixel"),
    }


# --- what the reference says -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", cases("copernicus"))
def test_a_golden_case(name, maps):
    case = load_case("copernicus", name)
    sample, meta, spatial = case.spec["sample"], case.spec["meta"], region(case.spec["spatial"])
    chip = read(SAMPLE if "planar" not in sample else maps[sample["planar"]], spatial)
    assert list(degrees_of(spatial)) == meta["bbox_4326"]
    assert [len(chip.bands), chip.grid.height, chip.grid.width] == meta["chw_shape"]
    assert chip.grid.crs == meta["output_crs"]
    assert [chip.grid.transform[0], -chip.grid.transform[4]] == meta["product_resolution_deg"]
    assert_close(chip.data[0], case.tensors["grid"])
    assert_close(chip.data[0].mean((1, 2)), case.tensors["pooled_mean"])
    assert_close(chip.data[0].max((1, 2)), case.tensors["pooled_max"])


def test_a_chip_says_what_it_is():
    chip = read(SAMPLE)
    assert isinstance(provider(SAMPLE), Provider)
    assert (chip.provider, chip.collection) == ("copernicus", "torchgeo/copernicus_embed")
    assert chip.bands == ("C000", "C001", "C002", "C003", "C004")
    assert chip.frames == (YEAR,)
    assert chip.valid is None
    assert dict(chip.facts) == {"file": "embed_map_310k.tif"}  # a local file's revision is not known


def test_the_grid_of_the_chip_is_that_of_the_product():
    chip = read(SAMPLE)  # its left edge is -180.125
    assert chip.grid == Grid("EPSG:4326", (0.25, 0.0, 2.875, 0.0, -0.25, 34.625), 7, 10)


def test_bands_come_in_the_order_asked_for():
    whole = read(SAMPLE).data
    chip = read(SAMPLE, bands=("C003", "C000"))
    assert chip.bands == ("C003", "C000")
    assert np.array_equal(chip.data, whole[:, [3, 0]])


# --- what is asked -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("year", [2020, 2022])
def test_other_years(year):
    with pytest.raises(NoImagery, match=f"{year}.*2021"):
        read(SAMPLE, year=Period(dt.date(year, 1, 1), dt.date(year + 1, 1, 1)))


def test_a_window_of_2021_gets_the_year():
    chip = read(SAMPLE, year=Period(dt.date(2021, 4, 1), dt.date(2021, 5, 1)))
    assert chip.frames == (YEAR,)


@pytest.mark.parametrize("spatial", [BBox(3, 33, 3.24, 35), BBox(3, 33, 5, 33.24), PointBuffer(3, 33, 1000)])
def test_less_than_a_cell(spatial):
    with pytest.raises(InvalidRequest, match=r"0\.25"):
        read(SAMPLE, spatial)


def test_exactly_a_cell():
    assert read(SAMPLE, BBox(2.875, 34.375, 3.125, 34.625)).data.shape == (1, 5, 1, 1)


def test_an_unknown_band():
    with pytest.raises(ProviderError, match="C004") as caught:
        read(SAMPLE, bands=("C001", "C005"))
    assert caught.value.code == "unknown_band"


@pytest.mark.parametrize(
    "grid",
    [
        Grid(WEB_MERCATOR, (10.0, 0.0, 0.0, 0.0, -10.0, 0.0), 1, 1),
        Grid("EPSG:4326", (1.0, 0.0, 3.0, 0.0, -1.0, 34.0), 2, 2),
        Grid("EPSG:4326", (1.0, 0.0, 3.0, 0.0, 1.0, 34.0), 1, 1),
        Grid("EPSG:4326", (1.0, 0.1, 3.0, 0.0, -1.0, 34.0), 1, 1),
    ],
)
def test_a_grid_that_is_no_region_in_degrees(grid):
    with pytest.raises(ProviderError) as caught:
        read(SAMPLE, grid=grid)
    assert caught.value.code == "unsupported_grid"


# --- which cells -------------------------------------------------------------------------------------------


def test_a_region_is_clipped_to_the_map():
    chip = read(SAMPLE, BBox(179.6, -90, 180, -89.4))  # the sample's last column ends at 179.875
    assert chip.grid == Grid("EPSG:4326", (0.25, 0.0, 179.375, 0.0, -0.25, -89.375), 3, 2)


def test_a_region_on_the_edges_of_cells_gets_no_more():
    assert STANDARD.cells(degree_grid(BBox(10.0, 44.875, 11.0, 45.875))) == ((177, 181), (760, 764))


@given(
    column=st.integers(0, 1438),
    row=st.integers(0, 719),
    columns=st.integers(1, 1440),
    rows=st.integers(1, 721),
)
def test_cells_cover_the_region_and_no_cell_is_idle(column, row, columns, rows):
    height, width = min(rows, 721 - row), min(columns, 1440 - column)
    west, north = -180 + column * 0.25, 90.125 - row * 0.25
    region = Grid("EPSG:4326", (width * 0.25, 0.0, west + 0.01, 0.0, -height * 0.25, north - 0.01), 1, 1)
    (top, bottom), (left, right) = STANDARD.cells(region)
    assert (top, left) == (row, column)
    assert (bottom, right) == (min(721, row + height + 1), min(1440, column + width + 1))
    assert STANDARD.grid(((top, bottom), (left, right))).transform[2::3] == (west, north)


@given(
    east=st.integers(-718, 720),
    width=st.floats(0.25, 300),
    south=st.integers(-359, 358),
    height=st.floats(0.25, 100),
)
def test_an_roi_that_ends_on_the_edges_of_cells_gets_the_cells_of_the_specs_formula(east, width, south, height):
    """The region is told by its corner and size: the sum must not lose the bit that decides."""
    box = BBox(max(-180.0, east / 4 - width), south / 4 - 0.125, east / 4, min(90.0, south / 4 - 0.125 + height))
    (top, bottom), (left, right) = STANDARD.cells(degree_grid(box))
    assert (left, right) == (math.floor((box.minlon + 180) / 0.25), math.ceil((box.maxlon + 180) / 0.25))
    assert (top, bottom) == (math.floor((90.125 - box.maxlat) / 0.25), math.ceil((90.125 - box.minlat) / 0.25))


# --- threads -----------------------------------------------------------------------------------------------


def test_many_threads_read_one_map():
    source = provider(SAMPLE)
    boxes = [BBox(1 + i / 4, 30.0, 3 + i / 4, 32.0) for i in range(16)]
    with ThreadPoolExecutor(8) as threads:
        chips = list(threads.map(lambda box: source.fetch(asked(box)), boxes))
    for box, chip in zip(boxes, chips, strict=True):
        assert np.array_equal(chip.data, read(SAMPLE, box).data)
    assert len({chip.data.tobytes() for chip in chips}) > 1


def test_nobody_waits_past_the_deadline():
    looking, found = threading.Event(), threading.Event()

    class SlowDisk(PosixPath):
        def is_file(self) -> bool:
            looking.set()
            return found.wait(30)

    source = provider(SlowDisk(SAMPLE / "embed_map_310k.tif"))
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(source.fetch, asked(INLAND))
        assert looking.wait(30)
        with under(Terms(deadline=time.monotonic() + 0.05)), pytest.raises(ProviderTimeout):
            source.fetch(asked(INLAND))
        found.set()
        assert first.result().data.shape == (1, 5, 7, 10)
