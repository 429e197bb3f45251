"""Stage fetch: read a plan's chip from a provider, and give empty frames what the card says."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from rs_embed_core.chip import Chip, FetchPlan, Period
from rs_embed_core.errors import NoImagery
from rs_embed_core.plan import Plan, recipe
from rs_embed_core.providers.base import Provider
from rs_embed_core.providers.calls import COUNTED, in_parallel

type Facts = tuple[tuple[str, str | int | float | bool], ...]


def fetch(plan: Plan, provider: Provider) -> Chip:
    """Read the imagery of one plan; several collections are read at once and joined on the band axis.

    Raises:
        NoImagery: no frame has imagery, nor has the whole window.
        ProviderError: what the provider raised.
    """
    shared = recipe(plan.ask)
    fills = shared.input.time.when_empty == "backfill"

    def read(wanted: FetchPlan, bands: tuple[str, ...]) -> Chip:
        chip = provider.fetch(wanted)
        if fills and chip.empty_frames:
            chip = _backfill(chip, wanted, plan.window, provider)
        return chip.select(bands)  # more are read where other models need them

    if not plan.also:
        return read(plan.fetch, shared.read.bands)
    wanted = zip((plan.fetch, *plan.also), (shared.read, *shared.also), strict=True)
    jobs: list[Callable[[], Chip]] = [partial(read, whole, own.bands) for whole, own in wanted]
    with ThreadPoolExecutor(len(plan.also), thread_name_prefix="also") as threads:
        first, *others = in_parallel(jobs, threads)
    for other in others:
        first = _joined(first, other)
    return first


def _joined(chip: Chip, other: Chip) -> Chip:
    """Both chips' bands in one; where one has no pixel its bands are NaN, and the pixel counts as there."""
    mask, beside = _mask(chip), _mask(other)
    parts = [np.where(seen[:, None], one.data, np.float32(np.nan)) for one, seen in ((chip, mask), (other, beside))]
    either = mask | beside
    acquisitions = sorted((*chip.acquisitions, *other.acquisitions), key=lambda seen: (seen.frame, seen.time, seen.id))
    costs = _added(chip.facts, other)
    known = {name for name, _ in costs}
    return replace(
        chip,
        data=np.concatenate(parts, axis=1),
        valid=None if either.all() else either,
        bands=(*chip.bands, *other.bands),
        collection=f"{chip.collection} + {other.collection}",
        empty_frames=tuple(sorted({*chip.empty_frames, *other.empty_frames})),
        acquisitions=tuple(acquisitions),
        facts=(*costs, *(fact for fact in other.facts if fact[0] not in known)),
    )


def _backfill(chip: Chip, read: FetchPlan, window: Period, provider: Provider) -> Chip:
    """Give empty frames the whole-window composite, or else the nearest frame that has imagery."""
    data, valid = chip.data.copy(), _mask(chip).copy()
    seen = [i for i in range(len(chip.frames)) if i not in chip.empty_frames]
    whole = replace(read, frames=(window,), scenes=not seen)
    facts = chip.facts
    try:
        composite = provider.fetch(whole)
    except NoImagery:
        if not seen:
            raise
        for empty in chip.empty_frames:
            nearest = min(seen, key=lambda i, empty=empty: (abs(i - empty), i))  # type: ignore[misc]  # mypy infers no type for a default in a lambda
            data[empty], valid[empty] = chip.data[nearest], valid[nearest]
    else:
        facts = _added(chip.facts, composite)
        for empty in chip.empty_frames:
            data[empty], valid[empty] = composite.data[0], _mask(composite)[0]
    return replace(chip, data=data, valid=None if valid.all() else valid, facts=facts)


def _added(facts: Facts, other: Chip) -> Facts:
    """A chip's facts, with what the other one cost besides."""
    costs = {name: value for name, value in other.facts if name in COUNTED and isinstance(value, int | float)}
    return tuple(
        (name, value + costs.get(name, 0) if isinstance(value, int | float) and name in COUNTED else value)
        for name, value in facts
    )


def _mask(chip: Chip) -> NDArray[np.bool_]:
    frames, _, height, width = chip.data.shape
    return np.ones((frames, height, width), np.bool_) if chip.valid is None else chip.valid
