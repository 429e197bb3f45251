"""Stages plan, fetch and prepare of an export: ROIs become samples, and models of equal read share a chip."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from uuid import uuid4

from rs_embed_core.chip import Chip, FetchPlan
from rs_embed_core.errors import ProviderError, RSEmbedError
from rs_embed_core.fetch import fetch
from rs_embed_core.plan import backend_of, recipe
from rs_embed_core.prepare import prepare
from rs_embed_core.providers.base import Provider
from rs_embed_core.providers.calls import COUNTED, Terms, under
from rs_embed_core.sample import Sample, collate, group_by_signature
from rs_embed_core.specs.request import Ask
from serve_app.deployments.limiter import Leases, quota_actor
from serve_app.deployments.provider_table import ProviderTable
from serve_app.export.chunks import Place
from serve_app.export.planning import check_backends, plan_of
from serve_app.observe.fetching import count_block
from serve_app.settings import ServiceSettings
from serve_app.wire.blocks import BlockInfo, BlockItem, Payload, Slot

type Block = tuple[BlockInfo, Payload]
"""What one model needs of some ROIs: what became of each, and the samples."""


class OneReading:
    """A provider for one ROI: what several models want is read once, and paid for once."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._known: dict[FetchPlan, Chip | RSEmbedError] = {}

    @property
    def name(self) -> str:
        """The provider's."""
        return self._provider.name

    def fetch(self, plan: FetchPlan) -> Chip:
        """The chip; from the second time on ``facts`` says that it was ``shared`` and cost nothing.

        Raises:
            RSEmbedError: as the provider, an equal one to all who ask.
        """
        known = self._known.get(plan)
        if isinstance(known, Chip):
            facts = ((name, 0 if name in COUNTED else value) for name, value in known.facts if name != "cache")
            return replace(known, facts=(*facts, ("cache", "shared")))
        if known is not None:
            raise known.again()
        try:
            chip = self._provider.fetch(plan)
        except RSEmbedError as error:
            self._known[plan] = error.again()
            raise
        self._known[plan] = chip
        return chip


@dataclass(frozen=True, eq=False)
class _Done:
    item: BlockItem
    samples: tuple[Sample, ...] = ()


class Reading:
    """Reads and prepares ROIs for several models.

    Args:
        asks: the question to each model, by the caller's name for it.
        settings: providers and ``fetch``; its ``concurrency`` bounds the reads under way here.
        timeout_s: for the reads of one ROI.
        quota: name of the quota actor that all who read for this job share; None where none is wanted.

    Raises:
        UnknownProvider: a model's provider is not set up.
    """

    def __init__(
        self, asks: Mapping[str, Ask], settings: ServiceSettings, *, timeout_s: float, quota: str | None = None
    ) -> None:
        check_backends(settings, asks.values())
        # Nobody asks for a chip again in this process; the disk outlives it.
        cache = settings.fetch.cache.model_copy(update={"memory_mb": 0.0})
        table = ProviderTable.build(settings.providers, cache)
        self._asks = asks
        self._providers = {
            label: table.providers[backend_of(ask, settings.providers.default)] for label, ask in asks.items()
        }
        self._timeout_s = timeout_s
        self._threads = ThreadPoolExecutor(settings.fetch.concurrency, thread_name_prefix="read")
        if quota is not None and table.gates:
            find = partial(quota_actor, quota, settings.providers.quotas)
            leases = partial(Leases, f"{os.getpid()}-{uuid4().hex}", table.gates, find)
            threading.Thread(target=lambda: asyncio.run(_hold(leases)), name="leases", daemon=True).start()

    def read(self, places: Sequence[Place], labels: Iterable[str]) -> dict[str, Block]:
        """What each model needs of these ROIs; an ROI's error is its item's."""
        wanted = tuple(labels)
        done = list(self._threads.map(partial(self._roi, labels=wanted), places))
        blocks = {label: _stacked([of_roi[label] for of_roi in done]) for label in wanted}
        for label, (info, _) in blocks.items():
            model, provider = recipe(self._asks[label]).selection.encoder, self._providers[label].name
            count_block(info.items, provider=provider, model=model, samples=info.samples)
        return blocks

    def _roi(self, place: Place, labels: Sequence[str]) -> dict[str, _Done]:
        """All that is wanted of one ROI, in a thread."""
        memory: dict[str, OneReading] = {}
        with under(Terms(time.monotonic() + self._timeout_s, bulk=True)):
            return {label: self._one(place, label, memory) for label in labels}

    def _one(self, place: Place, label: str, memory: dict[str, OneReading]) -> _Done:
        index, roi = place
        provider = self._providers[label]
        try:
            resolved = plan_of(self._asks[label], roi)
            once = memory.setdefault(provider.name, OneReading(provider))
            started = time.perf_counter()
            chip = fetch(resolved, once)
            fetch_ms = 1e3 * (time.perf_counter() - started)
            prepared = prepare(chip, resolved)
        except RSEmbedError as error:
            return _Done(BlockItem(index, error=error))
        except Exception as error:  # noqa: BLE001 - a process edge: whatever a provider raises is this ROI's problem
            text = f"reading or preparing failed: {type(error).__name__}: {error}"
            return _Done(BlockItem(index, error=ProviderError(text, retryable=False)))
        return _Done(BlockItem(index, prepared.info, fetch_ms=fetch_ms), prepared.samples)


async def _hold(leases: partial[Leases]) -> None:
    """Hold this process's parts of the quotas as long as it lives."""
    await leases().run()


def _stacked(done: Sequence[_Done]) -> Block:
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
