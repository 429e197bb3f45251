"""Stages fetch and prepare, as fetch actors and exports run them: an ROI becomes samples, ROIs become a block."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rs_embed_core.errors import ProviderError, RSEmbedError
from rs_embed_core.fetch import fetch
from rs_embed_core.plan import Plan
from rs_embed_core.prepare import prepare
from rs_embed_core.providers.base import Provider
from rs_embed_core.sample import Sample, collate, group_by_signature
from serve_app.observe import tracing
from serve_app.observe.fetching import Bills, Stopwatch
from serve_app.wire.blocks import BlockInfo, BlockItem, Payload, Slot

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Read:
    """One ROI, read and prepared, or its error; where its samples go in a block is not known yet.

    Attributes:
        waited_s: for its turn, before it was read.
    """

    item: BlockItem
    samples: tuple[Sample, ...] = ()
    waited_s: float = 0.0


def read(index: int, plan: Plan, *, provider: Provider, bills: Bills) -> Read:
    """Read and prepare one ROI; its error is its result, and what was asked is on the bill either way."""
    took = Stopwatch()
    try:
        with took, bills.of(provider.name), tracing.span("read", index=index, provider=provider.name) as work:
            chip = fetch(plan, bills.counting(provider))
            work.note(dict(chip.facts))
        with tracing.span("prepare", index=index):
            prepared = prepare(chip, plan)
    except RSEmbedError as error:
        return Read(BlockItem(index, fetch_ms=took.ms, error=error))
    except Exception as error:  # noqa: BLE001 - a process edge: whatever a provider raises is this ROI's problem
        _log.exception("reading or preparing failed", extra={"index": index})
        text = f"reading or preparing failed: {type(error).__name__}: {error}"
        return Read(BlockItem(index, fetch_ms=took.ms, error=ProviderError(text, retryable=False)))
    return Read(BlockItem(index, prepared.info, fetch_ms=took.ms), prepared.samples)


def stack(rois: Sequence[Read]) -> tuple[BlockInfo, Payload]:
    """The two halves of a block: the samples of its ROIs are stacked by signature."""
    samples = [sample for roi in rois for sample in roi.samples]
    groups = group_by_signature(samples)
    batches = tuple(collate([samples[i] for i in group]) for group in groups.values())
    slots = {i: Slot(b, position) for b, group in enumerate(groups.values()) for position, i in enumerate(group)}
    items, at = [], 0
    for roi in rois:
        own = tuple(slots[i] for i in range(at, at + len(roi.samples)))
        at += len(roi.samples)
        items.append(replace(roi.item, slots=own))
    return BlockInfo(tuple(items), len(samples)), Payload(batches)
