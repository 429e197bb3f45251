"""Metrics of stages fetch, cache and prepare: how a block's ROIs came out, and ``Bills``, what reads cost."""

from __future__ import annotations

import math
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache

from rs_embed_core.chip import Chip, FetchPlan
from rs_embed_core.geo import FULL_INSET, WEB_MERCATOR, Grid, Inset, projection
from rs_embed_core.providers.base import Provider
from rs_embed_core.providers.cache import Shelf
from rs_embed_core.providers.calls import Tally, billed_to
from serve_app.observe import metrics
from serve_app.observe.measures import Count
from serve_app.observe.outcomes import outcomes_of
from serve_app.wire.blocks import BlockItem

_COUNTED: Mapping[str, tuple[Count, float]] = {  # by their name in ``Tally``, and what one of them is
    "requests": (metrics.FETCH_REQUESTS, 1.0),
    "retries": (metrics.FETCH_RETRIES, 1.0),
    "bytes": (metrics.FETCH_BYTES, 1.0),
    "queued_ms": (metrics.LIMITER_WAIT_SECONDS, 1e-3),
}
type _Series = tuple[Count, tuple[str, ...]]
"""A counter and its labels."""

_PAID = ("miss", "none")  # what ``cache`` says of a chip that was read: looked for in vain, or not at all


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


def count_block(
    items: Iterable[BlockItem], *, provider: str, model: str, samples: int, waits_s: Iterable[float] = ()
) -> None:
    """Count the ROIs of a block, all of one request.

    Args:
        waits_s: for how long they waited for their turn.
    """
    items = list(items)
    for (outcome, fault), number in outcomes_of(item.error for item in items).items():
        metrics.FETCH_CHIPS.add(number, provider, outcome, fault)
    prepare_ms = sum(item.info.prepare_ms for item in items if item.info is not None)
    metrics.PREPARE_SECONDS.add(prepare_ms / 1e3, model)
    metrics.PREPARE_SAMPLES.add(samples, model)
    for item in items:
        metrics.FETCH_SECONDS.observe(item.fetch_ms / 1e3, provider)
    for wait_s in waits_s:
        metrics.FETCH_WAIT_SECONDS.observe(wait_s, provider)


class Stopwatch:
    """How long a block took, also where it failed.

    Attributes:
        ms: milliseconds.
    """

    ms = 0.0

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.ms = 1e3 * (time.perf_counter() - self._started)


class Bills:
    """What this process's reads cost, by provider, whether or not they succeed and whether or not somebody waits.

    Threads add to it all the time; metrics are written when told to.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bills: dict[str, Tally] = {}
        self._written: dict[str, dict[str, float]] = {}
        self._chips: defaultdict[_Series, float] = defaultdict(float)  # since the last time

    def of(self, provider: str) -> AbstractContextManager[None]:
        """Bill what is read in the block."""
        with self._lock:
            bill = self._bills.setdefault(provider, Tally())
        return billed_to(bill)

    def counting(self, provider: Provider) -> Provider:
        """The provider; each chip that it gives counts, with where it was found or else how large it is."""
        return _Counting(provider, self._count)

    def _count(self, provider: str, chip: Chip) -> None:
        where = str(dict(chip.facts).get("cache", "none"))
        amounts: dict[_Series, float] = {}
        if where != "none":
            amounts[metrics.CACHE_CHIPS, (provider, where)] = 1
        if where in _PAID:
            frames, _, height, width = chip.data.shape
            amounts[metrics.FETCH_PIXELS, (provider,)] = frames * height * width
            amounts[metrics.FETCH_KM2, (provider,)] = km2(chip.grid)
        with self._lock:
            for series, amount in amounts.items():
                self._chips[series] += amount

    def write(self) -> None:
        """Write what has come since the last time."""
        with self._lock:
            for provider, bill in self._bills.items():
                before, now = self._written.get(provider, {}), bill.counts()
                for name, (measure, unit) in _COUNTED.items():
                    measure.add(unit * (now[name] - before.get(name, 0.0)), provider)
                self._written[provider] = now
            for (measure, labels), amount in self._chips.items():
                measure.add(amount, *labels)
            self._chips.clear()


@dataclass(frozen=True)
class _Counting:
    """See ``Bills.counting``."""

    provider: Provider
    count: Callable[[str, Chip], None]

    @property
    def name(self) -> str:
        return self.provider.name

    def fetch(self, plan: FetchPlan) -> Chip:
        chip = self.provider.fetch(plan)
        self.count(self.name, chip)
        return chip


class Shelves:
    """How full the cache of this process is, by the name that ``Chip.facts`` calls each shelf."""

    def __init__(self, shelves: Mapping[str, Shelf]) -> None:
        self._shelves = shelves
        self._failures = dict.fromkeys(shelves, 0)

    def write(self) -> None:
        """Write levels, and the failures since the last time."""
        for name, shelf in self._shelves.items():
            metrics.CACHE_BYTES.set(shelf.nbytes, name)
            failures = shelf.failures
            metrics.CACHE_FAILURES.add(failures - self._failures[name], name)
            self._failures[name] = failures
