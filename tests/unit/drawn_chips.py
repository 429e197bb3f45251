"""A provider that draws its chips, and what tells them apart."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from rs_embed_core.chip import Acquisition, Chip, FetchPlan, Period
from rs_embed_core.geo import Grid
from rs_embed_core.providers.cache import CachedProvider, Shelf, memory_shelf

GRID = Grid("EPSG:3857", (10.0, 0.0, 0.0, 0.0, -10.0, 0.0), 4, 5)
JUNE = Period(dt.date(2022, 6, 1), dt.date(2022, 7, 1))
PLAN = FetchPlan("S2", ("B2", "B3"), GRID, (JUNE,))


def plan(number: int) -> FetchPlan:
    return replace(PLAN, grid=replace(GRID, transform=(10.0, 0.0, 10.0 * number, 0.0, -10.0, 0.0)))


def draw(read: FetchPlan) -> Chip:
    pixels = np.arange(read.pixels, dtype=np.float32).reshape(1, 2, 4, 5) + read.grid.transform[2]
    valid = np.ones((1, 4, 5), np.bool_)
    valid[0, 1, 1] = False
    seen = (Acquisition("scene", "2022-06-03T10:00:00Z", 0),)
    facts = (("requests", 2), ("s1_iw_applied", True), ("note", "x"))
    return Chip(pixels, read.grid, read.bands, read.frames, "drawn", read.collection, valid, (), seen, facts)


@dataclass
class Drawing:
    """A provider that draws, or does what ``do`` says, and counts."""

    do: Callable[[FetchPlan], Chip] = draw
    reads: list[FetchPlan] = field(default_factory=list)
    name: str = "drawn"

    def fetch(self, read: FetchPlan) -> Chip:
        self.reads.append(read)
        return self.do(read)


def cached(provider: Drawing, *, no_imagery_s: float = 60, **shelves: Shelf) -> CachedProvider:
    return CachedProvider(provider, shelves or {"memory": memory_shelf(1e6)}, no_imagery_s=no_imagery_s)


def where(chip: Chip) -> object:
    return dict(chip.facts)["cache"]


def same(one: Chip, other: Chip) -> bool:
    """Equal but for what the facts say of the cache."""
    facts = [tuple(fact for fact in chip.facts if fact[0] not in ("cache", "requests")) for chip in (one, other)]
    rest = [{**vars(chip), "data": None, "valid": None, "facts": None} for chip in (one, other)]
    arrays = np.array_equal(one.data, other.data) and np.array_equal(one.valid, other.valid)  # type: ignore[arg-type]
    return arrays and facts[0] == facts[1] and rest[0] == rest[1]
