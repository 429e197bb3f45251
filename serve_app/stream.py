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
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from functools import partial

from rs_embed_core.errors import (
    CheckpointError,
    DeadlineExceeded,
    ProviderError,
    RSEmbedError,
    Unavailable,
)
from rs_embed_core.plan import plan
from rs_embed_core.specs.spatial import spatial_from_dict
from serve_app.assembled import assembled
from serve_app.flow import Dealer, Order, Pace, Window
from serve_app.observe import metrics, tracing
from serve_app.observe.fetching import km2
from serve_app.router import Lost, PayloadLost, Reference, Route
from serve_app.wire.blocks import BlockInfo, Encoded, Hurry, Item
from serve_app.wire.rows import Job, Row

_log = logging.getLogger(__name__)
_FIRST_SPAN = 8  # small, so that the first rows come soon
_SPAN = 64
_BULK_FROM = 8  # ROIs: reads and forwards of smaller jobs go first
_FLOAT_BYTES = 4
_BACKOFF_S = 0.05
_TURN_S = 0.005  # longest that rows are assembled without a pause


@dataclass(eq=False)
class _Block:
    """A block on its way to an encoder; one that was lost before travels alone."""

    info: BlockInfo
    reference: Reference
    attempts: int = 0


class _Pipeline:
    """One job under way."""

    def __init__(self, job: Job, route: Route) -> None:
        self._job = job
        self._route = route
        self._items: dict[int, Item] = {}
        self._rows: asyncio.Queue[list[Row]] = asyncio.Queue()
        self._ready: deque[_Block] = deque()
        self._some_ready = asyncio.Event()
        self._window = Window(route.limits.window_rois, route.limits.window_mb * 1e6)
        self._pace = Pace()
        self._bulk = len(job.spatials) > _BULK_FROM
        self._dealer = Dealer(route.fetchers.size, len(job.spatials))
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> AsyncGenerator[list[Row]]:
        """Yield rows until every ROI has one, or the deadline has passed."""
        missing = set(range(len(self._job.spatials)))
        order = Order(ordered=self._job.ordered)
        self._start(self._feed)
        for _ in range(self._route.lanes):
            self._start(self._lane)
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
        own_s = self._job.timeout_s  # where it is what ended the job, no fault of the service is counted
        return DeadlineExceeded(
            "the request's deadline passed before this ROI was done.",
            hint="Ask for fewer ROIs or give a longer timeout_s.",
            context={} if own_s is None or own_s >= self._route.limits.timeout_s else {"timeout_s": own_s},
        )

    def _start(self, stage: Callable[[], Coroutine[None, None, None]]) -> None:
        task = asyncio.get_running_loop().create_task(self._guard(stage))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guard(self, stage: Callable[[], Coroutine[None, None, None]]) -> None:
        """Turn a bug in a stage into problems: nothing may hang because of it."""
        try:
            await stage()
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
        spans: defaultdict[int | None, list[Item]] = defaultdict(list)  # not sent yet, by home
        size = grown = _FIRST_SPAN
        for index, raw in enumerate(self._job.spatials):
            planned = self._planned(index, raw)
            nbytes = 0 if isinstance(planned, Row) else _FLOAT_BYTES * planned.plan.pixels
            if spans and (not self._window.fits(nbytes) or sum(map(len, spans.values())) >= self._window.refill):
                self._send_all(spans)
            if not spans:
                await self._window.room(nbytes)
                size = self._span_size(index, grown)
            self._window.take(index, nbytes)
            if isinstance(planned, Row):
                self._rows.put_nowait([planned])
                continue
            self._items[index] = planned
            home = self._home(planned)
            spans[home].append(planned)
            if len(spans[home]) >= size:
                self._send(spans.pop(home), home)
                await asyncio.sleep(0)  # planning is pure CPU: let results through
                grown = min(_SPAN, 2 * grown)
        self._send_all(spans)

    def _home(self, item: Item) -> int | None:
        return self._dealer.home(item.plan.fetch.grid.transform) if self._route.homes else None

    def _send_all(self, spans: dict[int | None, list[Item]]) -> None:
        for home, span in spans.items():
            self._send(span, home)
        spans.clear()

    def _span_size(self, done: int, most: int) -> int:
        """ROIs of the next span: no more than there is room for, nor than the fair share of the actor that gets it."""
        share = self._route.fetchers.share(len(self._job.spatials) - done)
        return min(most, self._window.refill, max(_FIRST_SPAN, share))

    def _planned(self, index: int, raw: object) -> Item | Row:
        """An ROI, planned; or the row that says why it cannot be."""
        try:
            return Item(index, plan(self._job.ask.at(spatial_from_dict(raw))))
        except RSEmbedError as error:
            return Row(index, error=error)

    def _send(self, span: Sequence[Item], home: int | None = None) -> None:
        """Give a span to a fetch actor."""
        self._start(partial(self._fetch, span, home))

    async def _fetch(self, span: Sequence[Item], home: int | None) -> None:
        """Take a span's blocks as they are ready; what an actor lost is sent again."""
        left = {item.index: item for item in span}
        left_s = max(0.0, self._route.deadline - time.monotonic())
        hurry = Hurry(self._pace.busy_s / 2, left_s, bulk=self._bulk)
        try:
            async for info, reference in self._route.fetchers.blocks(span, hurry, home=home):
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
            metrics.STREAM_RESENT_ROIS.add(len(alive), "fetch")
            await asyncio.sleep(_BACKOFF_S * 2 ** alive[0].attempts)
            self._send(alive)

    # --- forward -----------------------------------------------------------------------------------------

    async def _lane(self) -> None:
        """Send groups of ready blocks to the encoder, one at a time."""
        while True:
            group = await self._group()
            try:
                references = [block.reference for block in group]
                encoded = await self._route.encoder.encode(references, self._route.selection, bulk=self._bulk)
            except PayloadLost as loss:
                items = [self._items[entry.index] for block in group for entry in block.info.good]
                await self._again(items, loss)
            except Lost as loss:
                await self._retry(group, loss)
            except (CheckpointError, Unavailable) as error:
                self._end(error)  # no other group would fare better: do not fetch for them, nor wait again
            except RSEmbedError as error:
                self._fail(group, error)
            else:
                self._rows.put_nowait(await self._assembled(group, encoded))
            finally:
                self._pace.leave(sum(block.info.samples for block in group))

    async def _assembled(self, group: Sequence[_Block], encoded: Encoded) -> list[Row]:
        """The rows of a group. Others run meanwhile: stitching grids takes milliseconds each."""
        spent, began, ground = 0.0, time.perf_counter(), 0.0
        rows: list[Row] = []
        with tracing.span("assemble", blocks=len(group)):
            for block, batches in zip(group, encoded.blocks, strict=True):
                plans = {entry.index: self._items[entry.index].plan for entry in block.info.good}
                for row in assembled(block.info, plans, batches, encoded):
                    rows.append(row)
                    if row.error is None:
                        ground += km2(plans[row.index].fetch.grid, plans[row.index].roi)
                    if (busy := time.perf_counter() - began) > _TURN_S:
                        await asyncio.sleep(0)
                        spent, began = spent + busy, time.perf_counter()
        model = self._route.selection.encoder
        metrics.ASSEMBLE_SECONDS.add(spent + time.perf_counter() - began, model)
        metrics.STREAM_KM2.add(ground, model)
        return rows

    def _push(self, block: _Block) -> None:
        self._ready.append(block)
        self._pace.arrive(block.info.samples)
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
                metrics.STREAM_RESENT_ROIS.add(len(block.info.good), "forward")
                self._push(block)

    def _fail(self, group: Sequence[_Block], error: RSEmbedError) -> None:
        rows = [Row(entry.index, error=error) for block in group for entry in block.info.good]
        if rows:
            self._rows.put_nowait(rows)


async def stream(job: Job, route: Route) -> AsyncGenerator[list[Row]]:
    """Yield lists of rows until every ROI of the job has exactly one; in order if the job says so."""
    rows = _Pipeline(job, route).run()
    async with contextlib.aclosing(rows):
        async for some in rows:
            yield some
