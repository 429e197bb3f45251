"""Stages forward and assemble of one job: lanes take ready blocks to the encoder, side by side, and make rows of them.

blocks -> groups -> [encoder] -> assemble -> rows
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rs_embed_core.errors import CheckpointError, ForwardError, RSEmbedError, Unavailable
from serve_app.assembled import assembled
from serve_app.flow import Pace
from serve_app.observe import metrics, tracing
from serve_app.observe.fetching import km2
from serve_app.router import Lost, PayloadLost, Reference, Route
from serve_app.wire.blocks import BlockInfo, Encoded, Item
from serve_app.wire.rows import Row

_BACKOFF_S = 0.05
_TURN_S = 0.005  # longest that rows are assembled without a pause

type Stage = Literal["fetch", "forward"]
type Outcome = list[Row] | RSEmbedError
"""Rows, or an error that ends the job: of every ROI that has no row yet."""
type Put = Callable[[Outcome], None]


@dataclass(frozen=True, eq=False)
class Block:
    """A block on its way to an encoder; one that was lost before travels alone."""

    info: BlockInfo
    reference: Reference
    attempts: int = 0

    @property
    def rois(self) -> tuple[int, ...]:
        """Indices of the ROIs that were read."""
        return tuple(entry.index for entry in self.info.good)


@dataclass(frozen=True)
class Retries:
    """What was lost with a process is tried again, a bounded number of times.

    Attributes:
        most: times that a thing is sent, the first included.
        put: takes the rows of what is given up.
    """

    most: int
    put: Put

    async def after[T: (Item, Block)](self, loss: Lost, stage: Stage, things: Sequence[T]) -> list[T]:
        """What may be sent again, counted once more, after a while; the others become problems."""
        again = [replace(thing, attempts=thing.attempts + 1) for thing in things]
        dead = [thing for thing in again if thing.attempts >= self.most]
        if dead:
            error = _given_up(loss, stage, dead[0].attempts)
            self.put([Row(index, error=error) for thing in dead for index in thing.rois])
        alive = [thing for thing in again if thing.attempts < self.most]
        if alive:
            metrics.STREAM_RESENT_ROIS.add(sum(len(thing.rois) for thing in alive), stage)
            await asyncio.sleep(_BACKOFF_S * 2 ** alive[0].attempts)
        return alive


def _given_up(loss: Lost, stage: Stage, times: int) -> RSEmbedError:
    """Said as it is: no provider failed, and it may be the ROI that ends the process."""
    kind = ForwardError if stage == "forward" else RSEmbedError
    return kind(f"the ROI was lost {times} times on its way: {loss}", code="lost", retryable=True)


class Lanes:
    """The blocks of one job on their way through its encoder.

    Args:
        items: the ROIs under way, by index.
        put: takes what comes of them.
        refetch: is told of ROIs whose imagery is gone.
        bulk: whether this is a long job, whose samples let those of short ones go first.
    """

    def __init__(
        self,
        route: Route,
        items: Mapping[int, Item],
        *,
        put: Put,
        refetch: Callable[[Sequence[Item], Lost], Awaitable[None]],
        bulk: bool,
    ) -> None:
        self._route = route
        self._items = items
        self._put = put
        self._refetch = refetch
        self._bulk = bulk
        self._retries = Retries(route.limits.max_attempts, put)
        self._ready: deque[Block] = deque()
        self._some_ready = asyncio.Event()
        self._pace = Pace()

    @property
    def busy_s(self) -> float:
        """Seconds until the encoder runs dry."""
        return self._pace.busy_s

    def push(self, block: Block) -> None:
        """A block is ready for the encoder."""
        self._ready.append(block)
        self._pace.arrive(block.info.samples)
        self._some_ready.set()

    async def run(self) -> None:
        """Be one lane: send groups of ready blocks to the encoder, one at a time, until cancelled."""
        while True:
            group = await self._group()
            try:
                references = [block.reference for block in group]
                encoded = await self._route.encoder.encode(references, self._route.selection, bulk=self._bulk)
            except PayloadLost as loss:
                await self._refetch([self._items[index] for block in group for index in block.rois], loss)
            except Lost as loss:
                # Each goes alone now, so that a poisonous one fails alone.
                for block in await self._retries.after(loss, "forward", group):
                    self.push(block)
            except (CheckpointError, Unavailable) as error:
                self._put(error)  # no other group would fare better: do not fetch for them, nor wait again
            except RSEmbedError as error:
                self._put([Row(index, error=error) for block in group for index in block.rois])
            else:
                self._put(await self._assembled(group, encoded))
            finally:
                self._pace.leave(sum(block.info.samples for block in group))

    async def _group(self) -> list[Block]:
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

    async def _assembled(self, group: Sequence[Block], encoded: Encoded) -> list[Row]:
        """The rows of a group. Others run meanwhile: stitching grids takes milliseconds each."""
        spent, began, ground = 0.0, time.perf_counter(), 0.0
        rows: list[Row] = []
        with tracing.span("assemble", blocks=len(group)):
            for block, batches in zip(group, encoded.blocks, strict=True):
                plans = {index: self._items[index].plan for index in block.rois}
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
