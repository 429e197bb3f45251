"""Metrics of stages fetch, cache and prepare: what a block of ROIs cost, written once per block."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from rs_embed_core.geo import FULL_INSET, WEB_MERCATOR, Grid, Inset, projection
from rs_embed_core.prepared import ChipInfo
from serve_app.observe import metrics
from serve_app.observe.measures import Count
from serve_app.observe.outcomes import Outcome, outcomes_of
from serve_app.wire.blocks import BlockItem

_COUNTED: Mapping[str, tuple[Count, float]] = {  # by their name in ``Chip.facts``, and what one of them is
    "requests": (metrics.FETCH_REQUESTS, 1.0),
    "retries": (metrics.FETCH_RETRIES, 1.0),
    "bytes": (metrics.FETCH_BYTES, 1.0),
    "queued_ms": (metrics.LIMITER_WAIT_SECONDS, 1e-3),
}
_PAID = ("miss", "none")  # what ``cache`` says of a chip that was read: looked for in vain, or not at all


@dataclass(frozen=True)
class Reads:
    """What some ROIs cost.

    Attributes:
        outcomes: how many came out how.
        found: where chips were that a cache was asked for.
        counts: the sums of what chips count, by ``Chip.facts`` name.
        pixels: of the chips that were read.
        km2: the ground under those.
        prepare_s: time spent preparing.
    """

    outcomes: Mapping[Outcome, int] = field(default_factory=dict)
    found: Mapping[str, int] = field(default_factory=dict)
    counts: Mapping[str, float] = field(default_factory=dict)
    pixels: int = 0
    km2: float = 0.0
    prepare_s: float = 0.0

    @classmethod
    def of(cls, items: Iterable[BlockItem]) -> Reads:
        """The sum over ROIs."""
        found: Counter[str] = Counter()
        counts = dict.fromkeys(_COUNTED, 0.0)
        pixels, ground, prepare_ms = 0, 0.0, 0.0
        items = list(items)
        for item in items:
            if item.info is None:
                continue
            facts = dict(item.info.facts)
            prepare_ms += item.info.prepare_ms
            for name in _COUNTED:
                counts[name] += float(facts.get(name, 0))
            where = str(facts.get("cache", "none"))
            if where != "none":
                found[where] += 1
            if where in _PAID:
                pixels += _pixels(item.info)
                ground += km2(item.info.grid)
        return cls(outcomes_of(item.error for item in items), found, counts, pixels, ground, prepare_ms / 1e3)


def _pixels(info: ChipInfo) -> int:
    return info.grid.height * info.grid.width * max(1, info.frames.requested)


def km2(grid: Grid, inset: Inset = FULL_INSET) -> float:
    """Square kilometres of ground under (an inset of) a grid; 0 where nothing says where it lies."""
    top, bottom, left, right = inset
    return (bottom - top) * (right - left) * _km2(grid)


@lru_cache(maxsize=1024)  # several models are asked about the same places
def _km2(grid: Grid) -> float:
    if not grid.crs:
        return 0.0
    shrinks = 2 if grid.crs == WEB_MERCATOR else int(projection(grid.crs).is_geographic)  # of the two directions
    parallel = math.cos(math.radians(grid.centre[1])) if shrinks else 1.0
    a, _, _, _, e, _ = grid.transform
    pixel_m2 = grid.pixel_m**2 * abs(e / a)
    return pixel_m2 * grid.height * grid.width * parallel**shrinks / 1e6


def count_block(items: Iterable[BlockItem], *, provider: str, model: str, samples: int) -> None:
    """Count the ROIs of a block, all of one request."""
    items = list(items)
    reads = Reads.of(items)
    for (outcome, fault), number in reads.outcomes.items():
        metrics.FETCH_CHIPS.add(number, provider, outcome, fault)
    for where, number in reads.found.items():
        metrics.CACHE_CHIPS.add(number, provider, where)
    for name, (measure, unit) in _COUNTED.items():
        measure.add(unit * reads.counts[name], provider)
    metrics.FETCH_PIXELS.add(reads.pixels, provider)
    metrics.FETCH_KM2.add(reads.km2, provider)
    metrics.PREPARE_SECONDS.add(reads.prepare_s, model)
    metrics.PREPARE_SAMPLES.add(samples, model)
    for item in items:
        if item.info is not None:
            metrics.FETCH_SECONDS.observe(item.fetch_ms / 1e3, provider)
