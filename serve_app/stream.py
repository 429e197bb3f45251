"""Stage stream: one job's pipeline. ROIs go out in a bounded window and come back as rows, each exactly once.

    feed: decode, plan, spans -> [fetch actors] -> blocks -> lanes -> [encoder] -> assemble -> rows

A slot of the window is taken before an ROI is sent to a fetch actor and given back when its row has been
taken by the consumer, so neither imagery nor results pile up: 10,000 ROIs need no more memory than 100.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, Coroutine, Sequence
from dataclasses import dataclass, replace

import numpy as np
from pydantic_core import to_json

from rs_embed_core.assemble import combine, describe
from rs_embed_core.errors import (
    CheckpointError,
    DeadlineExceeded,
    ProviderError,
    RSEmbedError,
    Unavailable,
)
from rs_embed_core.plan import plan
from rs_embed_core.specs.spatial import spatial_from_dict
from rs_embed_core.tokens import Tokens
from serve_app.router import Lost, PayloadLost, Reference, Route
from serve_app.wire.blocks import BlockInfo, BlockItem, Encoded, EncodedBatch, Item
from serve_app.wire.rows import Job, Row

_log = logging.getLogger(__name__)
_FIRST_SPAN = 8  # small, so that the first rows come soon
_SPAN = 64
_SPANS_PER_ACTOR = 4  # so that no actor is left with a long last span
_FLOAT_BYTES = 4
_BACKOFF_S = 0.05


@dataclass(eq=False)
class _Block:
    """A block on its way to an encoder; one that was lost before travels alone."""

    info: BlockInfo
    reference: Reference
    attempts: int = 0


class _Window:
    """What is under way: at most so many ROIs and so many bytes of imagery, and always room for one."""

    def __init__(self, rois: int, nbytes: float) -> None:
        self._rois = rois
        self._nbytes = nbytes
        self._taken: dict[int, int] = {}
        self._total = 0
        self._changed = asyncio.Event()

    def has_room(self, nbytes: int) -> bool:
        if not self._taken:
            return True
        return len(self._taken) < self._rois and self._total + nbytes <= self._nbytes

    async def room(self, nbytes: int) -> None:
        while not self.has_room(nbytes):
            self._changed.clear()
            await self._changed.wait()

    def take(self, index: int, nbytes: int) -> None:
        self._taken[index] = nbytes
        self._total += nbytes

    def give(self, index: int) -> None:
        self._total -= self._taken.pop(index, 0)
        self._changed.set()


class _Order:
    """Lets rows through as they come, or in the order of the request."""

    def __init__(self, *, ordered: bool) -> None:
        self._ordered = ordered
        self._held: dict[int, Row] = {}
        self._turn = 0

    def through(self, rows: list[Row]) -> list[Row]:
        if not self._ordered:
            return rows
        self._held.update((row.index, row) for row in rows)
        out = []
        while self._turn in self._held:
            out.append(self._held.pop(self._turn))
            self._turn += 1
        return out


class _Pipeline:
    """One job under way."""

    def __init__(self, job: Job, route: Route) -> None:
        self._job = job
        self._route = route
        self._items: dict[int, Item] = {}
        self._rows: asyncio.Queue[list[Row]] = asyncio.Queue()
        self._ready: deque[_Block] = deque()
        self._some_ready = asyncio.Event()
        self._window = _Window(route.limits.window_rois, route.limits.window_mb * 1e6)
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> AsyncGenerator[list[Row]]:
        """Yield rows until every ROI has one, or the deadline has passed."""
        missing = set(range(len(self._job.spatials)))
        order = _Order(ordered=self._job.ordered)
        self._start(self._feed())
        for _ in range(self._route.lanes):
            self._start(self._lane())
        try:
            while missing:
                rows = [row for row in await self._next_rows(missing) if row.index in missing]
                missing.difference_update(row.index for row in rows)
                if out := order.through(rows):
                    yield out
                for row in out:
                    self._items.pop(row.index, None)
                    self._window.give(row.index)
        finally:
            await self._stop()

    async def _next_rows(self, missing: set[int]) -> list[Row]:
        """Rows as they come; at the deadline a problem for every ROI that has none yet."""
        try:
            async with asyncio.timeout_at(self._loop_deadline()):
                return await self._rows.get()
        except TimeoutError:
            return [Row(index, error=self._too_late()) for index in sorted(missing)]

    def _loop_deadline(self) -> float:
        loop = asyncio.get_running_loop()
        return loop.time() + max(0.0, self._route.deadline - time.monotonic())

    def _too_late(self) -> DeadlineExceeded:
        return DeadlineExceeded(
            "the request's deadline passed before this ROI was done.",
            hint="Ask for fewer ROIs or give a longer timeout_s.",
        )

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(self._guard(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guard(self, work: Coroutine[None, None, None]) -> None:
        """Turn a bug in a stage into problems: nothing may hang because of it."""
        try:
            await work
        except Exception:  # noqa: BLE001 - whatever went wrong, whoever waits must hear of it
            _log.exception("a stage of the pipeline failed")
            self._end(RSEmbedError("the service failed inside; the log has the details."))

    def _end(self, error: RSEmbedError) -> None:
        """Give every ROI that has no row yet this error, which ends the job."""
        self._rows.put_nowait([Row(i, error=error) for i in range(len(self._job.spatials))])

    async def _stop(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- fetch -------------------------------------------------------------------------------------------

    async def _feed(self) -> None:
        """Decode and plan the ROIs and send them to the fetch actors in spans, within the window."""
        span: list[Item] = []
        size = _FIRST_SPAN
        share = len(self._job.spatials) // (_SPANS_PER_ACTOR * self._route.fetchers.size)
        largest = max(_FIRST_SPAN, min(_SPAN, share))
        for index, raw in enumerate(self._job.spatials):
            planned = self._planned(index, raw)
            nbytes = 0 if isinstance(planned, Row) else _FLOAT_BYTES * planned.plan.fetch.pixels
            if not self._window.has_room(nbytes):
                self._send(span)
                span = []
                await self._window.room(nbytes)
            self._window.take(index, nbytes)
            if isinstance(planned, Row):
                self._rows.put_nowait([planned])
                continue
            self._items[index] = planned
            span.append(planned)
            if len(span) >= size:
                self._send(span)
                span, size = [], min(largest, 2 * size)
                await asyncio.sleep(0)  # planning is pure CPU: let results through
        self._send(span)

    def _planned(self, index: int, raw: object) -> Item | Row:
        """An ROI, planned; or the row that says why it cannot be."""
        try:
            return Item(index, plan(self._job.ask.at(spatial_from_dict(raw))))
        except RSEmbedError as error:
            return Row(index, error=error)

    def _send(self, span: Sequence[Item]) -> None:
        """Give a span to a fetch actor."""
        if span:
            self._start(self._fetch(span))

    async def _fetch(self, span: Sequence[Item]) -> None:
        """Take a span's blocks as they are ready; what an actor lost is sent again."""
        left = {item.index: item for item in span}
        try:
            async for info, reference in self._route.fetchers.blocks(span):
                for entry in info.items:
                    left.pop(entry.index, None)
                self._take_block(info, reference)
        except Lost as loss:
            await self._again(list(left.values()), loss)

    def _take_block(self, info: BlockInfo, reference: Reference) -> None:
        failed = [Row(entry.index, error=entry.error) for entry in info.items if entry.error is not None]
        if failed:
            self._rows.put_nowait(failed)
        if info.samples:
            self._push(_Block(info, reference))

    async def _again(self, items: Sequence[Item], loss: Lost) -> None:
        """Send lost ROIs again, a bounded number of times."""
        again = [replace(item, attempts=item.attempts + 1) for item in items]
        dead = [item for item in again if item.attempts >= self._route.limits.max_attempts]
        if dead:
            error = ProviderError(f"the ROI was lost {dead[0].attempts} times with its process: {loss}")
            self._rows.put_nowait([Row(item.index, error=error) for item in dead])
        alive = [item for item in again if item.attempts < self._route.limits.max_attempts]
        if alive:
            await asyncio.sleep(_BACKOFF_S * 2 ** alive[0].attempts)
            self._send(alive)

    # --- forward -----------------------------------------------------------------------------------------

    async def _lane(self) -> None:
        """Send groups of ready blocks to the encoder, one at a time."""
        while True:
            group = await self._group()
            try:
                encoded = await self._route.encoder.encode([block.reference for block in group], self._route.selection)
            except PayloadLost as loss:
                items = [self._items[entry.index] for block in group for entry in _good(block.info)]
                await self._again(items, loss)
            except Lost as loss:
                await self._retry(group, loss)
            except (CheckpointError, Unavailable) as error:
                self._end(error)  # no other group would fare better: do not fetch for them, nor wait again
            except RSEmbedError as error:
                self._fail(group, error)
            else:
                self._rows.put_nowait(self._assemble(group, encoded))

    def _push(self, block: _Block) -> None:
        self._ready.append(block)
        self._some_ready.set()

    async def _group(self) -> list[_Block]:
        """The blocks that are ready, up to a group's worth of samples; at least one."""
        while not self._ready:
            self._some_ready.clear()
            await self._some_ready.wait()
        group = [self._ready.popleft()]
        samples = group[0].info.samples
        while self._ready and samples < self._route.group_samples:
            if group[0].attempts or self._ready[0].attempts:
                break
            group.append(self._ready.popleft())
            samples += group[-1].info.samples
        return group

    async def _retry(self, group: Sequence[_Block], loss: Lost) -> None:
        """Blocks that went down with a replica go again, each alone, so that a poisonous one fails alone."""
        for block in group:
            block.attempts += 1
        dead = [block for block in group if block.attempts >= self._route.limits.max_attempts]
        self._fail(dead, ProviderError(f"the ROI was lost {group[0].attempts} times with its replica: {loss}"))
        await asyncio.sleep(_BACKOFF_S * 2 ** group[0].attempts)
        for block in group:
            if block not in dead:
                self._push(block)

    def _fail(self, group: Sequence[_Block], error: RSEmbedError) -> None:
        rows = [Row(entry.index, error=error) for block in group for entry in _good(block.info)]
        if rows:
            self._rows.put_nowait(rows)

    # --- assemble ----------------------------------------------------------------------------------------

    def _assemble(self, group: Sequence[_Block], encoded: Encoded) -> list[Row]:
        """The rows of a group."""
        rows = []
        for block, batches in zip(group, encoded.blocks, strict=True):
            outcomes = [_outcomes(batch) for batch in batches]
            for entry in _good(block.info):
                own = [outcomes[slot.batch][slot.position] for slot in entry.slots]
                rows.append(self._row(entry, own, encoded))
        return rows

    def _row(self, entry: BlockItem, outcomes: Sequence[Tokens | RSEmbedError], encoded: Encoded) -> Row:
        error = next((outcome for outcome in outcomes if isinstance(outcome, RSEmbedError)), None)
        if error is not None or entry.info is None:
            return Row(entry.index, error=error)
        resolved = self._items[entry.index].plan
        tokens = [outcome for outcome in outcomes if isinstance(outcome, Tokens)]
        data, grid = combine(tokens, resolved, entry.info)
        timings = {
            "fetch": round(entry.fetch_ms, 3),
            "prepare": round(entry.info.prepare_ms, 3),
            "encode": round(encoded.encode_ms, 3),
        }
        meta = describe(resolved, entry.info, encoded.encoder, grid=grid, timings_ms=timings)
        text = to_json(meta.to_dict()).decode()
        return Row(entry.index, np.ascontiguousarray(data), text)


def _good(info: BlockInfo) -> list[BlockItem]:
    return [entry for entry in info.items if entry.error is None]


def _outcomes(batch: EncodedBatch) -> list[Tokens | RSEmbedError]:
    """One outcome per position of a batch."""
    failed = dict(batch.errors)
    tokens = iter(batch.tokens.unpack())
    count = len(failed) + len(batch.tokens.cells)
    return [failed[i] if i in failed else next(tokens) for i in range(count)]


async def stream(job: Job, route: Route) -> AsyncGenerator[list[Row]]:
    """Yield lists of rows until every ROI of the job has exactly one; in order if the job says so."""
    rows = _Pipeline(job, route).run()
    async with contextlib.aclosing(rows):
        async for some in rows:
            yield some
