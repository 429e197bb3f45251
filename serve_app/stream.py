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
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from functools import partial
from itertools import batched

from rs_embed_core.errors import DeadlineExceeded, RSEmbedError
from rs_embed_core.plan import plan
from rs_embed_core.sizes import held_bytes
from rs_embed_core.specs.spatial import spatial_from_dict
from serve_app.flow import Dealer, Order, Window
from serve_app.lanes import Block, Lanes, Outcome, Retries
from serve_app.router import Lost, Reference, Route
from serve_app.wire.blocks import BlockInfo, Hurry, Item
from serve_app.wire.rows import Job, Row

_log = logging.getLogger(__name__)
_FIRST_SPAN = 8  # small, so that the first rows come soon
_SPAN = 64
_BULK_FROM = 8  # ROIs: reads and forwards of smaller jobs go first
_SLICE = 1024  # rows of one error that leave together


class _Pipeline:
    """One job under way."""

    def __init__(self, job: Job, route: Route) -> None:
        self._job = job
        self._route = route
        self._items: dict[int, Item] = {}
        self._outcomes: asyncio.Queue[Outcome] = asyncio.Queue()
        put = self._outcomes.put_nowait
        self._retries = Retries(route.limits.max_attempts, put)
        self._bulk = len(job.spatials) > _BULK_FROM
        self._lanes = Lanes(route, self._items, put=put, refetch=self._again, bulk=self._bulk)
        self._window = Window(route.limits.window_rois, route.limits.window_mb * 1e6)
        self._dealer = Dealer(route.fetchers.size, len(job.spatials))
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> AsyncGenerator[list[Row]]:
        """Yield rows until every ROI has one, or the deadline has passed."""
        missing = set(range(len(self._job.spatials)))
        order = Order(ordered=self._job.ordered)
        self._start(self._feed)
        for _ in range(self._route.lanes):
            self._start(self._lanes.run)
        try:
            while missing:
                for rows in _new(await self._next(), missing):
                    missing.difference_update(row.index for row in rows)
                    if out := order.through(rows):
                        yield out
                    for row in out:
                        self._items.pop(row.index, None)
                        self._window.give(row.index)
                    await asyncio.sleep(0)  # the caller need not be waiting for anything when it takes them
        finally:
            await self._stop()

    async def _next(self) -> Outcome:
        """What comes next; nothing is done any more once it ends the job."""
        try:
            async with asyncio.timeout_at(self._loop_deadline()):
                outcome = await self._outcomes.get()
        except TimeoutError:
            outcome = self._too_late()
        if isinstance(outcome, RSEmbedError):
            await self._stop()
        return outcome

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
            self._outcomes.put_nowait(RSEmbedError("the service failed inside; the log has the details."))

    async def _stop(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _feed(self) -> None:
        """Decode and plan the ROIs and send them to the fetch actors in spans, within the window."""
        spans: defaultdict[int | None, list[Item]] = defaultdict(list)  # not sent yet, by home
        size = grown = _FIRST_SPAN
        for index, raw in enumerate(self._job.spatials):
            planned = self._planned(index, raw)
            nbytes = 0 if isinstance(planned, Row) else held_bytes(planned.plan)
            if spans and (not self._window.fits(nbytes) or sum(map(len, spans.values())) >= self._window.refill):
                self._send_all(spans)
            if not spans:
                await self._window.room(nbytes)
                size = self._span_size(index, grown)
            self._window.take(index, nbytes)
            if isinstance(planned, Row):
                self._outcomes.put_nowait([planned])
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
        hurry = Hurry(self._lanes.busy_s / 2, left_s, bulk=self._bulk)
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
            self._outcomes.put_nowait(failed)
        if info.samples:
            self._lanes.push(Block(info, reference))

    async def _again(self, items: Sequence[Item], loss: Lost) -> None:
        """Send lost ROIs again, a bounded number of times."""
        if alive := await self._retries.after(loss, "fetch", items):
            self._items.update((item.index, item) for item in alive)  # a lane that loses them again counts on
            self._send(alive)


def _new(outcome: Outcome, missing: set[int]) -> Iterator[list[Row]]:
    """Rows of the ROIs that have none yet; an error is that of all, a few at a time: they may be 100,000."""
    if isinstance(outcome, RSEmbedError):
        for some in batched(sorted(missing), _SLICE):
            yield [Row(index, error=outcome) for index in some]
    else:
        yield [row for row in outcome if row.index in missing]


async def stream(job: Job, route: Route) -> AsyncGenerator[list[Row]]:
    """Yield lists of rows until every ROI of the job has exactly one; in order if the job says so."""
    rows = _Pipeline(job, route).run()
    async with contextlib.aclosing(rows):
        async for some in rows:
            yield some
