"""How a window becomes frames, for any window (earth_engine.md, 1.8)."""

from __future__ import annotations

import datetime as dt
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from rs_embed_core.chip import Period
from rs_embed_core.preprocessing.time import CalendarYear, Frames, stride_count

DAY = dt.timedelta(1)
windows = st.builds(
    lambda start, days: Period(start, start + days * DAY),
    st.dates(dt.date(1984, 1, 1), dt.date(2090, 1, 1)),
    st.integers(1, 2000),
)


@given(windows, st.integers(1, 40))
def test_bins_follow_each_other_and_cover_the_window(window: Period, parts: int) -> None:
    bins = window.split(parts)
    assert 1 <= len(bins) <= parts
    assert bins[0].start == window.start
    assert all(one.days >= 1 for one in bins)
    if parts <= window.days:  # every bin has a day of its own
        assert len(bins) == parts
        assert all(one.end == other.start for one, other in pairwise(bins))
        assert bins[-1].end == window.end
        assert max(one.days for one in bins) - min(one.days for one in bins) <= 1
    else:
        assert all(one.start >= window.start and one.start < window.end for one in bins)


@given(windows, st.integers(1, 40))
def test_the_bound_of_a_bin_is_the_floor_of_its_share(window: Period, parts: int) -> None:
    if parts <= window.days:
        bounds = [window.start + (window.days * i // parts) * DAY for i in range(parts + 1)]
        assert [(one.start, one.end) for one in window.split(parts)] == list(pairwise(bounds))


@given(windows, st.integers(1, 12))
def test_a_series_has_no_more_frames_than_the_network_takes(window: Period, most: int) -> None:
    frames = Frames(lambda period, _: stride_count(period, days=30, at_most=12), at_most=most)
    assert 1 <= len(frames.periods(window, {})) <= min(most, -(-window.days // 30))


@given(windows)
def test_a_product_s_year_is_the_one_in_which_the_window_starts(window: Period) -> None:
    (year,) = CalendarYear().periods(window, {})
    assert (year.start.month, year.start.day, year.end) == (1, 1, dt.date(window.start.year + 1, 1, 1))
    assert year.start <= window.start < year.end
