"""The same place always gives the same pixels."""

from __future__ import annotations

import datetime as dt
import hashlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rs_embed_core.chip import Period
from rs_embed_core.geo import WEB_MERCATOR, Grid
from tests.unit.synthetic.places import (
    BAVARIA,
    JANUARY,
    JULY,
    LANDSAT8,
    LST,
    S1,
    S1_DB,
    S2,
    S2_BANDS,
    SOME_BANDS,
    around,
    fetch,
    lattice,
)


@st.composite
def windows(draw: st.DrawFn) -> tuple[Grid, Grid, tuple[slice, slice]]:
    scale_m = draw(st.sampled_from([3.0, 4.77731, 10.0, 20.0, 30.0, 60.0, 250.0, 1000.0]))
    reach = int(1.9e7 / scale_m)
    column, row = draw(st.integers(-reach, reach)), draw(st.integers(-reach, reach))
    height, width = draw(st.integers(1, 140)), draw(st.integers(1, 140))
    top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    inner = draw(st.integers(1, height - top)), draw(st.integers(1, width - left))
    return (
        lattice(column, row, height, width, scale_m),
        lattice(column + left, row + top, *inner, scale_m),
        (slice(top, top + inner[0]), slice(left, left + inner[1])),
    )


@settings(max_examples=150, deadline=None)
@given(case=windows(), collection=st.sampled_from(sorted(SOME_BANDS)), month=st.integers(1, 12))
def test_a_pixel_does_not_depend_on_the_window(case, collection, month):
    whole, part, inside = case
    period = Period(dt.date(2021, month, 1), dt.date(2021, month, 25))
    expected = fetch(whole, period, collection=collection).data[..., inside[0], inside[1]]
    assert np.array_equal(fetch(part, period, collection=collection).data, expected)


@pytest.mark.parametrize("collection", [S2, S1])
def test_a_pixel_of_a_large_window_is_that_of_a_small_one(collection):
    whole = fetch(lattice(130_000, -610_000, 700, 1300), JANUARY, collection=collection)
    part = fetch(lattice(131_100, -609_500, 65, 65), JANUARY, collection=collection)
    assert np.array_equal(part.data, whole.data[..., 500:565, 1100:1165])


def test_a_pixel_does_not_depend_on_the_other_bands_or_frames():
    grid = around(BAVARIA)
    all_bands = fetch(grid, JANUARY, JULY, bands=S2_BANDS)
    for frame, period in enumerate((JANUARY, JULY)):
        for band in ("B12", "B4"):
            alone = fetch(grid, period, bands=(band,))
            assert np.array_equal(alone.data[0, 0], all_bands.data[frame, S2_BANDS.index(band)])
    assert np.array_equal(
        fetch(grid, collection=S1, bands=("VH", "VV")).data[0], fetch(grid, collection=S1).data[0, ::-1]
    )


@pytest.mark.parametrize(
    ("collection", "digest"),
    [
        (S2, "5b64558350cdb96e"),
        (S1, "9aab7a09e63741d2"),
        (S1_DB, "b48624d1157ae631"),
        (LANDSAT8, "841244711c845b25"),
        (LST, "f15f002b6e1ae2c5"),
    ],
)
def test_imagery_is_the_same_in_every_process_and_on_every_machine(collection, digest):
    # computed once; a change here changes every benchmark and golden picture that uses synthetic imagery
    chip = fetch(around(BAVARIA, 40, 30.0), JANUARY, JULY, collection=collection)
    assert hashlib.blake2b(chip.data.astype("<f4").tobytes(), digest_size=8).hexdigest() == digest


def test_threads_do_not_disturb_each_other():
    grids = [around((8.0 + 0.3 * i, 50.0)) for i in range(24)]
    alone = [fetch(grid, JANUARY, JULY).data for grid in grids]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda grid: fetch(grid, JANUARY, JULY).data, grids))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


@pytest.mark.parametrize("place", [(12_000, -60_000), (30_000, -50_000), (12_345, -65_000)])
@pytest.mark.parametrize("factor", [2, 3, 6])
def test_the_ground_is_the_same_at_every_scale(place, factor):
    column, row = place
    coarse = fetch(lattice(column, row, 200, 200, 10.0 * factor), bands=("B8",)).data[0, 0]
    fine = fetch(lattice(column * factor, row * factor, 200 * factor, 200 * factor), bands=("B8",)).data[0, 0]
    means = [array.reshape(20, side, 20, side).mean(axis=(1, 3)) for array, side in ((coarse, 10), (fine, 10 * factor))]
    assert np.abs(means[0] - means[1]).mean() < 80
    assert np.corrcoef(means[0].ravel(), means[1].ravel())[0, 1] > 0.95


def test_pixels_off_the_lattice_are_those_of_the_nearest():
    on = lattice(1000, -5000, 20, 30)
    off = Grid(WEB_MERCATOR, (10.0, 0.0, 10_003.0, 0.0, -10.0, 49_996.0), 20, 30)
    assert np.array_equal(fetch(off).data, fetch(on).data)
