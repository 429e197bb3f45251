"""The endless catalogue: the same imagery however it is asked for, with scenes everywhere and always."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ee
import numpy as np
import pytest

from rs_embed_core.geo import Bounds, Grid
from tests.emulator.client import Client, client
from tests.emulator.control import emulator
from tests.emulator.world import SERIES

YEAR = ("2022-01-01", "2023-01-01")
SUMMER = ("2022-06-01", "2022-08-01")
S2 = "COPERNICUS/S2_SR_HARMONIZED"


@pytest.fixture(scope="module")
def earth() -> Iterator[Client]:
    with emulator("world") as server, client(server.url) as running:
        yield running


def around(x: float, y: float, pixels: int, scale_m: float = 10.0) -> Grid:
    half = pixels * scale_m / 2
    return Grid.on_lattice(Bounds(x - half, y - half, x + half, y + half), scale_m)


def found(collection, grid, start, stop) -> Any:
    a, _, west, _, e, north = grid.transform
    corners = [west, north + e * grid.height, west + a * grid.width, north]
    region = ee.Geometry.Rectangle(corners, "EPSG:3857", geodesic=False)
    return ee.ImageCollection(collection).filterBounds(region).filterDate(start, stop)


def median(collection, bands, grid, window) -> Any:
    return found(collection, grid, *window).select(list(bands)).median().unmask(-9999, False).toFloat()


def told(collection, grid, window, keys) -> Any:
    scenes = found(collection, grid, *window)
    return ee.List([scenes.aggregate_array(key) for key in ("system:index", "system:time_start", *keys)])


@pytest.mark.parametrize("collection", SERIES)
def test_every_collection_has_pixels_somewhere_in_a_year(earth, collection):
    series = SERIES[collection]
    grid = around(850_020, 6_250_020, 40, 30.0)
    bands = dict.fromkeys((series.bands[0], series.bands[-1]))
    got = earth.pixels(median, grid, collection, tuple(bands), grid, SUMMER if series.revisit_days else YEAR)
    assert got.shape == (len(bands), 40, 40)
    assert (got != -9999).all()
    assert all(band.std() > 0 for band in got)


@pytest.mark.parametrize("collection", SERIES)
def test_scenes_lie_in_the_window_and_tell_what_filters_ask_for(earth, collection):
    series = SERIES[collection]
    radar = ("orbitProperties_pass", "instrumentMode")
    keys = radar if series.radar else (series.cloud,) if series.cloud else ()
    indices, times, *rest = earth.value(told, collection, around(850_000, 6_250_000, 8), SUMMER, keys)
    assert len(set(indices)) == len(indices) == len(times)
    assert all(1_654_041_600_000 <= moment < 1_659_312_000_000 for moment in times)  # June and July of 2022, UTC
    assert sorted(times) == times
    if series.radar:
        assert set(rest[0]) == {"ASCENDING", "DESCENDING"}
        assert set(rest[1]) == {"IW"}
    elif series.cloud:
        assert 0 <= min(rest[0]) < max(rest[0]) <= 100
    if series.revisit_days:
        assert abs(len(indices) - 61 / series.revisit_days) <= 1
    else:
        assert indices == []


def test_overlapping_windows_agree_bit_for_bit(earth):
    bands = ("B2", "B8")
    whole = earth.pixels(median, around(850_000, 6_250_000, 64), S2, bands, around(850_000, 6_250_000, 64), SUMMER)
    part_grid = around(850_000, 6_250_000, 32)
    part = earth.pixels(median, part_grid, S2, bands, part_grid, SUMMER)
    np.testing.assert_array_equal(part, whole[:, 16:48, 16:48])


def test_a_region_over_two_cells_gets_the_scenes_of_both(earth):
    grid = around(800_000, 6_250_000, 64)  # cells are 100 km wide
    indices, _ = earth.value(told, S2, grid, SUMMER, ())
    assert {index.split("_")[1] for index in indices} == {"E+0007N+0062", "E+0008N+0062"}
    halves = [
        earth.pixels(median, half, S2, ("B4",), half, SUMMER)
        for half in (grid.crop(0, 64, 0, 32), grid.crop(0, 64, 32, 64))
    ]
    whole = earth.pixels(median, grid, S2, ("B4",), grid, SUMMER)
    np.testing.assert_array_equal(whole, np.concatenate(halves, axis=2))


def test_a_later_window_looks_different(earth):
    grid = around(850_000, 6_250_000, 32)
    early, late = (
        earth.pixels(median, grid, S2, ("B4", "B8"), grid, window)
        for window in (("2022-03-01", "2022-04-01"), ("2022-07-01", "2022-08-01"))
    )
    assert np.abs(early - late).mean() > 20


def endless() -> Any:
    return ee.ImageCollection(S2).size()


def test_the_whole_world_is_not_listed(earth):
    with pytest.raises(ee.EEException, match="filter it by bounds and dates first"):
        earth.value(endless)


def single(identity) -> Any:
    return ee.Image(identity).select("B4")


def test_a_scene_loads_by_its_id(earth):
    grid = around(850_000, 6_250_000, 16)
    (first, *_), _ = earth.value(told, S2, grid, SUMMER, ())
    assert (earth.pixels(single, grid, f"{S2}/{first}") > 0).all()
    with pytest.raises(ee.EEException, match=r"Image\.load: Image asset '.*/nothing' not found"):
        earth.pixels(single, grid, f"{S2}/nothing")


def test_only_north_up_web_mercator_is_drawn(earth):
    grid = Grid("EPSG:32632", (10.0, 0.0, 400_000.0, 0.0, -10.0, 5_400_000.0), 8, 8)
    with pytest.raises(ee.EEException, match="cannot be read on the grid EPSG:32632"):
        earth.pixels(median, grid, S2, ("B4",), around(850_000, 6_250_000, 8), SUMMER)
