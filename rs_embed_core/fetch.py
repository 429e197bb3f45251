"""Stage fetch: read a plan's chip from a provider, and give empty frames what the card says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rs_embed_core.chip import Chip
from rs_embed_core.errors import NoImagery
from rs_embed_core.plan import Plan, recipe
from rs_embed_core.providers.base import Provider
from rs_embed_core.providers.calls import COUNTED


def fetch(plan: Plan, provider: Provider) -> Chip:
    """Read the imagery of one plan.

    Raises:
        NoImagery: no frame has imagery, nor has the whole window.
        ProviderError: what the provider raised.
    """
    chip = provider.fetch(plan.fetch)
    if chip.empty_frames and recipe(plan.ask).input.time.when_empty == "backfill":
        return _backfill(chip, plan, provider)
    return chip


def _backfill(chip: Chip, plan: Plan, provider: Provider) -> Chip:
    """Give empty frames the whole-window composite, or else the nearest frame that has imagery."""
    data, valid = chip.data.copy(), _mask(chip).copy()
    seen = [i for i in range(len(chip.frames)) if i not in chip.empty_frames]
    whole = replace(plan.fetch, frames=(plan.window,), scenes=not seen)
    facts = chip.facts
    try:
        composite = provider.fetch(whole)
    except NoImagery:
        if not seen:
            raise
        for empty in chip.empty_frames:
            nearest = min(seen, key=lambda i, empty=empty: (abs(i - empty), i))  # type: ignore[misc]
            data[empty], valid[empty] = chip.data[nearest], valid[nearest]
    else:
        facts = _added(chip, composite)
        for empty in chip.empty_frames:
            data[empty], valid[empty] = composite.data[0], _mask(composite)[0]
    return replace(chip, data=data, valid=None if valid.all() else valid, facts=facts)


def _added(chip: Chip, other: Chip) -> tuple[tuple[str, str | int | float | bool], ...]:
    """The chip's facts, with what both cost."""
    costs = {name: value for name, value in other.facts if name in COUNTED and isinstance(value, int | float)}
    return tuple(
        (name, value + costs.get(name, 0) if isinstance(value, int | float) and name in COUNTED else value)
        for name, value in chip.facts
    )


def _mask(chip: Chip) -> NDArray[np.bool_]:
    frames, _, height, width = chip.data.shape
    return np.ones((frames, height, width), np.bool_) if chip.valid is None else chip.valid
