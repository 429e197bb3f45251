"""Requests stay within the service's limits, and together they are the whole read."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rs_embed_core.geo import Bounds, Grid, to_mercator
from rs_embed_core.providers.gee.tiles import Tile, tiles_of

_CEILING, _MOST_BANDS, _MOST_SIDE = 50_331_648, 1024, 32_768  # earth_engine.md, 2.1


def _grid(height: int, width: int) -> Grid:
    return Grid("EPSG:3857", (10.0, 0.0, 1_335_830.0, 0.0, -10.0, 6_446_280.0), height, width)


reads = st.tuples(  # height, width, frames, bands
    st.integers(1, 2_000), st.integers(1, 70_000), st.integers(1, 24), st.integers(1, 40)
)


@given(reads)
def test_every_request_is_within_the_limits(read: tuple[int, int, int, int]) -> None:
    height, width, frames, bands = read
    for tile in tiles_of(_grid(height, width), frames, bands):
        deep, rows, columns = tile.shape
        assert min(tile.shape) > 0
        assert max(rows, columns) <= _MOST_SIDE
        assert deep * bands <= _MOST_BANDS
        assert deep * bands * rows * columns * 5 <= _CEILING


@given(st.integers(1, 500), st.integers(1, 500), st.integers(1, 30), st.integers(1, 400))
def test_tiles_cover_each_pixel_of_each_frame_once(height: int, width: int, frames: int, bands: int) -> None:
    seen = np.zeros((frames, 1, height, width), np.uint8)
    for tile in tiles_of(_grid(height, width), frames, bands):
        seen[tile.place] += 1
    assert (seen == 1).all()


@given(reads)
def test_volumes_add_up_to_the_read(read: tuple[int, int, int, int]) -> None:
    height, width, frames, bands = read
    tiles = tiles_of(_grid(height, width), frames, bands)
    assert sum(math.prod(tile.shape) for tile in tiles) == frames * height * width


@pytest.mark.parametrize(
    ("height", "width", "frames", "bands", "count"),
    [
        (257, 257, 1, 10, 1),
        (257, 257, 12, 12, 1),  # 47,555,280 bytes: just below
        (257, 257, 13, 12, 2),
        (2227, 2602, 1, 1, 1),
        (10, 40_000, 1, 1, 2),  # too wide
        (40_000, 10, 1, 1, 2),  # too high
        (257, 257, 20, 64, 10),  # 1280 bands: two parts of 10 frames; 640 bands allow 59 rows, so 5 strips each
    ],
)
def test_as_few_requests_as_the_limits_allow(height: int, width: int, frames: int, bands: int, count: int) -> None:
    assert len(tiles_of(_grid(height, width), frames, bands)) == count


def test_a_series_stays_together_while_a_row_fits() -> None:
    tiles = tiles_of(_grid(1000, 1000), 12, 10)
    assert {tile.frames for tile in tiles} == {(0, 12)}
    assert {tile.columns for tile in tiles} == {(0, 1000)}


def test_frames_are_parted_where_not_one_row_of_all_fits() -> None:
    tiles = tiles_of(_grid(2, 30_000), 60, 10)
    assert len({tile.frames for tile in tiles}) == 2
    assert {tile.columns for tile in tiles} == {(0, 30_000)}


def test_columns_are_parted_where_not_one_row_of_one_frame_fits() -> None:
    tiles = tiles_of(_grid(1, 30_000), 1, 400)
    assert len({tile.columns for tile in tiles}) == 2


@given(
    st.floats(-180, 180),
    st.floats(-85, 85),
    st.sampled_from([0.5, 3.0, 10.0, 30.0, 463.3, 1000.0]),
    st.tuples(st.integers(0, 100), st.integers(1, 100), st.integers(0, 100), st.integers(1, 100)),
)
def test_tiles_lie_on_the_lattice_of_the_whole(
    lon: float, lat: float, scale_m: float, part: tuple[int, int, int, int]
) -> None:
    x, y = to_mercator(lon, lat)
    whole = Grid.on_lattice(Bounds(x, y, x + 200 * scale_m, y + 200 * scale_m), scale_m)
    row, rows, column, columns = part
    tile = Tile((row, row + rows), (column, column + columns), (0, 1)).grid(whole)
    assert (tile.height, tile.width) == (rows, columns)
    xs, ys = whole.centres
    tile_xs, tile_ys = tile.centres
    np.testing.assert_allclose(tile_xs, xs[column : column + columns], rtol=0, atol=1e-6 * scale_m)
    np.testing.assert_allclose(tile_ys, ys[row : row + rows], rtol=0, atol=1e-6 * scale_m)


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 12))
def test_halves_are_the_tile_and_end_at_a_small_one(rows: int, columns: int, frames: int) -> None:
    tile = Tile((5, 5 + rows), (7, 7 + columns), (1, 1 + frames))
    halves = tile.halves()
    if halves is None:
        assert frames == 1
        assert max(rows, columns) <= 32
        return
    seen = np.zeros((1 + frames, 1, 5 + rows, 7 + columns), np.uint8)
    for half in halves:
        seen[half.place] += 1
    assert seen.sum() == frames * rows * columns
    assert (seen[tile.place] == 1).all()


def test_halves_part_frames_first_then_the_longer_side() -> None:
    assert Tile((0, 100), (0, 100), (0, 5)).halves() == (
        Tile((0, 100), (0, 100), (0, 2)),
        Tile((0, 100), (0, 100), (2, 5)),
    )
    assert Tile((0, 50), (0, 100), (0, 1)).halves() == (
        Tile((0, 50), (0, 50), (0, 1)),
        Tile((0, 50), (50, 100), (0, 1)),
    )
