"""Frames of a series: how they are cut, and those that are empty, repeat each other or lie far apart."""

from __future__ import annotations

import datetime as dt
import itertools
from dataclasses import replace

import numpy as np
import pytest

from rs_embed_core import InputPrepSpec, PointBuffer, TemporalSpec
from rs_embed_core.chip import Acquisition, Chip, Period
from rs_embed_core.embedding import FrameCount
from rs_embed_core.errors import NoImagery
from rs_embed_core.geo import Grid
from rs_embed_core.plan import Plan, plan
from rs_embed_core.prepare import prepare
from rs_embed_core.preprocessing.series import Series, distinct, series
from rs_embed_core.preprocessing.time import Frames, widest_gap
from rs_embed_core.specs.request import Ask

FOUR = Period(dt.date(2022, 1, 1), dt.date(2022, 5, 1)).split(4)


def _chip(*values: float) -> Chip:
    data = np.array(values, np.float32)[:, None, None, None] * np.ones((1, 1, 2, 2), np.float32)
    frames = Period(dt.date(2022, 1, 1), dt.date(2022, 5, 1)).split(len(values))
    seen = tuple(Acquisition(f"scene {frame}", "2022-01-01T00:00:00Z", frame) for frame in range(len(values)))
    valid = np.arange(len(values))[:, None, None] > np.zeros((1, 2, 2))
    grid = Grid("EPSG:3857", (10, 0, 0, 0, -10, 0), 2, 2)
    return Chip(data, grid, ("B2",), frames, "test", "C", valid, empty_frames=(1, 3), acquisitions=seen)


def _frames(when_empty: str = "backfill", when_repeated: str = "keep") -> Frames:
    return Frames(lambda _window, _options: 4, at_most=12, when_empty=when_empty, when_repeated=when_repeated)


def _series(chip: Chip, time: Frames) -> Series:
    return series(chip, time, requested=len(chip.frames), model="test")


def test_frames_that_all_differ_are_left_alone() -> None:
    chip = replace(_chip(1, 2, 3, 4), empty_frames=())
    taken = _series(chip, _frames(when_repeated="drop"))
    assert taken.chip is chip
    assert (taken.count, taken.notices) == (FrameCount(4, 4, 4, 0), ())


def test_a_repeated_frame_goes_with_all_that_belongs_to_it() -> None:
    taken = _series(_chip(1, 2, 1, 3), _frames(when_repeated="drop"))
    kept = taken.chip
    assert kept.data[:, 0, 0, 0].tolist() == [1, 2, 3]
    assert kept.frames == (FOUR[0], FOUR[1], FOUR[3])
    assert kept.valid is not None
    assert kept.valid[:, 0, 0].tolist() == [False, True, True]
    assert kept.empty_frames == (1, 2)
    assert [(seen.id, seen.frame) for seen in kept.acquisitions] == [("scene 0", 0), ("scene 1", 1), ("scene 3", 2)]
    assert taken.count == FrameCount(requested=4, used=3, distinct=3, empty=2)


@pytest.mark.parametrize("value", [5.0, float("nan")])
def test_a_series_of_one_image_is_one_frame(value: float) -> None:
    kept = _series(_chip(value, value, value), _frames(when_repeated="drop")).chip
    assert len(kept.frames) == 1
    assert kept.empty_frames == ()


def test_frames_that_differ_in_one_pixel_are_not_the_same() -> None:
    chip = _chip(1, 1)
    chip.data[1, 0, 0, 1] = 2
    assert distinct(chip) == (0, 1)


def test_empty_frames_are_left_out_with_their_dates() -> None:
    chip = replace(_chip(1, 2, 3, 4), valid=None)
    chip.data[2] = np.nan  # a frame of the caller's own pixels in which nothing is there
    taken = _series(chip, _frames("drop"))
    assert taken.chip.frames == (FOUR[0],)
    assert taken.chip.data[:, 0, 0, 0].tolist() == [1]
    assert taken.count == FrameCount(requested=4, used=1, distinct=1, empty=3)
    (notice,) = taken.notices
    assert notice.code == "empty_frames"
    assert notice.text == "3 of 4 frames had no acquisition and were left out."


def test_a_series_of_empty_frames_is_no_imagery() -> None:
    with pytest.raises(NoImagery, match="none of the 4 frames"):
        _series(replace(_chip(1, 2, 3, 4), empty_frames=(0, 1, 2, 3)), _frames("drop"))


def test_frames_that_were_back_filled_are_not_called_repeated() -> None:
    filled = _series(_chip(1, 7, 2, 7), _frames())  # 1 and 3 took the composite of the window
    assert filled.count == FrameCount(requested=4, used=4, distinct=3, empty=2)
    assert [notice.code for notice in filled.notices] == ["empty_frames"]
    repeated = _series(_chip(7, 7, 2, 7), _frames())
    assert [notice.code for notice in repeated.notices] == ["empty_frames", "repeated_frames"]


@pytest.mark.parametrize(
    ("days", "parts"),
    [
        (1, [1]),
        (30, [30]),
        (92, [30, 30, 30, 2]),
        (365, [30] * 12),  # five days are left out, as in the reference
        (389, [30] * 12),
        (390, [32, 33] * 6),
    ],
)
def test_frames_of_thirty_days(days: int, parts: list[int]) -> None:
    window = Period(dt.date(2022, 1, 1), dt.date(2022, 1, 1) + dt.timedelta(days))
    frames = window.strides(30, 12)
    assert [frame.days for frame in frames] == parts
    assert all(early.end == late.start for early, late in itertools.pairwise(frames))
    assert replace(_frames(), stride_days=30, count=lambda _window, _options: 1).periods(window, {}) == (window,)


def test_the_widest_gap_is_between_middles() -> None:
    days = [dt.date(2022, 1, 1), dt.date(2022, 1, 11), dt.date(2022, 3, 1)]
    frames = tuple(Period(day, day + dt.timedelta(2)) for day in days)
    assert widest_gap(frames) == 49
    assert widest_gap(frames[:1]) == 0


def _planned(model: str, end: str = "2022-09-01", **more: object) -> Plan:
    return plan(Ask(model, temporal=TemporalSpec.range("2022-06-01", end), **more).at(PointBuffer(0, 0, 320)))


def _prepared(request: Plan, side: int = 32) -> tuple[dict[str, np.ndarray], list[str]]:
    """Arrays, and what is said of the frames, where the last frame repeats the first."""
    read = request.fetch
    data = np.random.default_rng(0).integers(0, 4000, (len(read.frames), len(read.bands), side, side))
    data[-1] = data[0]
    grid = read.grid.with_shape(side, side)
    chip = Chip(data.astype(np.float32), grid, read.bands, read.frames, "test", read.collection)
    ready = prepare(chip, request)
    notices = [notice.code for notice in ready.info.notices if notice.code in ("repeated_frames", "wide_gaps")]
    return dict(ready.samples[0].arrays), notices


def test_a_model_drops_repeats_with_their_dates() -> None:
    arrays, notices = _prepared(_planned("prithvi"))
    assert arrays["image"].shape[0] == 2
    assert arrays["temporal_coords"].tolist() == [[2022, 167], [2022, 197]]
    assert notices == ["repeated_frames"]


def test_or_it_keeps_them() -> None:
    arrays, notices = _prepared(_planned("galileo"))
    assert arrays["image"].shape[0] == len(arrays["months"]) == 4
    assert notices == ["repeated_frames"]


def test_all_tiles_have_the_same_frames() -> None:
    request = _planned("prithvi", input_prep=InputPrepSpec.tile())
    read = request.fetch
    data = np.ones((3, 6, 300, 300), np.float32)
    data[1, :, :10, :10] = 2  # only the first tile can tell the second frame from the others
    grid = read.grid.with_shape(300, 300)
    ready = prepare(Chip(data, grid, read.bands, read.frames, "test", read.collection), request)
    assert {sample.image.shape[0] for sample in ready.samples} == {2}


def test_a_wide_gap_is_worth_a_word() -> None:
    _, notices = _prepared(_planned("prithvi", end="2025-06-01"))  # four frames in three years: 274 days apart
    assert notices == ["repeated_frames", "wide_gaps"]
