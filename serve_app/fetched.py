"""Stages fetch and prepare of one ROI, and the samples of several stacked: fetch actors and exports share it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from rs_embed_core.errors import ProviderError, RSEmbedError
from rs_embed_core.fetch import fetch
from rs_embed_core.plan import Plan
from rs_embed_core.prepare import prepare
from rs_embed_core.providers.base import Provider
from rs_embed_core.sample import Sample, collate, group_by_signature
from serve_app.observe import tracing
from serve_app.wire.blocks import BlockInfo, BlockItem, Payload, Slot


@dataclass(frozen=True, eq=False)
class Fetched:
    """One ROI, read and prepared, or its error; its samples have no slots yet."""

    item: BlockItem
    samples: tuple[Sample, ...] = ()


def fetched(index: int, start: Callable[[], tuple[Plan, Provider]]) -> Fetched:
    """Read and prepare one ROI, blocking; its error is its result.

    Args:
        start: what to read, and from whom; its errors are the ROI's too.
    """
    try:
        resolved, provider = start()
        started = time.perf_counter()
        with tracing.span("read", index=index, provider=provider.name) as work:
            chip = fetch(resolved, provider)
            work.note(dict(chip.facts))
        fetch_ms = 1e3 * (time.perf_counter() - started)
        with tracing.span("prepare", index=index):
            prepared = prepare(chip, resolved)
    except RSEmbedError as error:
        return Fetched(BlockItem(index, error=error))
    except Exception as error:  # noqa: BLE001 - a process edge: whatever a provider raises is this ROI's problem
        text = f"reading or preparing failed: {type(error).__name__}: {error}"
        return Fetched(BlockItem(index, error=ProviderError(text, retryable=False)))
    return Fetched(BlockItem(index, prepared.info, fetch_ms=fetch_ms), prepared.samples)


def stacked(done: Sequence[Fetched]) -> tuple[BlockInfo, Payload]:
    """The samples of several ROIs, stacked by signature."""
    samples = [sample for entry in done for sample in entry.samples]
    groups = group_by_signature(samples)
    batches = tuple(collate([samples[i] for i in group]) for group in groups.values())
    slots = {i: Slot(b, position) for b, group in enumerate(groups.values()) for position, i in enumerate(group)}
    items, at = [], 0
    for entry in done:
        own = tuple(slots[i] for i in range(at, at + len(entry.samples)))
        at += len(entry.samples)
        items.append(replace(entry.item, slots=own))
    nbytes = sum(array.nbytes for batch in batches for array in batch.arrays.values())
    return BlockInfo(tuple(items), len(samples), nbytes), Payload(batches)
