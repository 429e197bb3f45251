from __future__ import annotations

import math
import pickle
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rs_embed_core.tiling import Axis, TileLayout, crop_cells, merge_max, merge_mean, snap, stitch

lengths = st.integers(1, 1500)
tiles = st.integers(24, 512)
counts = st.integers(2, 64)
FULL = (0.0, 1.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("length", "tile", "expected"),
    [
        (100, 224, 100),  # shorter than a tile
        (224, 224, 224),
        (246, 224, 224),  # 22 over: round(22.4)
        (247, 224, 247),
        (470, 224, 448),
        (471, 224, 471),
        (70, 64, 64),  # 6 over: round(6.4)
        (71, 64, 71),
        (27, 25, 25),  # 2 over: round(2.5) is even
        (28, 25, 28),
    ],
)
def test_snap(length, tile, expected):
    assert snap(length, tile) == expected
    assert Axis.of(length, tile).length == expected


def test_axis_of_600_pixels_by_hand():
    axis = Axis.of(600, 224)
    assert axis.starts == (0, 224, 376)
    assert axis.ends == (224, 448, 600)
    assert axis.owned == ((0, 224), (224, 412), (412, 600))  # (448 + 376) // 2 = 412
    # The second tile's kept cells end at round((412 - 224) / 16) = 12, pixel 416: cell 2.5 of the third.
    assert axis.cells(14) == ((0, 14), (0, 12), (2, 14))


def test_axis_shorter_than_a_tile():
    axis = Axis.of(100, 224)
    assert (axis.starts, axis.ends, axis.owned) == ((0,), (100,), ((0, 100),))
    assert axis.cells(14) == ((0, 7),)  # ceil(100 / 16)


@pytest.mark.parametrize(
    ("height", "width", "tile", "cells", "expected"),
    [
        (448, 600, 224, 14, (28, 38)),  # golden/dofa/tiny_tile.json
        (128, 192, 64, 8, (16, 24)),
        (240, 100, 224, 14, (14, 7)),  # snapped to 224; padded
        (300, 224, 224, 16, (22, 16)),  # 14 pixels a cell
        (112, 224, 128, 12, (11, 21)),  # 10.67 pixels a cell
    ],
)
def test_stitched_shape_by_hand(height, width, tile, cells, expected):
    layout = TileLayout.of(height, width, tile)
    pieces = []
    for i in range(layout.count):
        r0, r1, c0, c1 = layout.kept(i, cells, cells)
        pieces.append(np.full((5, r1 - r0, c1 - c0), i, np.float32))
    whole = stitch(pieces, layout)
    assert whole.shape == (5, *expected)
    assert whole.dtype == np.float32


def test_cells_of_a_fractional_width_are_kept_once():
    # 32 / 12 pixels a cell. The first tile keeps 11 cells, to pixel 29 1/3; the second starts at 24, so its
    # next cell is exactly 2. In floating point that is 1.99..., and the cell at the seam would be kept twice.
    assert Axis.of(56, 32).cells(12) == ((0, 11), (2, 12))


def test_tiles_are_numbered_row_by_row():
    layout = TileLayout.of(448, 600, 224)
    assert layout.count == 6
    assert layout.tile_box(0) == (0, 224, 0, 224)
    assert layout.tile_box(2) == (0, 224, 376, 600)
    assert layout.tile_box(3) == (224, 448, 0, 224)
    assert layout.kept(2, 14, 14) == (0, 14, 2, 14)
    assert layout.kept(4, 14, 14) == (0, 14, 0, 12)


def test_stitch_puts_every_tile_in_its_place():
    layout = TileLayout.of(448, 600, 224)
    # a grid that knows its own cells, cut into tiles the way a network would see them: 16 pixels a cell
    rows, columns = np.indices((28, 38), np.float32)
    pieces = []
    for i in range(layout.count):
        r0, r1, c0, c1 = layout.kept(i, 14, 14)
        top, left = (0, 14)[i // 3], (0, 14, 24)[i % 3]
        pieces.append(np.stack([rows, columns])[:, top + r0 : top + r1, left + c0 : left + c1])
    np.testing.assert_array_equal(stitch(pieces, layout), np.stack([rows, columns]))


def test_stitch_refuses_a_missing_tile():
    with pytest.raises(ValueError, match="5 pieces for a layout of 6 tiles"):
        stitch([np.zeros((1, 14, 14), np.float32)] * 5, TileLayout.of(448, 600, 224))


def test_owned_area_by_hand():
    layout = TileLayout.of(448, 600, 224)
    assert [layout.owned_area(i) for i in range(3)] == [224 * 224, 224 * 188, 224 * 188]
    # rows 112..336, columns 150..300
    window = (0.25, 0.75, 0.25, 0.5)
    assert [layout.owned_area(i, window) for i in range(3)] == [112 * 74, 112 * 76, 0]


@given(lengths, lengths, tiles)
def test_owned_pixels_partition_the_array(height, width, tile):
    layout = TileLayout.of(height, width, tile)
    for axis in (layout.rows, layout.columns):
        edges = [axis.owned[0][0], *(stop for _, stop in axis.owned)]
        assert edges[0] == 0
        assert edges[-1] == axis.length
        assert all(start < stop for start, stop in axis.owned)
        assert all(a[1] == b[0] for a, b in zip(axis.owned, axis.owned[1:], strict=False))
        for start, end, (own, cut) in zip(axis.starts, axis.ends, axis.owned, strict=True):
            assert start <= own < cut <= end <= start + tile
    total = sum(layout.owned_area(i) for i in range(layout.count))
    assert total == layout.rows.length * layout.columns.length


@given(lengths, tiles)
def test_snapping_twice_changes_nothing(length, tile):
    snapped = snap(length, tile)
    assert snap(snapped, tile) == snapped
    assert 0 <= length - snapped <= round(0.1 * tile)


@given(lengths, tiles, counts)
def test_kept_cells_cover_the_axis_once(length, tile, count):
    axis = Axis.of(length, tile)
    kept = axis.cells(count)
    assert all(0 <= first < last <= count for first, last in kept)
    cell = Fraction(tile, count)
    for before, after, start, following in zip(kept, kept[1:], axis.starts, axis.starts[1:], strict=False):
        end, begin = start + before[1] * cell, following + after[0] * cell
        assert abs(begin - end) < cell  # less than one cell twice or left out at a seam
    total = sum(last - first for first, last in kept)
    assert abs(total - math.ceil(axis.length / cell)) <= 1  # cells of the shifted last tile may be out of step


@given(st.integers(1, 8), st.integers(1, 100), st.integers(2, 32))
def test_cells_of_whole_pixels_count_up_to_the_length(times, length, count):
    axis = Axis.of(length * times, count * times)  # `times` pixels a cell
    assert sum(last - first for first, last in axis.cells(count)) == math.ceil(axis.length / times)


@given(lengths, lengths, st.integers(64, 512), counts, counts)
def test_stitched_shape_is_the_sum_of_the_kept_cells(height, width, tile, down, across):
    layout = TileLayout.of(height, width, tile)
    pieces = []
    for i in range(layout.count):
        r0, r1, c0, c1 = layout.kept(i, down, across)
        pieces.append(np.zeros((2, r1 - r0, c1 - c0), np.float32))
    rows = sum(last - first for first, last in layout.rows.cells(down))
    columns = sum(last - first for first, last in layout.columns.cells(across))
    assert stitch(pieces, layout).shape == (2, rows, columns)


@given(
    st.lists(st.floats(0.001, 1e6), min_size=1, max_size=20),
    st.floats(-1e6, 1e6, width=32),
    st.sampled_from([merge_mean, merge_max]),
)
def test_merging_equal_vectors_gives_that_vector(areas, value, merge):
    out = merge([np.full(4, value, np.float32)] * len(areas), areas)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out, np.full(4, value, np.float32))


def test_merge_by_hand():
    vectors = [np.array(v, np.float32) for v in ([1, 4], [5, 0], [9, 9])]
    np.testing.assert_array_equal(merge_mean(vectors, [3, 1, 0]), [2, 3])
    np.testing.assert_array_equal(merge_max(vectors, [3, 1, 0]), [5, 4])


@pytest.mark.parametrize("merge", [merge_mean, merge_max])
def test_a_tile_outside_the_roi_has_no_say_even_if_it_is_nan(merge):
    vectors = [np.array([2.0], np.float32), np.array([np.nan], np.float32)]
    np.testing.assert_array_equal(merge(vectors, [10.0, 0.0]), [2])


@pytest.mark.parametrize("merge", [merge_mean, merge_max])
def test_merging_no_tile_is_an_error(merge):
    with pytest.raises(ValueError, match="at least one array"):
        merge([np.zeros(3, np.float32)], [0.0])


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (FULL, (0, 14, 0, 14)),
        ((1e-6, 1 - 1e-6, 0.0, 1.0), (0, 14, 0, 14)),
        ((0.0, 1.0, 0.25, 0.75), (0, 14, 3, 11)),  # 3.5 and 10.5, outward
        ((0.5, 0.5, 0.0, 1.0), (7, 8, 0, 14)),  # at least one cell
        ((0.9999, 1.0, 1.0, 1.0), (13, 14, 13, 14)),
        ((-0.1, 1.1, 0.2, 0.3), (0, 14, 2, 5)),
    ],
)
def test_crop_cells(window, expected):
    assert crop_cells(14, 14, window) == expected


@given(st.integers(1, 200), st.integers(1, 200), st.tuples(*[st.floats(0, 1)] * 4))
def test_a_crop_is_inside_the_grid_and_covers_the_window(height, width, edges):
    y0, y1 = sorted(edges[:2])
    x0, x1 = sorted(edges[2:])
    r0, r1, c0, c1 = crop_cells(height, width, (y0, y1, x0, x1))
    assert 0 <= r0 < r1 <= height
    assert 0 <= c0 < c1 <= width
    assert r0 <= y0 * height
    assert y1 * height <= r1
    assert c0 <= x0 * width
    assert x1 * width <= c1


def test_layouts_are_small_hashable_values():
    layout = TileLayout.of(6000, 7000, 224)
    assert pickle.loads(pickle.dumps(layout)) == layout  # noqa: S301 -- our own bytes
    assert hash(TileLayout.of(6000, 7000, 224)) == hash(layout)
    assert len(pickle.dumps(layout)) < 1000
