"""Composites against NumPy's own median, and the rules for versions of a scene."""

from __future__ import annotations

import datetime as dt
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from rs_embed_core.chip import Period
from rs_embed_core.errors import ProviderError
from rs_embed_core.providers.stac.composite import MISSING, harmonised, reduced, sort_scenes
from rs_embed_core.providers.stac.item import Item, Reading
from rs_embed_core.providers.stac.presets import offset_of
from rs_embed_core.providers.stac.versions import clear, least_cloudy, newest, within

SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 9))


@given(arrays.arrays(np.int32, SHAPES, elements=st.sampled_from([0, 1, 2, 3, 500, 65_535, int(MISSING)])))
def test_the_median_is_numpys(stack):
    floats = np.where(stack == MISSING, np.nan, stack)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # all-NaN columns
        expected = np.nanmedian(floats, axis=0)
    image, seen = reduced(stack.copy(), "median")
    assert np.array_equal(seen, ~np.isnan(expected))
    assert np.array_equal(image[seen], expected[seen].astype(np.float32))
    assert image.dtype == np.float32


@given(arrays.arrays(np.int32, SHAPES, elements=st.sampled_from([0, 7, 65_535, int(MISSING)])))
def test_the_mosaic_takes_the_newest(stack):
    expected = [next((value for value in column[::-1] if value != MISSING), None) for column in stack.T]
    image, seen = reduced(stack.copy(), "mosaic")
    assert seen.tolist() == [value is not None for value in expected]
    assert image[seen].tolist() == [value for value in expected if value is not None]


@given(arrays.arrays(np.int32, SHAPES))
def test_sorting(stack):
    expected = np.sort(stack, axis=0)
    sort_scenes(stack)
    assert np.array_equal(stack, expected)


def test_more_pixels_than_a_block():
    stack = np.random.default_rng(0).integers(0, 10_000, (5, 20_001)).astype(np.int32)
    image, seen = reduced(stack.copy(), "median")
    assert np.array_equal(image, np.median(stack, axis=0).astype(np.float32))
    assert seen.all()


@pytest.mark.parametrize("offset", [0, 1000])
def test_the_offset(offset):
    numbers = np.array([0, 1, 999, 1000, 1001, 65_535], np.uint16)
    expected = [MISSING, *(max(dn - offset, 0) for dn in (1, 999, 1000, 1001, 65_535))]
    assert harmonised(numbers, offset).tolist() == expected


@pytest.mark.parametrize(
    ("rule", "baseline", "offset"),
    [("always", None, 1000), ("baseline", "04.00", 1000), ("baseline", "05.11", 1000), ("baseline", "03.01", 0)],
)
def test_offset_rules(rule, baseline, offset):
    assert offset_of(rule, baseline, "an item") == offset


def test_no_baseline_no_guess():
    with pytest.raises(ProviderError, match="an item") as caught:
        offset_of("baseline", None, "an item")
    assert caught.value.code == "bad_item"


# --- versions ----------------------------------------------------------------------------------------------

READING = Reading({"B2": "blue"}, "always")


def scene(
    name: str,
    *,
    time: str = "2022-07-05T10:15:59Z",
    cloud: float | None = 1.0,
    product: str | None = None,
    strip: str | None = None,
    baseline: str = "04.00",
    **more: str,
) -> Item:
    properties = {
        "datetime": time,
        "eo:cloud_cover": cloud,
        "s2:product_uri": product,
        "s2:processing_baseline": baseline,
        "s2:datastrip_id": strip,
        **more,
    }
    geometry = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}
    document = {"id": name, "properties": properties, "geometry": geometry, "assets": {"blue": {"href": "b.tif"}}}
    return READING.item(document, "/catalogue/items.json")


def ids(items: list[Item]) -> list[str]:
    return [item.id for item in items]


def product(baseline: str, made: str, tile: str = "T32UPU", sensed: str = "20220705T101559") -> str:
    return f"S2B_MSIL2A_{sensed}_N{baseline.replace('.', '')}_R065_{tile}_{made}.SAFE"


def test_the_latest_baseline_of_a_take_stays():
    old = scene("old", baseline="03.01", product=product("03.01", "20220706T000000"))
    new = scene("new", baseline="05.10", product=product("05.10", "20230101T000000"))
    neighbour = scene("neighbour", baseline="03.01", product=product("03.01", "20220706T000000", tile="T32UQU"))
    assert ids(newest([new, old, neighbour])) == ["neighbour", "new"]


def test_one_baseline_processed_twice():
    strip = "S2B_OPER_MSI_L2A_DS_2BPS_2022{}_S20220705T101611_N04.00"
    versions = [
        scene(
            name,
            product=product("04.00", f"2022{day}T000000"),
            strip=strip.format(f"{day}T000000"),
            **{"s2:generation_time": f"2022-{day[:2]}-{day[2:]}T00:00:00Z"},
        )
        for name, day in (("later", "0707"), ("sooner", "0706"))
    ]
    assert ids(newest(versions)) == ids(newest(reversed(versions))) == ["later"]


def test_two_parts_of_one_datatake_both_stay():
    parts = [
        scene(
            part,
            product=product("04.00", f"2022070{day}T000000"),
            strip=f"S2B_OPER_MSI_L2A_DS_2BPS_2022070{day}T000000_S20220705T1016{seconds}_N04.00",
        )
        for part, day, seconds in (("a", 6, "11"), ("b", 7, "48"))
    ]
    assert ids(newest(parts)) == ["a", "b"]


def test_items_without_a_product_name():
    same = {"grid:code": "MGRS-32UPU", "platform": "sentinel-2b"}
    old, new = scene("old", baseline="02.14", **same), scene("new", baseline="05.00", **same)
    other = scene("other", time="2022-07-05T10:16:00Z", baseline="02.14", **same)
    alone, twin = scene("alone"), scene("twin")  # no tile: nothing tells that they are the same
    assert ids(newest([old, new, other, alone, twin])) == ["alone", "new", "twin", "other"]


def test_filters():
    items = [
        scene("a", time="2022-06-30T23:59:59.999Z", cloud=30.0),
        scene("b", time="2022-07-01T00:00:00+02:00", cloud=30.5),  # June in UTC
        scene("c", time="2022-07-01T00:00:00", cloud=None),
    ]
    assert ids(within(items, Period(dt.date(2022, 6, 1), dt.date(2022, 7, 1)))) == ["a", "b"]
    assert ids(clear(items, 30)) == ["a", "c"]
    assert ids(clear(items, None)) == ["a", "b", "c"]


def test_least_cloudy():
    items = [scene(name, time=f"2022-07-0{day}T00:00:00Z", cloud=cloud) for name, day, cloud in (
        ("a", 1, 5.0), ("b", 2, None), ("c", 3, 5.0), ("d", 4, 80.0), ("e", 5, 0.0))]  # fmt: skip
    assert ids(least_cloudy(items, 2)) == ["c", "e"]
    assert ids(least_cloudy(items, 4)) == ["a", "c", "d", "e"]
    assert least_cloudy(items, 9) is items
