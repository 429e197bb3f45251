"""Stages fetch and prepare: the fetch actor. CPU nodes read imagery here and make samples of it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from rs_embed_core.errors import ProviderError, RSEmbedError
from rs_embed_core.fetch import fetch
from rs_embed_core.prepare import prepare
from rs_embed_core.prepared import ChipInfo
from rs_embed_core.providers import get_provider, register_provider
from rs_embed_core.providers.synthetic import SyntheticProvider
from rs_embed_core.sample import Sample, collate, group_by_signature
from serve_app.settings import FetchSettings, ProviderSettings
from serve_app.wire.blocks import BlockInfo, BlockItem, Item, Payload, Slot


@dataclass(frozen=True, eq=False)
class _Done:
    """One ROI, read and prepared, or its error."""

    index: int
    samples: tuple[Sample, ...] = ()
    info: ChipInfo | None = None
    fetch_ms: float = 0.0
    error: RSEmbedError | None = None


class Fetcher:
    """Reads and prepares spans of ROIs and hands them over in packed blocks as they are ready.

    Providers block, so reads run in this actor's own threads; the number of threads bounds the reads under way.
    """

    def __init__(self, settings: FetchSettings, providers: ProviderSettings) -> None:
        self._settings = settings
        self._default = providers.default
        register_provider("synthetic", SyntheticProvider(delay_s=providers.synthetic_delay_ms / 1e3))
        self._threads = ThreadPoolExecutor(settings.concurrency, thread_name_prefix="fetch")

    async def blocks(self, span: Sequence[Item]) -> AsyncIterator[BlockInfo | Payload]:
        """Yield, for each block, its light half and then its heavy half, until every ROI of the span is in one."""
        loop = asyncio.get_running_loop()
        waiting = {loop.run_in_executor(self._threads, self._one, item) for item in span}
        try:
            ready: list[_Done] = []
            while waiting or ready:
                ready += await self._more(waiting, len(ready))
                block, ready = ready[: self._settings.block_items], ready[self._settings.block_items :]
                info, payload = pack(block)
                yield info
                yield payload
        finally:
            for future in waiting:
                future.cancel()

    async def _more(self, waiting: set[asyncio.Future[_Done]], ready: int) -> list[_Done]:
        """Wait for something to hand over, then a little longer for a full block."""
        done: list[_Done] = []
        deadline: float | None = None if not ready else time.monotonic()
        while waiting and ready + len(done) < self._settings.block_items:
            timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
            finished, _ = await asyncio.wait(waiting, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if not finished:
                break
            waiting -= finished
            done += [future.result() for future in finished]
            deadline = deadline or time.monotonic() + self._settings.linger_ms / 1e3
        return done

    def _one(self, item: Item) -> _Done:
        """Read and prepare one ROI in a thread; its error is its result."""
        try:
            backend = item.plan.ask.backend
            provider = get_provider(self._default if backend == "auto" else backend)
            started = time.perf_counter()
            chip = fetch(item.plan, provider)
            fetch_ms = 1e3 * (time.perf_counter() - started)
            prepared = prepare(chip, item.plan)
        except RSEmbedError as error:
            return _Done(item.index, error=error)
        except Exception as error:  # noqa: BLE001 - a process edge: whatever a provider raises is this ROI's problem
            text = f"reading or preparing failed: {type(error).__name__}: {error}"
            return _Done(item.index, error=ProviderError(text, retryable=False))
        return _Done(item.index, prepared.samples, prepared.info, fetch_ms)

    async def pid(self) -> int:
        """The actor's process, for tests and the doctor."""
        return os.getpid()


def pack(done: Sequence[_Done]) -> tuple[BlockInfo, Payload]:
    """Stack the samples of several ROIs by signature."""
    samples = [sample for entry in done for sample in entry.samples]
    groups = group_by_signature(samples)
    batches = tuple(collate([samples[i] for i in group]) for group in groups.values())
    slots = {
        i: Slot(b, position) for b, group in enumerate(groups.values()) for position, i in enumerate(group)
    }
    items, at = [], 0
    for entry in done:
        own = tuple(slots[i] for i in range(at, at + len(entry.samples)))
        at += len(entry.samples)
        items.append(BlockItem(entry.index, entry.info, own, entry.fetch_ms, entry.error))
    nbytes = sum(array.nbytes for batch in batches for array in batch.arrays.values())
    return BlockInfo(tuple(items), len(samples), nbytes), Payload(batches)
