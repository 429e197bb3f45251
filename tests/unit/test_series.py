"""Frames of a series that repeat each other or lie far apart."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest

from rs_embed_core import InputPrepSpec, PointBuffer, TemporalSpec
from rs_embed_core.chip import Acquisition, Chip, Period
from rs_embed_core.geo import Grid
from rs_embed_core.plan import Plan, plan
from rs_embed_core.prepare import prepare
from rs_embed_core.preprocessing.time import widest_gap, without_repeats
from rs_embed_core.specs.request import Ask

FOUR = Period(dt.date(2022, 1, 1), dt.date(2022, 5, 1)).split(4)


def _chip(*values: float) -> Chip:
    data = np.array(values, np.float32)[:, None, None, None] * np.ones((1, 1, 2, 2), np.float32)
    frames = Period(dt.date(2022, 1, 1), dt.date(2022, 5, 1)).split(len(values))
    seen = tuple(Acquisition(f"scene {frame}", "2022-01-01T00:00:00Z", frame) for frame in range(len(values)))
    valid = np.arange(len(values))[:, None, None] > np.zeros((1, 2, 2))
    grid = Grid("EPSG:3857", (10, 0, 0, 0, -10, 0), 2, 2)
    return Chip(data, grid, ("B2",), frames, "test", "C", valid, empty_frames=(1, 3), acquisitions=seen)


def test_frames_that_all_differ_are_left_alone() -> None:
    chip = _chip(1, 2, 3, 4)
    assert without_repeats(chip) is chip


def test_a_repeated_frame_goes_with_all_that_belongs_to_it() -> None:
    kept = without_repeats(_chip(1, 2, 1, 3))
    assert kept.data[:, 0, 0, 0].tolist() == [1, 2, 3]
    assert kept.frames == (FOUR[0], FOUR[1], FOUR[3])
    assert kept.valid is not None
    assert kept.valid[:, 0, 0].tolist() == [False, True, True]
    assert kept.empty_frames == (1, 2)
    assert [(seen.id, seen.frame) for seen in kept.acquisitions] == [("scene 0", 0), ("scene 1", 1), ("scene 3", 2)]


@pytest.mark.parametrize("value", [5.0, float("nan")])
def test_a_series_of_one_image_is_one_frame(value: float) -> None:
    kept = without_repeats(_chip(value, value, value))
    assert len(kept.frames) == 1
    assert kept.empty_frames == ()


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
    assert notices == []


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
