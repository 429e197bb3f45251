"""Stages fetch and prepare: the fetch actor. CPU nodes read imagery here and make samples of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from functools import partial
from uuid import uuid4

from rs_embed_core.errors import RSEmbedError
from rs_embed_core.plan import backend_of, recipe
from rs_embed_core.providers import get_provider, register_provider
from rs_embed_core.providers.calls import Terms
from rs_embed_core.providers.calls import under as bound_by
from serve_app.deployments.crew import Crew
from serve_app.deployments.limiter import Leases, quota_actor
from serve_app.deployments.provider_table import ProviderTable
from serve_app.observe import metrics, tracing
from serve_app.observe.fetching import Bills, Shelves, count_block
from serve_app.observe.measures import TOLD_EVERY_S
from serve_app.observe.origin import NOBODY, Origin
from serve_app.observe.origin import under as working_for
from serve_app.observe.process import watch_process
from serve_app.reading import Read, read, stack
from serve_app.settings import FetchSettings, ObserveSettings, ProviderSettings
from serve_app.wire.blocks import BlockInfo, BlockItem, Hurry, Item, Payload


class _Mailbox:
    """What threads have done, for one coroutine to take. It is woken once per block, not once per ROI.

    Attributes:
        wanted: False once nobody will take any more.
        since: ``time.monotonic()`` at which the work was queued.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.wanted = True
        self.since = time.monotonic()
        self._loop = loop
        self._done: deque[Read] = deque()
        self._needed = 1
        self._count = threading.Lock()  # two threads at once would both see one more than wanted and wake nobody
        self._enough = asyncio.Event()

    def put(self, done: Read) -> None:
        """Called in a thread."""
        with self._count:
            self._done.append(done)
            enough = len(self._done) == self._needed
        if enough:
            with contextlib.suppress(RuntimeError):  # the loop has closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._enough.set)

    async def take(self, most: int, linger_s: float) -> list[Read]:
        """Wait for something, then up to ``linger_s`` for as much as ``most``."""
        await self._wait(1)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(linger_s):
                await self._wait(most)
        return [self._done.popleft() for _ in range(min(most, len(self._done)))]

    async def _wait(self, wanted: int) -> None:
        self._needed = wanted
        self._enough.clear()
        while len(self._done) < wanted:  # looked at after the wish is made: a thread sees one or the other
            await self._enough.wait()
            self._enough.clear()


class Fetcher:
    """Reads and prepares spans of ROIs and hands them over in packed blocks as they are ready.

    Providers block, so reads run in this actor's own threads; ``concurrency`` bounds the reads under way.

    Args:
        quota: name of the quota actor; None where there is none, and each gate lets the whole quota through.
        observe: logs and traces of the process; None leaves it as it is.
        application: that the actor works for, as metrics say it.
    """

    def __init__(
        self,
        settings: FetchSettings,
        providers: ProviderSettings,
        quota: str | None = None,
        observe: ObserveSettings | None = None,
        application: str = "",
    ) -> None:
        watch_process("fetch", observe, application)
        self._settings = settings
        self._default = providers.default
        table = self._set_up(providers)
        self._gates, self._shelves = table.gates, Shelves(table.shelves)
        self._crew = Crew(settings.concurrency)
        self._under_way = 0
        self._quota, self._quotas = quota, providers.quotas
        self._bills = Bills()
        # Ray makes actors in their loop. A level that nothing tells makes an idle actor look as one that is missing.
        self._tasks = [asyncio.get_running_loop().create_task(self._tell())]
        self._leases: Leases | None = None

    def _set_up(self, providers: ProviderSettings) -> ProviderTable:
        """Make the providers and register them in this process."""
        table = ProviderTable.build(providers, self._settings.cache)
        for name, provider in table.providers.items():
            register_provider(name, provider)
        return table

    async def blocks(
        self, span: Sequence[Item], hurry: Hurry, caller: Origin = NOBODY
    ) -> AsyncIterator[BlockInfo | Payload]:
        """Yield, for each block, its heavy half and then its light half, until every ROI of the span is in one.

        Args:
            caller: the request that the span is of.
        """
        self._begin()
        work = tracing.begin("fetch", caller, rois=len(span), bulk=hurry.bulk)
        # The ROIs of a long job have no spans of their own: there would be thousands in one trace.
        whose = (
            replace(work.origin, traceparent=None, callers_trace=work.origin.trace_id) if hurry.bulk else work.origin
        )
        linger_s = max(hurry.patience_s, self._settings.linger_ms / 1e3)
        terms = Terms(time.monotonic() + hurry.left_s, hurry.bulk)
        mailbox = _Mailbox(asyncio.get_running_loop())
        self._crew.do((partial(self._deliver, item, terms, mailbox, origin=whose) for item in span), bulk=hurry.bulk)
        left = len(span)
        self._move(left)
        try:
            while left:
                block = await mailbox.take(min(left, self._settings.block_items), linger_s)
                left -= len(block)
                self._move(-len(block))
                info, payload = stack(block)
                self._count(info, span[0], [one.waited_s for one in block])
                yield payload
                yield info
        finally:
            mailbox.wanted = False
            self._move(-left)
            work.end()

    def _move(self, rois: int) -> None:
        """Note that so many ROIs came, or left."""
        self._under_way += rois
        metrics.FETCH_WAITING_ROIS.set(self._under_way)

    def _count(self, info: BlockInfo, one: Item, waits_s: Sequence[float]) -> None:
        """Metrics of a block; all of its ROIs are of one request, as ``one`` is."""
        ask = one.plan.ask
        model, provider = recipe(ask).selection.encoder, backend_of(ask, self._default)
        count_block(info.items, provider=provider, model=model, samples=info.samples, waits_s=waits_s)

    def _begin(self) -> None:
        """Hold this actor's parts of the quotas, from the first span on."""
        if self._leases is not None or self._quota is None or not self._gates:
            return
        holder = f"{os.getpid()}-{uuid4().hex}"
        self._leases = Leases(holder, self._gates, partial(quota_actor, self._quota, self._quotas))
        self._tasks.append(asyncio.get_running_loop().create_task(self._leases.run()))

    async def _tell(self) -> None:
        """Tell levels again and write what reads have cost, until cancelled."""
        while True:
            metrics.FETCH_WAITING_ROIS.set(self._under_way)
            self._bills.write()
            self._shelves.write()
            await asyncio.sleep(TOLD_EVERY_S)

    def _deliver(self, item: Item, terms: Terms, mailbox: _Mailbox, *, origin: Origin) -> None:
        if mailbox.wanted:
            waited_s = time.monotonic() - mailbox.since
            with bound_by(terms), working_for(origin):
                mailbox.put(replace(self._one(item), waited_s=waited_s))

    def _one(self, item: Item) -> Read:
        try:
            provider = get_provider(backend_of(item.plan.ask, self._default))
        except RSEmbedError as error:
            return Read(BlockItem(item.index, error=error))
        return read(item.index, item.plan, provider=provider, bills=self._bills)

    async def pid(self) -> int:
        """The actor's process, for tests and the doctor."""
        return os.getpid()
