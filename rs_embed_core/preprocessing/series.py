"""Stage prepare: the frames of a chip that a network gets, and what to say of the others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rs_embed_core.chip import Chip
from rs_embed_core.embedding import FrameCount
from rs_embed_core.errors import NoImagery
from rs_embed_core.notice import Notice
from rs_embed_core.preprocessing.time import Frames, widest_gap


@dataclass(frozen=True, eq=False)
class Series:
    """The frames that a network gets, how many they are, and what is worth saying of them."""

    chip: Chip
    count: FrameCount
    notices: tuple[Notice, ...] = ()


def single(chip: Chip, requested: int) -> Series:
    """The chip of a model without a time axis, as it is."""
    used = len(chip.frames)
    return Series(chip, FrameCount(requested, used, used, len(chip.empty_frames)))


def series(chip: Chip, time: Frames, *, requested: int, model: str) -> Series:
    """The frames of a chip under a card's policy.

    Args:
        requested: how many frames were asked of the provider.
        model: whose card it is, for the notices.

    Raises:
        NoImagery: every frame is empty.
    """
    empty = chip.empty_frames
    if time.when_empty == "drop":
        empty = blank(chip)
        if len(empty) == len(chip.frames):
            msg = f"none of the {len(empty)} frames of {chip.collection} has imagery."
            raise NoImagery(msg, hint="Ask for a longer window, more cloud (cloudy_pct) or another place.")
        chip = chip.take([frame for frame in range(len(chip.frames)) if frame not in empty])
    used = len(chip.frames)
    unlike = distinct(chip)
    if time.when_repeated == "drop" and len(unlike) < used:
        chip = chip.take(unlike)
    count = FrameCount(requested, len(chip.frames), len(unlike), len(empty))
    return Series(
        chip, count, (*_of_empty(count, time), *_of_repeated(count, used, time), *_of_gaps(chip, time, model))
    )


def _of_empty(count: FrameCount, time: Frames) -> tuple[Notice, ...]:
    if not count.empty:
        return ()
    fate = "were left out" if time.when_empty == "drop" else "took the composite of the whole window"
    text = f"{count.empty} of {count.requested} frames had no acquisition and {fate}."
    return (Notice("empty_frames", text),)


def _of_repeated(count: FrameCount, found: int, time: Frames) -> tuple[Notice, ...]:
    """Back-filled frames equal one another: they have a notice already."""
    repeats = found - count.distinct
    backfilled = count.empty if time.when_empty == "backfill" else 0
    if repeats <= max(0, backfilled - 1):
        return ()
    fate = " and were left out" if time.when_repeated == "drop" else ""
    text = f"{repeats} of {found} frames repeated an earlier one{fate}."
    return (Notice("repeated_frames", text),)


def _of_gaps(chip: Chip, time: Frames, model: str) -> tuple[Notice, ...]:
    gap = widest_gap(chip.frames)
    if time.widest_gap_days is None or gap <= time.widest_gap_days:
        return ()
    text = f"Neighbouring frames lie up to {gap} days apart; {model} knows {time.widest_gap_days}."
    return (Notice("wide_gaps", text),)


def distinct(chip: Chip) -> tuple[int, ...]:
    """The frames that equal no earlier one bit by bit."""
    kept: dict[bytes, list[int]] = {}
    for frame, image in enumerate(chip.data):
        alike = kept.setdefault(image[:, image.shape[1] // 2].tobytes(), [])  # one row tells most frames apart
        if not any(np.array_equal(image, chip.data[other], equal_nan=True) for other in alike):
            alike.append(frame)
    return tuple(sorted(frame for alike in kept.values() for frame in alike))


def blank(chip: Chip) -> tuple[int, ...]:
    """The frames that hold nothing: without any acquisition, or without any pixel that is there."""
    seen = np.isfinite(chip.data).any(axis=1)
    if chip.valid is not None:
        seen &= chip.valid
    nothing = np.flatnonzero(~seen.any(axis=(1, 2)))
    return tuple(sorted({*chip.empty_frames, *map(int, nothing)}))
