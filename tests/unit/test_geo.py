from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pyproj import Transformer

from rs_embed_core.errors import InvalidRequest
from rs_embed_core.geo import (
    FULL_INSET,
    MAX_LATITUDE,
    WEB_MERCATOR,
    Bounds,
    Grid,
    bounds_of,
    projection,
    square,
    to_lonlat,
    to_mercator,
)
from rs_embed_core.specs.spatial import RADIUS_M, BBox, PointBuffer
from tests.contracts import spec_strategies as every

LIMIT = math.pi * RADIUS_M
scales = st.sampled_from([0.5, 3.0, 10.0, 20.0, 30.0, 250.0])
places = st.tuples(st.floats(-1.9e7, 1.9e7), st.floats(-1.9e7, 1.9e7))
extents = st.builds(
    lambda place, width, height: Bounds(place[0], place[1], place[0] + width, place[1] + height),
    places,
    st.floats(1e-3, 1e4),
    st.floats(1e-3, 1e4),
)


def edges(grid: Grid) -> tuple[float, float, float, float]:
    """West, south, east, north of a north-up grid."""
    a, _, c, _, e, f = grid.transform
    return c, f + e * grid.height, c + a * grid.width, f


# --- the projection ----------------------------------------------------------------------------------------


@given(st.floats(-180, 180), st.floats(-85, 85))
def test_mercator_is_epsg_3857(lon, lat):
    expected = Transformer.from_crs("EPSG:4326", "EPSG:3857", always_xy=True).transform(lon, lat)
    np.testing.assert_allclose(to_mercator(lon, lat), expected, rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(to_lonlat(*to_mercator(lon, lat)), (lon, lat), atol=1e-9)


def test_latitude_is_clamped_where_the_square_ends():
    assert to_mercator(0, 90) == to_mercator(0, MAX_LATITUDE)
    assert to_mercator(0, -90) == to_mercator(0, -MAX_LATITUDE)
    assert math.isclose(to_mercator(180, 90)[1], LIMIT, rel_tol=1e-8)


def test_bounds_by_hand():
    x, y = 11.5 * LIMIT / 180, to_mercator(11.5, 48.1)[1]
    bounds = bounds_of(PointBuffer(11.5, 48.1, 320))
    assert (bounds.width, bounds.height) == pytest.approx((640, 640))
    assert (bounds.west, bounds.north) == pytest.approx((x - 320, y + 320))
    assert bounds.centre == pytest.approx((11.5, 48.1))
    assert bounds_of(BBox(0, 0, 90, 45)).east == pytest.approx(LIMIT / 2)


def test_a_box_beyond_the_projection_is_refused():
    with pytest.raises(InvalidRequest, match=r"85\.05"):
        bounds_of(BBox(0, 86, 1, 88))
    for cut in (BBox(0, 85, 1, 90), BBox(0, -85.06, 1, 0)):  # the rest would be another box
        with pytest.raises(InvalidRequest, match="beyond"):
            bounds_of(cut)
    for end in (MAX_LATITUDE, 85.05113, 85.0511287798066):
        assert bounds_of(BBox(0, 84, 1, end)).north == pytest.approx(LIMIT)


@pytest.mark.parametrize("lat", [85.06, 89, -90])
def test_a_point_beyond_the_projection_is_no_other_place(lat):
    with pytest.raises(InvalidRequest, match=rf"latitude {lat} lies beyond"):
        bounds_of(PointBuffer(0, lat, 320))
    assert bounds_of(PointBuffer(0, 85.05, 320)).centre == pytest.approx((0, 85.05))


@pytest.mark.parametrize("box", [BBox(11, 48, 12, 48.00000000000001), BBox(11, 48, 11.000000000000002, 49)])
def test_a_box_that_is_too_thin_is_said_to_be(box):
    with pytest.raises(InvalidRequest, match="no extent in metres"):
        bounds_of(box)


# --- the lattice -------------------------------------------------------------------------------------------


def test_a_buffer_of_1280_m_is_normally_257_pixels():
    grid = Grid.on_lattice(bounds_of(PointBuffer(11.5, 48.1, 1280)), 10)
    assert (grid.height, grid.width) == (257, 257)
    on_lattice = Grid.on_lattice(bounds_of(PointBuffer(0, 0, 1280)), 10)
    assert (on_lattice.height, on_lattice.width) == (256, 256)
    assert on_lattice.transform == (10.0, 0.0, -1280.0, 0.0, -10.0, 1280.0)


def test_lattice_by_hand():
    grid = Grid.on_lattice(Bounds(west=101, south=-59, east=119, north=41), 10)
    assert grid == Grid(WEB_MERCATOR, (10, 0.0, 100, 0.0, -10, 50), height=11, width=2)
    assert Grid.on_lattice(Bounds(101, 51, 102, 52), 10).transform == (10, 0.0, 100, 0.0, -10, 60)


@pytest.mark.parametrize("shift", [1e-9, -1e-9, 0.0])
def test_rounding_does_not_cost_a_pixel(shift):
    grid = Grid.on_lattice(Bounds(100 + shift, 100 - shift, 200 - shift, 200 + shift), 10)
    assert (grid.height, grid.width) == (10, 10)


@given(extents, scales)
def test_a_grid_covers_its_bounds_with_less_than_a_pixel_to_spare(bounds, scale):
    grid = Grid.on_lattice(bounds, scale)
    west, south, east, north = edges(grid)
    slack = 1e-6 * scale
    assert grid.height >= 1
    assert grid.width >= 1
    assert west <= bounds.west + slack
    assert south <= bounds.south + slack
    assert east >= bounds.east - slack
    assert north >= bounds.north - slack
    assert max(bounds.west - west, east - bounds.east, bounds.south - south, north - bounds.north) < scale + slack


@given(places, st.lists(st.floats(1, 5000), min_size=4, max_size=4), scales)
def test_overlapping_rois_share_pixel_edges(place, reach, scale):
    x, y = place
    one = Grid.on_lattice(Bounds(x - reach[0], y - reach[1], x + 1, y + 1), scale)
    other = Grid.on_lattice(Bounds(x - 1, y - 1, x + reach[2], y + reach[3]), scale)
    for axis in (2, 5):
        steps = (one.transform[axis] - other.transform[axis]) / scale
        assert abs(steps - round(steps)) < 1e-6
        assert one.transform[axis] == round(one.transform[axis] / scale) * scale


@given(every.boxes | every.points, st.sampled_from([100.0, 1000.0]))
def test_any_place_on_earth_has_a_grid(spatial, scale):
    if isinstance(spatial, BBox):
        assume(min(spatial.maxlat - spatial.minlat, spatial.maxlon - spatial.minlon) > 1e-9)
        assume(max(abs(spatial.minlat), abs(spatial.maxlat)) < MAX_LATITUDE)
    else:
        assume(abs(spatial.lat) < MAX_LATITUDE)
    bounds, inset = square(spatial)
    grid = Grid.on_lattice(bounds, scale)
    assert min(grid.height, grid.width) >= 1
    y0, y1, x0, x1 = inset
    assert 0 <= y0 < y1 <= 1
    assert 0 <= x0 < x1 <= 1


# --- the square --------------------------------------------------------------------------------------------


def test_the_window_of_the_golden_roi():
    # golden/galileo/nano_roi: width 1781.112, height 833.48, side the width
    bounds, inset = square(BBox(11.5, 48.1, 11.516, 48.105))
    assert inset == (0.266023, 0.733977, 0.0, 1.0)
    assert bounds.width == pytest.approx(bounds.height)


def test_a_box_grows_about_its_centre():
    wide = BBox(0, 0, 2, 1)
    bounds, (y0, y1, x0, x1) = square(wide)
    assert bounds.width == bounds.height == pytest.approx(bounds_of(wide).width)
    assert bounds.centre == pytest.approx(bounds_of(wide).centre)
    assert (x0, x1) == (0.0, 1.0)
    assert y0 == pytest.approx(1 - y1, abs=1e-6)
    assert y1 - y0 == pytest.approx(bounds_of(wide).height / bounds.height, abs=1e-6)
    _, (y0, y1, x0, x1) = square(BBox(0, 0, 1, 2))
    assert (y0, y1) == (0.0, 1.0)
    assert x0 == pytest.approx(0.25, abs=1e-3)


@pytest.mark.parametrize("spatial", [PointBuffer(11.5, 48.1, 320), BBox(0, 0, 1, 1.00004)])
def test_what_is_square_already_stays(spatial):
    bounds, inset = square(spatial)
    assert inset is FULL_INSET
    assert bounds == bounds_of(spatial)


@pytest.mark.parametrize(
    "box",
    [
        BBox(179.9, 0, 180, 1),  # east of 180
        BBox(-180, 0, -179.9, 1),
        BBox(0, 84, 20, 85),  # north of 85.05
        BBox(0, -85, 20, -84),
    ],
)
def test_a_square_that_would_leave_the_map_is_not_made(box):
    bounds, inset = square(box)
    assert inset == FULL_INSET
    assert bounds == bounds_of(box)


def test_a_sliver_keeps_some_of_the_window():
    _, (y0, y1, x0, x1) = square(BBox(11, 48, 11 + 1e-8, 48.1))
    assert (y0, y1) == (0.0, 1.0)
    assert (x0, x1) == (0.5, 0.500001)


@given(every.boxes)
def test_a_square_holds_its_box(box):
    try:
        inner = bounds_of(box)
    except InvalidRequest:
        return
    outer, (y0, y1, x0, x1) = square(box)
    slack = 2e-6 * max(outer.width, outer.height)  # the inset is rounded to six decimals
    assert outer.north - y0 * outer.height == pytest.approx(inner.north, abs=slack)
    assert outer.north - y1 * outer.height == pytest.approx(inner.south, abs=slack)
    assert outer.west + x0 * outer.width == pytest.approx(inner.west, abs=slack)
    assert outer.west + x1 * outer.width == pytest.approx(inner.east, abs=slack)


# --- grids -------------------------------------------------------------------------------------------------

GRID = Grid("EPSG:32632", (10.0, 0.0, 600_000.0, 0.0, -20.0, 5_300_000.0), height=6, width=8)


def test_crop_by_hand():
    assert GRID.crop(1, 4, 2, 8) == Grid(GRID.crs, (10, 0, 600_020, 0, -20, 5_299_980), height=3, width=6)
    assert GRID.crop(0, 6, 0, 8) == GRID
    assert GRID.crop(-1, 7, 0.5, 0.6) == Grid(GRID.crs, (10, 0, 600_005, 0, -20, 5_300_020), height=8, width=1)


def test_shapes_by_hand():
    assert GRID.with_shape(3, 16) == Grid(GRID.crs, (5, 0, 600_000, 0, -40, 5_300_000), height=3, width=16)
    assert GRID.with_shape(6, 8) == GRID
    cells = GRID.divided((1, 4, -2, 10), 2, 3)  # 1.5 rows and 4 columns a cell
    assert cells == Grid(GRID.crs, (40, 0, 599_980, 0, -30, 5_299_980), height=2, width=3)


@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 50), st.integers(1, 50))
def test_another_shape_has_the_same_extent(height, width, rows, columns):
    grid = Grid(GRID.crs, GRID.transform, height, width)
    assert edges(grid.with_shape(rows, columns)) == pytest.approx(edges(grid))


def test_centres_by_hand():
    xs, ys = GRID.crop(0, 2, 0, 3).centres
    assert xs == (600_005, 600_015, 600_025)
    assert ys == (5_299_990, 5_299_970)


def test_spanning_fills_the_bounds():
    bounds = Bounds(100, 200, 400, 300)
    grid = Grid.spanning(bounds, 10, 20)
    assert edges(grid) == (100, 200, 400, 300)
    assert grid.transform == (15, 0.0, 100, 0.0, -10, 300)


def test_the_centre_in_degrees():
    assert Grid.on_lattice(bounds_of(PointBuffer(0, 0, 50)), 10).centre == pytest.approx((0, 0))
    grid = Grid.spanning(bounds_of(PointBuffer(11.5, 48.1, 320)), 3, 5)
    assert grid.centre == pytest.approx((11.5, 48.1))
    assert Grid("EPSG:4326", (0.1, 0, 11, 0, -0.1, 48), 10, 20).centre == pytest.approx((12, 47.5))
    assert Grid("EPSG:32632", (10, 0, 500_000 - 40, 0, -20, 60), 6, 8).centre == pytest.approx((9, 0))
    assert Grid("", (1, 0, 0, 0, -1, 0), 6, 8).centre == (0, 0)


def test_pixels_in_metres():
    assert GRID.pixel_m == pytest.approx(10)
    assert Grid("EPSG:4326", (180 / math.pi, 0, 0, 0, -1, 0), 6, 8).pixel_m == pytest.approx(RADIUS_M)
    assert Grid("EPSG:2263", (1, 0, 0, 0, -1, 0), 6, 8).pixel_m == pytest.approx(0.3048, rel=1e-4)  # US feet
    assert Grid.on_lattice(Bounds(0, 0, 60, 60), 30).pixel_m == 30


def test_an_unknown_projection_is_refused():
    with pytest.raises(InvalidRequest, match="EPSG:32632") as caught:
        projection("EPSG:99999")
    assert "EPSG:99999" in str(caught.value)
