"""Stages plan, fetch and prepare of an export: ROIs become samples, and models of equal read share a chip."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from uuid import uuid4

from rs_embed_core.chip import Chip, FetchPlan
from rs_embed_core.errors import RSEmbedError
from rs_embed_core.plan import backend_of, recipe
from rs_embed_core.providers.base import Provider
from rs_embed_core.providers.cache import marked
from rs_embed_core.providers.calls import Terms, under
from rs_embed_core.specs.request import Ask
from serve_app.deployments.limiter import Leases, quota_actor
from serve_app.deployments.provider_table import ProviderTable
from serve_app.export.chunks import Place
from serve_app.export.planning import check_backends, plan_of
from serve_app.observe.fetching import Bills, count_block
from serve_app.reading import Read, read, stack
from serve_app.settings import ServiceSettings
from serve_app.wire.blocks import BlockInfo, BlockItem, Payload

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
            return marked(known, "shared")
        if known is not None:
            raise known.again()
        try:
            chip = self._provider.fetch(plan)
        except RSEmbedError as error:
            self._known[plan] = error.again()
            raise
        self._known[plan] = chip
        return chip


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
        self._bills = Bills()
        self._threads = ThreadPoolExecutor(settings.fetch.concurrency, thread_name_prefix="read")
        if quota is not None and table.gates:
            find = partial(quota_actor, quota, settings.providers.quotas)
            leases = partial(Leases, f"{os.getpid()}-{uuid4().hex}", table.gates, find)
            threading.Thread(target=lambda: asyncio.run(_hold(leases)), name="leases", daemon=True).start()

    def read(self, places: Sequence[Place], labels: Iterable[str]) -> dict[str, Block]:
        """What each model needs of these ROIs; an ROI's error is its item's."""
        wanted = tuple(labels)
        done = list(self._threads.map(partial(self._roi, labels=wanted), places))
        blocks = {label: stack([of_roi[label] for of_roi in done]) for label in wanted}
        for label, (info, _) in blocks.items():
            model, provider = recipe(self._asks[label]).selection.encoder, self._providers[label].name
            count_block(info.items, provider=provider, model=model, samples=info.samples)
        self._bills.write()
        return blocks

    def _roi(self, place: Place, labels: Sequence[str]) -> dict[str, Read]:
        """All that is wanted of one ROI, in a thread."""
        memory: dict[str, OneReading] = {}
        with under(Terms(time.monotonic() + self._timeout_s, bulk=True)):
            return {label: self._one(place, label, memory) for label in labels}

    def _one(self, place: Place, label: str, memory: dict[str, OneReading]) -> Read:
        index, roi = place
        provider = self._providers[label]
        try:
            resolved = plan_of(self._asks[label], roi)
        except RSEmbedError as error:
            return Read(BlockItem(index, error=error))
        once = memory.setdefault(provider.name, OneReading(provider))
        return read(index, resolved, provider=once, bills=self._bills)


async def _hold(leases: partial[Leases]) -> None:
    """Hold this process's parts of the quotas as long as it lives."""
    await leases().run()
