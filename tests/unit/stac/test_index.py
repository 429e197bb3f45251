"""The exact pixel index: any place, any scale, any file."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Transformer
from rasterio.transform import from_origin

from rs_embed_core.errors import ProviderTimeout
from rs_embed_core.geo import WEB_MERCATOR, Grid, to_lonlat
from rs_embed_core.providers.calls import Asking, Tally, Terms, terms, under
from rs_embed_core.providers.gate import Gate, Quota
from rs_embed_core.providers.stac.faults import judge
from rs_embed_core.providers.stac.index import Index
from rs_embed_core.providers.stac.item import Asset
from rs_embed_core.providers.stac.kept import Kept
from rs_embed_core.providers.stac.reader import Reader
from tests.unit.stac.written import around, write_tif


def lattice(column: int, row: int, height: int, width: int, scale_m: float) -> Grid:
    return Grid(WEB_MERCATOR, (scale_m, 0.0, column * scale_m, 0.0, -scale_m, -row * scale_m), height, width)


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    scale_m = draw(st.sampled_from([0.5, 3.0, 4.77731, 10.0, 20.0, 30.0, 60.0, 250.0, 1000.0]))
    reach = int(1.99e7 / scale_m)
    column, row = draw(st.integers(-reach, reach)), draw(st.integers(-reach, reach))
    return lattice(column, row, draw(st.integers(1, 24)), draw(st.integers(1, 24)), scale_m)


@st.composite
def files(draw: st.DrawFn, grid: Grid) -> tuple[str, tuple[float, ...], tuple[int, int]]:
    """CRS, transform and shape of a file that lies near the grid, or in a zone far away."""
    lon, lat = grid.centre
    zone = int((lon + 180) // 6) % 60 + 1
    if draw(st.booleans()):
        zone = draw(st.integers(1, 60))
    crs = f"EPSG:{32600 if lat >= 0 else 32700}".replace("00", f"{zone:02d}")
    x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(lon, lat)
    x, y = (x, y) if math.isfinite(x) and math.isfinite(y) else (5e5, 5e6)
    pixel = draw(st.sampled_from([10.0, 20.0, 60.0]))
    shape = draw(st.integers(1, 90)), draw(st.integers(1, 90))
    left, top = draw(st.integers(-20, 90)), draw(st.integers(-20, 90))
    return crs, (pixel, 0.0, round(x / pixel - left) * pixel, 0.0, -pixel, round(y / pixel + top) * pixel), shape


@given(st.data())
def test_every_pixel_is_the_one_under_its_centre(data):
    grid = data.draw(grids())
    crs, transform, shape = data.draw(files(grid))
    numbers = np.arange(1, shape[0] * shape[1] + 1).reshape(shape)
    pixels = Index().pixels(grid, crs, transform, shape)

    to_file = Transformer.from_crs(WEB_MERCATOR, crs, always_xy=True)
    expected = np.zeros((grid.height, grid.width), int)
    for row in range(grid.height):
        for column in range(grid.width):
            x = grid.transform[2] + grid.transform[0] * (column + 0.5)
            y = grid.transform[5] + grid.transform[4] * (row + 0.5)
            x, y = to_file.transform(x, y)
            i, j = (y - transform[5]) / transform[4], (x - transform[2]) / transform[0]
            if 0 <= i < shape[0] and 0 <= j < shape[1]:
                expected[row, column] = numbers[math.floor(i), math.floor(j)]

    assert pixels.touched == expected.any()
    if pixels.touched:
        top, bottom, left, right = pixels.window
        window = numbers[top:bottom, left:right]
        assert np.array_equal(pixels.pick(window), expected.ravel())
        touched = np.isin(window, expected)
        assert touched[[0, -1]].any(axis=1).all()  # nothing is read that no pixel needs
        assert touched[:, [0, -1]].any(axis=0).all()


@given(grid=grids(), data=st.data())
def test_a_part_of_a_grid_takes_the_same_pixels(grid, data):
    crs, transform, shape = data.draw(files(grid))
    top, left = data.draw(st.integers(0, grid.height - 1)), data.draw(st.integers(0, grid.width - 1))
    column, row = round(grid.transform[2] / grid.transform[0]), round(-grid.transform[5] / grid.transform[0])
    part = lattice(column + left, row + top, grid.height - top, grid.width - left, grid.transform[0])
    numbers = np.arange(1, shape[0] * shape[1] + 1).reshape(shape)
    images = []
    for each in (grid, part):
        pixels = Index().pixels(each, crs, transform, shape)
        first, last, west, east = pixels.window
        image = pixels.pick(numbers[first:last, west:east]) if pixels.touched else np.zeros(each.height * each.width)
        images.append(image.reshape(each.height, each.width))
    assert np.array_equal(images[0][top:, left:], images[1])


def test_bands_of_one_tile_share_their_index():
    index, grid = Index(), around()
    transform = (10.0, 0.0, 720_000.0, 0.0, -10.0, 5_335_000.0)
    first = index.pixels(grid, "EPSG:32632", transform, (1000, 1000))
    assert index.pixels(grid, "EPSG:32632", transform, (1000, 1000)) is first
    assert index.pixels(grid, "EPSG:32633", transform, (1000, 1000)) is not first


# --- overviews ---------------------------------------------------------------------------------------------


@given(st.sampled_from([5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 500.0]), st.floats(-75, 75))
def test_the_overview_is_the_coarsest_that_is_fine_enough(scale_m, lat):
    grid = around((9.0, lat), pixels=9, scale_m=scale_m)
    factors = [2, 4, 8]
    level = Index().overview(grid, "EPSG:32632" if lat >= 0 else "EPSG:32732", 10.0, factors)
    used = 10.0 if level is None else 10.0 * factors[level]
    _, centre = to_lonlat(0, grid.transform[5] - scale_m * 4.5)
    on_ground = scale_m * math.cos(math.radians(centre))
    if abs(on_ground / used - 1) > 0.01 and abs(on_ground / used - 2) > 0.02:  # the ellipsoid is no sphere
        assert used <= max(10.0, on_ground)
        assert used == 80.0 or 2 * used > on_ground


def test_a_coarse_grid_reads_the_overview(tmp_path):
    values = np.random.default_rng(0).integers(1, 3000, (512, 512)).astype(np.uint16)
    transform = from_origin(497_440, 5_340_000, 10, 10)
    write_tif(tmp_path / "a.tif", values, "EPSG:32632", transform, overviews=(2, 4))
    grid = around((9.0, 48.18), pixels=40, scale_m=40.0)  # 26.7 m on the ground: the overview of 20 m
    asking = Asking(judge, Gate(Quota(), name="files"), Tally())
    read = Reader().read(Asset(str(tmp_path / "a.tif"), 0), grid, asking)
    with rasterio.open(tmp_path / "a.tif", overview_level=0) as overview:
        coarse = overview.read(1)
    assert coarse.shape == (256, 256)
    pixels = Index().pixels(grid, "EPSG:32632", (20.0, 0.0, 497_440.0, 0.0, -20.0, 5_340_000.0), (256, 256))
    top, bottom, left, right = pixels.window
    assert pixels.touched
    assert np.array_equal(read, pixels.pick(coarse[top:bottom, left:right]))


# --- what is kept ------------------------------------------------------------------------------------------


def test_the_longest_unused_goes_first():
    made: list[str] = []
    kept: Kept[str, str] = Kept(10, len)

    def ask(key: str) -> str:
        return kept.get(key, lambda: made.append(key) or key)

    for key in ("aaaa", "bbbb", "aaaa", "cccc", "aaaa"):
        assert ask(key) == key
    assert made == ["aaaa", "bbbb", "cccc"]
    ask("bbbb")
    ask("d" * 50)  # larger than the room: kept until the next one comes
    ask("d" * 50)
    assert made == ["aaaa", "bbbb", "cccc", "bbbb", "d" * 50]
    ask("aaaa")
    ask("d" * 50)
    assert made[5:] == ["aaaa", "d" * 50]


def test_threads_make_a_value_once():
    made, go, results = [], threading.Event(), []
    kept: Kept[str, int] = Kept(10, lambda _: 1)

    def make() -> int:
        go.wait(10)
        made.append(1)
        return 5

    threads = [threading.Thread(target=lambda: results.append(kept.get("a", make))) for _ in range(6)]
    for thread in threads:
        thread.start()
    go.set()
    for thread in threads:
        thread.join()
    assert (results, made) == ([5] * 6, [1])


def test_who_waits_for_a_failure_tries_alone():
    kept: Kept[str, int] = Kept(10, lambda _: 1)
    begun, fail = threading.Event(), threading.Event()

    def failing() -> int:
        begun.set()
        fail.wait(10)
        raise ValueError("mine")

    def first() -> None:
        with pytest.raises(ValueError, match="mine"):
            kept.get("a", failing)

    thread = threading.Thread(target=first)
    thread.start()
    begun.wait(10)
    with under(Terms(deadline=0.0)), pytest.raises(ProviderTimeout):
        kept.get("a", lambda: 1)
    assert terms().deadline == math.inf
    threading.Timer(0.05, fail.set).start()
    assert kept.get("a", lambda: 2) == 2
    thread.join()
