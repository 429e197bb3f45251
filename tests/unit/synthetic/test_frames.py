"""Frames and acquisitions."""

from __future__ import annotations

import datetime as dt
import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rs_embed_core.chip import FetchPlan, Period
from rs_embed_core.errors import NoImagery
from tests.unit.synthetic.places import (
    BAVARIA,
    HLS,
    JULY,
    LANDSAT7,
    LANDSAT8,
    LST,
    MODIS,
    PROVIDER,
    S1,
    S2,
    SOME_BANDS,
    around,
    fetch,
)

BEFORE = Period(dt.date(2012, 1, 1), dt.date(2013, 1, 1))


def test_frames_before_the_sensor_are_empty():
    plan = FetchPlan(S2, ("B4", "B8"), around(BAVARIA), (BEFORE, JULY), fill_value=-9999.0)
    chip = PROVIDER.fetch(plan)
    assert chip.empty_frames == (0,)
    assert (chip.data[0] == -9999).all()
    assert (chip.data[1] > 0).all()
    assert chip.valid is not None
    assert not chip.valid[0].any()
    assert chip.valid[1].all()
    assert {item.frame for item in chip.acquisitions} == {1}


@pytest.mark.parametrize(
    ("collection", "first"),
    [
        (S2, dt.date(2015, 6, 23)),
        (S1, dt.date(2014, 10, 3)),
        (LANDSAT8, dt.date(2013, 4, 11)),
        (MODIS, dt.date(2000, 2, 24)),
        (LST, dt.date(2000, 2, 24)),
    ],
)
def test_a_sensor_has_nothing_before_its_first_day(collection, first):
    grid, day = around(BAVARIA), dt.timedelta(days=1)
    with pytest.raises(NoImagery) as caught:
        fetch(grid, Period(first - 30 * day, first), collection=collection)
    assert caught.value.code == "no_imagery"
    assert not caught.value.retryable
    assert all(part in str(caught.value) for part in (collection, f"{first - 30 * day}..{first}", f"between {first}"))
    chip = fetch(grid, Period(first - 30 * day, first + day), collection=collection)
    assert not chip.empty_frames
    assert [item.time[:10] for item in chip.acquisitions] == [first.isoformat()]


@pytest.mark.parametrize(
    ("collection", "period"),
    [
        (S2, Period(dt.date(2101, 1, 1), dt.date(2102, 1, 1))),
        (LANDSAT7, Period(dt.date(2024, 6, 1), dt.date(2024, 9, 1))),
        (S2, Period(dt.date(2022, 6, 1), dt.date(2022, 6, 1))),
    ],
)
def test_nothing_after_a_mission_or_in_no_time(collection, period):
    with pytest.raises(NoImagery):
        fetch(around(BAVARIA), period, collection=collection, bands=("RED",))


periods = st.builds(
    lambda start, days: Period(start, start + dt.timedelta(days=days)),
    st.dates(dt.date(2016, 1, 1), dt.date(2030, 1, 1)),
    st.integers(1, 400),
)


@settings(deadline=None)
@given(
    frames=st.lists(periods, min_size=1, max_size=4),
    lon=st.floats(-179, 179),
    lat=st.floats(-80, 80),
    collection=st.sampled_from(sorted(SOME_BANDS)),
)
def test_acquisitions_lie_in_their_periods_and_in_order(frames, lon, lat, collection):
    chip = fetch(around((lon, lat), 1), *frames, collection=collection)
    times = [item.time for item in chip.acquisitions]
    assert times == sorted(times)
    for index, period in enumerate(frames):
        mine = [item for item in chip.acquisitions if item.frame == index]
        assert 1 <= len(mine) <= 12
        assert all(period.start.isoformat() <= item.time[:10] < period.end.isoformat() for item in mine)
        assert len({item.id for item in mine}) == len(mine)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", text) for text in times)


@pytest.mark.parametrize(("collection", "days"), [(S2, 5), (S1, 12), (LANDSAT8, 16), (MODIS, 1)])
def test_satellites_come_back_on_time(collection, days):
    period = Period(dt.date(2022, 6, 1), dt.date(2022, 6, 1) + dt.timedelta(days=6 * days))
    chip = fetch(around(BAVARIA), period, collection=collection)
    dates = [dt.date.fromisoformat(item.time[:10]) for item in chip.acquisitions]
    assert [(b - a).days for a, b in pairwise(dates)] == [days] * 5


def test_radar_passes_follow_the_orbit_asked_for():
    plans = [FetchPlan(S1, ("VV",), around(BAVARIA), (JULY,), orbit=o) for o in ("ASCENDING", "DESCENDING")]
    hours = [{item.time[11:13] for item in PROVIDER.fetch(plan).acquisitions} for plan in plans]
    assert hours == [{"17"}, {"05"}]  # 18:00 and 06:00 local solar time
    assert PROVIDER.fetch(plans[0]).facts == (("s1_iw_applied", True), ("s1_iw_relaxed", False))


def test_ids_look_like_those_of_the_collection():
    names = {c: fetch(around(BAVARIA), collection=c).acquisitions[0].id for c in (S2, S1, LANDSAT8, MODIS, HLS)}
    assert re.fullmatch(r"202207\d\dT\d{6}_202207\d\dT\d{6}_T32U[A-Z]{2}", names[S2])
    assert re.fullmatch(r"S1A_IW_GRDH_1SDV_202207\d\dT\d{6}_\w+", names[S1])
    assert re.fullmatch(r"LC08_\d{6}_202207\d\d", names[LANDSAT8])
    assert re.fullmatch(r"2022_07_\d\d", names[MODIS])
    assert re.fullmatch(r"T32U[A-Z]{2}_202207\d\dT\d{6}", names[HLS])
