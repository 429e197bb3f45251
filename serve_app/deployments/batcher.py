"""Stage batch: a work-conserving batcher inside one replica.

It never waits while the device is idle and never idles while something waits: a batch is formed the moment a
lane is free, from whatever of equal signature has arrived, the oldest first. Samples of short requests go before
those of long jobs, which get every fourth forward at least, and whatever room short ones leave. ``@serve.batch`` forms
batches on a timer even while the device is busy and measured slower (docs/adr/0002).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass

from rs_embed_core.embedding import EncoderInfo
from rs_embed_core.errors import CheckpointError, ForwardError
from rs_embed_core.sample import Batch, Signature, join
from rs_embed_core.tokens import Tokens
from serve_app.deployments.waiting import Done, Line, Piece, Waiting
from serve_app.observe.origin import Origin, adopt, origin, together

_SHORT_IN_A_ROW = 3  # forwards of short requests before those of long jobs have one

type Run[S] = Callable[[Batch, S], Awaitable[tuple[list[Tokens], EncoderInfo]]]


@dataclass(frozen=True)
class Forwarded:
    """A forward that is over.

    Attributes:
        origins: the requests that had samples in it.
        waited_s: how long the oldest sample had waited.
        when: ``time.time_ns()`` at its start and at its end.
        error: of the first sample that failed; None where none did.
    """

    origins: tuple[Origin, ...]
    samples: int
    waited_s: float
    when: tuple[int, int]
    error: Exception | None


class Batcher[S: Hashable]:
    """Forms device batches of equal signature and needs across groups and requests.

    Args:
        run: the forward of one batch; ``S`` is what else it needs (the selection), equal within a batch.
        max_batch: most samples in a forward; may be changed at any time.
        lanes: batches in progress at once. With two, one is copied to the device while the other computes.
        on_forward: told of every forward.
    """

    def __init__(
        self, run: Run[S], *, max_batch: int, lanes: int = 1, on_forward: Callable[[Forwarded], None] | None = None
    ) -> None:
        self.max_batch = max_batch
        self._run = run
        self._on_forward = on_forward
        self._lanes = lanes
        self._busy = 0
        self._short: Line[tuple[Signature, S]] = Line()
        self._bulk: Line[tuple[Signature, S]] = Line()
        self._in_a_row = 0  # forwards of short requests, while bulk waits
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        """Samples that no forward has taken yet."""
        return self._short.samples + self._bulk.samples

    async def submit(self, batch: Batch, needs: S, *, bulk: bool = True) -> Done:
        """The outcome of every sample. Cancelling it takes back what is not computed yet.

        Args:
            bulk: of a long job, which waits for short ones.
        """
        future: asyncio.Future[Done] = asyncio.get_running_loop().create_future()
        entry = Waiting(batch, future, origin(), outcomes=[None] * len(batch), left=len(batch))
        (self._bulk if bulk else self._short).add((batch.signature, needs), entry)
        self._kick()
        try:
            return await future
        finally:
            if not entry.done.done() or entry.done.cancelled():
                entry.taken = len(batch)

    def _kick(self) -> None:
        while self._busy < self._lanes:
            if self._busy and self.waiting < self.max_batch:
                return  # the device is busy: a further lane only takes a full batch
            work = self._take()
            if work is None:
                return
            self._busy += 1
            task = asyncio.get_running_loop().create_task(self._forward(*work))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _take(self) -> tuple[S, list[Piece]] | None:
        """The next batch, up to ``max_batch`` samples: of those whose turn it is, then of the others of equal key."""
        short, bulk = self._short.first(), self._bulk.first()
        first = short is not None and (bulk is None or self._in_a_row < _SHORT_IN_A_ROW)
        key, lines = (short, (self._short, self._bulk)) if first else (bulk, (self._bulk, self._short))
        self._in_a_row = self._in_a_row + 1 if first and bulk is not None else 0
        if key is None:
            return None
        pieces: list[Piece] = []
        for line in lines:
            pieces += line.take(key, self.max_batch - sum(map(len, pieces)))
        return key[1], pieces

    async def _forward(self, needs: S, pieces: list[Piece]) -> None:
        origins = tuple(dict.fromkeys(piece.owner.origin for piece in pieces))
        adopt(together(origins))
        waited_s = time.monotonic() - min(piece.owner.since for piece in pieces)
        began_ns = time.time_ns()
        failed: Exception | None = None
        try:
            batch = join([piece.batch for piece in pieces])
            done = await self._done(batch, needs)
            failed = done.error
            position = 0
            for piece in pieces:
                piece.owner.settle(piece.start, done.outcomes[position : position + len(piece)], done.info)
                position += len(piece)
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of it, whatever it is
            failed = error
            for piece in pieces:
                if not piece.owner.done.done():
                    piece.owner.done.set_exception(error)
        finally:
            self._busy -= 1
            self._kick()
            if self._on_forward is not None:
                samples = sum(map(len, pieces))
                self._on_forward(Forwarded(origins, samples, waited_s, (began_ns, time.time_ns()), failed))

    async def _done(self, batch: Batch, needs: S) -> Done:
        """Forward a batch; on failure go one by one, so that one sample fails alone."""
        try:
            tokens, info = await self._run(batch, needs)
            return Done(list(tokens), info)
        except Exception as error:  # noqa: BLE001 - a process edge: one sample must not fail its neighbours
            if len(batch) == 1 or isinstance(error, CheckpointError):
                return Done([ForwardError.of(error)] * len(batch), None)
            alone = [await self._done(batch.take(index, index + 1), needs) for index in range(len(batch))]
            outcomes = [outcome for one in alone for outcome in one.outcomes]
            return Done(outcomes, next((one.info for one in alone if one.info is not None), None))
