"""Stage fetch, Earth Engine: the scene list: which frames are empty, and what went into the others."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from rs_embed_core.chip import Acquisition, FetchPlan
from rs_embed_core.errors import JSONValue, NoImagery
from rs_embed_core.providers.gee.collections import collection_of, conditions_of
from rs_embed_core.providers.gee.decode import BadReplyError


@dataclass(frozen=True)
class Scenes:
    """The scenes of a read.

    Attributes:
        acquisitions: in time order.
        empty: frames without any.
        cloud_pct: of those scenes that say it.
    """

    acquisitions: tuple[Acquisition, ...]
    empty: tuple[int, ...]
    cloud_pct: tuple[float, ...]

    @property
    def facts(self) -> tuple[tuple[str, int | float], ...]:
        """For ``Chip.facts``."""
        count = (("scenes", len(self.acquisitions)),)
        if not self.cloud_pct:
            return count
        return (*count, ("cloud_pct_mean", round(sum(self.cloud_pct) / len(self.cloud_pct), 2)))


def parse_scenes(value: object, frames: int) -> Scenes:
    """The answer to ``graph.scene_list``.

    Raises:
        BadReplyError: it has another form.
    """
    try:
        return _parse(value, frames)  # type: ignore[arg-type]  # checked by doing
    except (TypeError, ValueError, LookupError, OverflowError) as error:
        raise BadReplyError(f"no scene list of {frames} frames: {str(value)[:100]} ({error})") from error


def _parse(value: Sequence[Sequence[Sequence[float | str]]], frames: int) -> Scenes:
    acquisitions: list[Acquisition] = []
    clouds: list[float] = []
    empty: list[int] = []
    for frame, (ids, times, *rest) in zip(range(frames), value, strict=True):
        acquisitions += [
            Acquisition(str(name), _iso(float(time)), frame) for name, time in zip(ids, times, strict=True)
        ]
        clouds += [float(cloud) for cloud in (rest[0] if rest else ())]
        if not ids:
            empty.append(frame)
    acquisitions.sort(key=lambda seen: (seen.time, seen.frame, seen.id))
    return Scenes(tuple(acquisitions), tuple(empty), tuple(clouds))


def _iso(ms: float) -> str:
    return dt.datetime.fromtimestamp(ms / 1000, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def no_imagery(plan: FetchPlan, left: Sequence[int]) -> NoImagery:
    """The error of a read without any scene; ``left`` are the scenes at the place, and after each condition."""
    stages = ["at this place", *(f"with {condition}" for condition in conditions_of(plan))]
    found: dict[str, JSONValue] = dict(zip(stages, left, strict=True))
    told = ", ".join(f"{count} {stage}" for stage, count in found.items())
    lost = next((stage for stage, count in found.items() if count == 0), stages[-1])
    hint = "Ask for another window." if left[0] == 0 else f"Loosen a filter: no scene is left {lost}."
    return NoImagery(
        f"no images found: {collection_of(plan)} has {told} in {plan.frames[0].start}..{plan.frames[-1].end}.",
        hint=hint,
        context={
            "collection": collection_of(plan),
            "windows": [period.to_dict() for period in plan.frames],
            "scenes": found,
        },
    )


def parse_counts(value: object, stages: int) -> list[int]:
    """The answer to ``graph.scene_counts``, summed over frames.

    Raises:
        BadReplyError: it has another form.
    """
    if not isinstance(value, list) or not all(isinstance(row, list) and len(row) == stages for row in value):
        raise BadReplyError(f"no counts of {stages} stages: {str(value)[:100]}")
    return [sum(int(count) for count in column) for column in zip(*value, strict=True)]
