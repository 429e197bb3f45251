from __future__ import annotations

import math

import pytest

from rs_embed_core.degrees import degree_grid, degrees_of
from rs_embed_core.specs.spatial import BBox, PointBuffer


def test_a_box_is_its_own_degrees():
    assert degrees_of(BBox(3.0, 33.0, 5.3, 34.4)) == (3.0, 33.0, 5.3, 34.4)


def test_a_point_on_the_pole_is_finite():
    west, south, east, north = degrees_of(PointBuffer(0, 90, 111_320))
    assert (south, north) == (89, 91)
    assert math.isfinite(east - west)


def test_the_degrees_of_a_metre_grow_with_the_latitude():
    west, south, east, north = degrees_of(PointBuffer(5.3, 60, 111_320))
    assert (south, north) == (59, 61)
    assert (west, east) == pytest.approx((3.3, 7.3))


@pytest.mark.parametrize("spatial", [BBox(-20.3, 33.0, 5.3, 34.4), PointBuffer(5.3, 40.0, 30_000)])
def test_one_pixel_spans_the_roi(spatial):
    grid = degree_grid(spatial)
    west, south, east, north = degrees_of(spatial)
    assert (grid.crs, grid.height, grid.width) == ("EPSG:4326", 1, 1)
    assert grid.transform == (east - west, 0.0, west, 0.0, south - north, north)
    assert grid.centre == pytest.approx(((west + east) / 2, (south + north) / 2))
