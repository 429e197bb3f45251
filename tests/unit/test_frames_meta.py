"""What becomes of frames and collections that are not all there: any pattern, through fetch and prepare."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rs_embed_core import PointBuffer, TemporalSpec
from rs_embed_core.card import ModelCard
from rs_embed_core.chip import Acquisition, Chip, FetchPlan, Period
from rs_embed_core.embedding import FrameCount
from rs_embed_core.errors import NoImagery
from rs_embed_core.fetch import fetch
from rs_embed_core.inputs import Source
from rs_embed_core.plan import Plan, plan
from rs_embed_core.prepare import prepare
from rs_embed_core.prepared import Prepared
from rs_embed_core.preprocessing.time import Frames, stride_count
from rs_embed_core.registry import get_card
from rs_embed_core.specs.request import Ask
from tests.unit.small_cards import registered

S2, S1 = "COPERNICUS/S2_SR_HARMONIZED", "COPERNICUS/S1_GRD"
RADAR = Source(S1, ("VV", "VH"), cloudy_pct=None, linear=False)
LEVEL = {S2: 1000, S1: 2000}  # of the first frame; every other has a number of its own
COMPOSITE = 900  # above it: the composite of the whole window
MOST = 12
DAY = dt.timedelta(1)

windows = st.builds(
    lambda start, days: Period(start, start + days * DAY), st.dates(dt.date(2016, 1, 1)), st.integers(31, 500)
)
patterns = st.sets(st.integers(0, MOST - 1))
"""Frames without any acquisition, of those that there are."""


@dataclass
class Archive:
    """Imagery that tells its collection and frame; a frame of ``empty`` has none, a pixel of ``holes`` neither.

    Attributes:
        window: the dates whose only frame is the composite of all.
        holes: bool ``[H, W]`` by collection.
    """

    window: Period
    empty: Mapping[str, set[int]] = field(default_factory=dict)
    holes: Mapping[str, np.ndarray] = field(default_factory=dict)
    name: str = "archive"
    reads: list[FetchPlan] = field(default_factory=list)

    def fetch(self, read: FetchPlan) -> Chip:
        self.reads.append(read)
        whole = read.frames == (self.window,)
        empty = [] if whole else sorted(self.empty.get(read.collection, set()) & set(range(len(read.frames))))
        levels = [COMPOSITE] if whole else [10 * frame for frame in range(len(read.frames))]
        levels = [LEVEL[read.collection] + level for level in levels]
        shape = (len(levels), len(read.bands), read.grid.height, read.grid.width)
        data = np.broadcast_to(np.array(levels, np.float32)[:, None, None, None], shape).copy()
        valid = np.ones((shape[0], *shape[2:]), np.bool_)
        valid[empty] = False
        if read.collection in self.holes:
            valid &= ~self.holes[read.collection]
        data[~np.broadcast_to(valid[:, None], shape)] = read.fill_value
        seen = tuple(
            Acquisition(f"{read.collection} {frame}", period.start.isoformat(), frame)
            for frame, period in enumerate(read.frames)
            if frame not in empty
        )
        mask = None if valid.all() else valid
        return Chip(data, read.grid, read.bands, read.frames, self.name, read.collection, mask, tuple(empty), seen)


def _card(when_empty: Literal["backfill", "drop"], also: tuple[Source, ...] = ()) -> ModelCard:
    """Galileo with another policy: its months tell which frames are left."""
    card, _ = get_card("galileo")
    (entry,) = card.inputs
    frames = Frames(
        lambda window, _options: stride_count(window, days=30, at_most=MOST), MOST, when_empty, stride_days=30
    )
    bands = (*entry.bands, *(band for source in also for band in source.bands))
    return replace(card, inputs=(replace(entry, time=frames, bands=bands, also=also),), departs="")


def _planned(window: Period) -> Plan:
    dates = TemporalSpec.range(window.start.isoformat(), window.end.isoformat())
    ask = Ask("galileo", temporal=dates, model_config=(("image_size", 8),))
    return plan(ask.at(PointBuffer(0, 0, 40)))  # 8 x 8 pixels


def _levels(ready: Prepared, channel: int = 0) -> list[float]:
    """The value of every frame, which is the same at each pixel."""
    image = ready.samples[0].image[:, channel]
    assert np.array_equal(image, np.broadcast_to(image[:, :1, :1], image.shape))
    return [float(value) for value in image[:, 0, 0]]


def _months(ready: Prepared) -> list[int]:
    return [int(month) for month in ready.samples[0].arrays["months"]]


def _codes(ready: Prepared) -> list[str]:
    return [notice.code for notice in ready.info.notices]


@given(windows, patterns)
def test_empty_frames_are_left_out_with_all_that_belongs_to_them(window: Period, pattern: set[int]) -> None:
    with registered(_card("drop")):
        request = _planned(window)
        frames = request.fetch.frames
        kept = [frame for frame in range(len(frames)) if frame not in pattern]
        archive = Archive(window, {S2: pattern})
        chip = fetch(request, archive)
        assert archive.reads == [request.fetch]  # nothing is filled, so nothing more is read
        if not kept:
            with pytest.raises(NoImagery, match=f"none of the {len(frames)} frames"):
                prepare(chip, request)
            return
        ready = prepare(chip, request)
    assert _levels(ready) == [1000 + 10 * frame for frame in kept]
    assert _months(ready) == [frames[frame].middle.month - 1 for frame in kept]
    gone = len(frames) - len(kept)
    assert ready.info.frames == FrameCount(requested=len(frames), used=len(kept), distinct=len(kept), empty=gone)
    assert _codes(ready) == (["empty_frames"] if gone else [])
    seen = [(f"{S2} {frame}", place) for place, frame in enumerate(kept)]
    assert [(one.id, one.frame) for one in ready.info.acquisitions] == seen


@given(windows, patterns)
def test_or_they_are_filled_and_keep_their_dates(window: Period, pattern: set[int]) -> None:
    with registered(_card("backfill")):
        request = _planned(window)
        frames = request.fetch.frames
        archive = Archive(window, {S2: pattern})
        ready = prepare(fetch(request, archive), request)
    empty = [frame for frame in range(len(frames)) if frame in pattern]
    expected = [1000 + (COMPOSITE if frame in empty else 10 * frame) for frame in range(len(frames))]
    assert _levels(ready) == expected
    assert _months(ready) == [frame.middle.month - 1 for frame in frames]
    count = FrameCount(len(frames), used=len(frames), distinct=len(set(expected)), empty=len(empty))
    assert ready.info.frames == count
    assert _codes(ready) == (["empty_frames"] if empty else [])
    assert [read.frames for read in archive.reads] == [frames, (window,)][: 1 + bool(empty)]


@given(windows, patterns, patterns)
def test_each_collection_is_filled_by_itself(window: Period, optical: set[int], radar: set[int]) -> None:
    with registered(_card("backfill", also=(RADAR,))):
        request = _planned(window)
        frames = range(len(request.fetch.frames))
        archive = Archive(window, {S2: optical, S1: radar})
        ready = prepare(fetch(request, archive), request)
    for channel, level, pattern in ((0, LEVEL[S2], optical), (-1, LEVEL[S1], radar)):
        expected = [level + (COMPOSITE if frame in pattern else 10 * frame) for frame in frames]
        assert _levels(ready, channel) == expected
    either, both = (optical | radar) & set(frames), optical & radar & set(frames)
    alike = max(0, len(both) - 1)  # composites of both sensors
    count = FrameCount(len(frames), used=len(frames), distinct=len(frames) - alike, empty=len(either))
    assert ready.info.frames == count
    assert _codes(ready) == (["empty_frames"] if either else [])
    filled = [collection for collection, pattern in ((S2, optical), (S1, radar)) if pattern & set(frames)]
    composites = [read.collection for read in archive.reads if read.frames == (window,)]
    assert sorted(composites) == sorted(filled)
    assert len(archive.reads) == 2 + len(filled)


@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.1, 0.5]), st.sampled_from([0.0, 0.1, 0.5]))
def test_a_pixel_keeps_what_one_collection_has_of_it(seed: int, optical: float, radar: float) -> None:
    window = Period(dt.date(2022, 6, 1), dt.date(2022, 7, 15))  # two frames
    draw = np.random.default_rng(seed)
    holes = {S2: draw.random((8, 8)) < optical, S1: draw.random((8, 8)) < radar}
    for hole in holes.values():
        hole[0, 0] = False  # one pixel is whole
    with registered(_card("drop", also=(RADAR,))):
        request = _planned(window)
        chip = fetch(request, Archive(window, holes=holes))
        ready = prepare(chip, request)
    assert chip.bands[-2:] == ("VV", "VH")
    for channel, collection in ((0, S2), (-1, S1)):
        there = ~holes[collection]
        for frame in range(2):
            level = LEVEL[collection] + 10 * frame
            np.testing.assert_array_equal(chip.data[frame, channel], np.where(there, level, np.nan))
            np.testing.assert_array_equal(ready.samples[0].image[frame, channel], np.where(there, level, 0))
    none = holes[S2] & holes[S1]
    assert (chip.valid is None) == (not none.any())
    if chip.valid is not None:
        np.testing.assert_array_equal(chip.valid, np.broadcast_to(~none, (2, 8, 8)))
    missing = 2 * int((holes[S2] | holes[S1]).sum())
    texts = [notice.text for notice in ready.info.notices]
    assert [text.split(" were")[0] for text in texts] == ([f"{missing} of 128 pixels"] if missing else [])


@given(windows, st.integers(1, 60), st.integers(1, 24))
def test_strides_leave_less_than_one_uncovered(window: Period, days: int, most: int) -> None:
    frames = window.strides(days, most)
    assert 1 <= len(frames) <= most
    assert frames[0].start == window.start
    assert all(early.end == late.start for early, late in pairwise(frames))
    assert 0 <= (window.end - frames[-1].end).days < days
    if window.days < (most + 1) * days:
        assert {frame.days for frame in frames[:-1]} <= {days}
        assert 1 <= frames[-1].days <= days
    else:
        assert frames == window.split(most)
