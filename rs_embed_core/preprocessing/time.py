"""Stages plan and prepare: how a window becomes frames, and what an empty frame means."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from rs_embed_core.chip import Period
from rs_embed_core.notice import Notice
from rs_embed_core.sample import Sample
from rs_embed_core.specs.request import OptionValue


@dataclass(frozen=True)
class SingleFrame:
    """One composite of the whole window."""

    at_most: int = 1
    when_empty: Literal["keep"] = "keep"

    def periods(self, window: Period, options: Mapping[str, OptionValue]) -> tuple[Period, ...]:
        """The window itself."""
        del options
        return (window,)


@dataclass(frozen=True)
class Frames:
    """Several composites.

    Attributes:
        count: how many frames a window gives under the card's options.
        when_empty: a frame without any acquisition is given the whole-window composite (``backfill``), or left out
            with its date (``drop``).
        at_most: what the network can take.
        when_repeated: a frame that equals an earlier one bit by bit is kept, or dropped with its date.
        widest_gap_days: between neighbours; more is worth a word. None takes any.
        stride_days: length of a frame, from the window's start on; None makes equal parts of the window. One frame
            is the whole window in any case.
        still: what one image of the caller's own stands for: it is repeated for every frame, or is a single one, of the
            whole window.
    """

    count: Callable[[Period, Mapping[str, OptionValue]], int]
    at_most: int
    when_empty: Literal["backfill", "drop"] = "backfill"
    when_repeated: Literal["keep", "drop"] = "keep"
    widest_gap_days: int | None = None
    stride_days: int | None = None
    still: Literal["repeat", "single"] = "repeat"

    def periods(self, window: Period, options: Mapping[str, OptionValue]) -> tuple[Period, ...]:
        """The frames of a window, as many as ``count`` says."""
        count = min(self.count(window, options), self.at_most)
        if self.stride_days is None or count == 1:
            return window.split(count)
        return window.strides(self.stride_days, count)


@dataclass(frozen=True)
class CalendarYear:
    """The calendar year in which the window starts: how precomputed products are published."""

    at_most: int = 1
    when_empty: Literal["keep"] = "keep"

    def periods(self, window: Period, options: Mapping[str, OptionValue]) -> tuple[Period, ...]:
        """The whole year."""
        del options
        return (Period(dt.date(window.start.year, 1, 1), dt.date(window.start.year + 1, 1, 1)),)


def stride_count(window: Period, *, days: int, at_most: int) -> int:
    """Bins of ``days`` from the window's start, the last one cut at its end; at most ``at_most``.

    golden/galileo/spec.md, "Provider input": a window of 92 days gives 4 bins of 30 days (the last of 2). Where
    ``at_most`` bins would leave days uncovered the count is ``at_most`` too, so it is simply capped.
    """
    return max(1, min(at_most, -(-window.days // days)))


def widest_gap(frames: tuple[Period, ...]) -> int:
    """Most days between the middles of neighbouring frames; 0 for a single one."""
    return max((late.middle - early.middle for early, late in itertools.pairwise(frames)), default=dt.timedelta()).days


@dataclass(frozen=True)
class FirstFrame:
    """Drop the time axis of a single-frame model: ``[1, C, H, W]`` to ``[C, H, W]``."""

    def __call__(self, sample: Sample) -> Sample:
        """The sample with ``image`` as ``[C, H, W]``."""
        return sample.with_image(sample.image[0])


@dataclass(frozen=True)
class RepeatSingle:
    """Repeat the frame of a series of one, ``[1, C, H, W]`` to ``[count, C, H, W]``; longer ones stay as they are."""

    count: int

    def __call__(self, sample: Sample) -> Sample:
        """The series; repeating is worth a word."""
        image = sample.image
        if len(image) != 1:
            return sample
        text = f"One frame was given; it stands for all {self.count} of the series."
        repeated = sample.with_image(np.broadcast_to(image, (self.count, *image.shape[1:])).copy())
        return replace(repeated, notices=(*sample.notices, Notice("single_frame", text)))
