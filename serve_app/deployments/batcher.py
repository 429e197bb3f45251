"""Stage batch: a work-conserving batcher inside one replica.

It never waits while the device is idle and never idles while something waits: a batch is formed the moment a
lane is free, from whatever of equal signature has arrived, the oldest first. ``@serve.batch`` forms batches on a
timer even while the device is busy and measured slower (docs/adr/0002).
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field

from rs_embed_core.embedding import EncoderInfo
from rs_embed_core.errors import CheckpointError, ForwardError, RSEmbedError
from rs_embed_core.sample import Batch, join
from rs_embed_core.tokens import Tokens
from serve_app.observe.origin import Origin, adopt, origin, together

type Outcome = Tokens | RSEmbedError
type Run[S] = Callable[[Batch, S], Awaitable[tuple[list[Tokens], EncoderInfo]]]


@dataclass(frozen=True)
class Done:
    """What became of the samples that were submitted together.

    Attributes:
        outcomes: of every sample, in order.
        info: what computed them; None where nothing was computed.
    """

    outcomes: list[Outcome]
    info: EncoderInfo | None

    @property
    def error(self) -> RSEmbedError | None:
        """Of the first sample that failed."""
        return next((outcome for outcome in self.outcomes if isinstance(outcome, RSEmbedError)), None)


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


@dataclass(eq=False)
class _Waiting:
    """A batch that came in together, and how far it is."""

    batch: Batch
    done: asyncio.Future[Done]
    origin: Origin
    since: float = field(default_factory=time.monotonic)
    taken: int = 0
    outcomes: list[Outcome | None] = field(default_factory=list)
    left: int = 0
    info: EncoderInfo | None = None

    def settle(self, start: int, outcomes: list[Outcome], info: EncoderInfo | None) -> None:
        self.info = info or self.info
        self.outcomes[start : start + len(outcomes)] = outcomes
        self.left -= len(outcomes)
        if self.left == 0 and not self.done.done():
            self.done.set_result(Done([outcome for outcome in self.outcomes if outcome is not None], self.info))


@dataclass(frozen=True, eq=False)
class _Piece:
    """Samples ``start`` to ``stop`` of a waiting batch, on their way through the device."""

    owner: _Waiting
    start: int
    stop: int

    @property
    def batch(self) -> Batch:
        return self.owner.batch.take(self.start, self.stop)


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
        self._buckets: OrderedDict[tuple[object, S], deque[_Waiting]] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        """Samples that no forward has taken yet."""
        return sum(len(entry.batch) - entry.taken for queue in self._buckets.values() for entry in queue)

    async def submit(self, batch: Batch, needs: S) -> Done:
        """The outcome of every sample. Cancelling it takes back what is not computed yet."""
        future: asyncio.Future[Done] = asyncio.get_running_loop().create_future()
        entry = _Waiting(batch, future, origin(), outcomes=[None] * len(batch), left=len(batch))
        self._buckets.setdefault((batch.signature, needs), deque()).append(entry)
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

    def _take(self) -> tuple[S, list[_Piece]] | None:
        """The next batch: from the bucket that has waited longest, up to ``max_batch`` samples."""
        while self._buckets:
            key, queue = next(iter(self._buckets.items()))
            pieces, room = [], self.max_batch
            while queue and room:
                entry = queue[0]
                stop = min(len(entry.batch), entry.taken + room)
                if entry.taken < stop:
                    pieces.append(_Piece(entry, entry.taken, stop))
                    room -= stop - entry.taken
                    entry.taken = stop
                if entry.taken >= len(entry.batch):
                    queue.popleft()
            if not queue:
                del self._buckets[key]
            else:
                self._buckets.move_to_end(key)
            if pieces:
                return key[1], pieces
        return None

    async def _forward(self, needs: S, pieces: list[_Piece]) -> None:
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
                count = piece.stop - piece.start
                piece.owner.settle(piece.start, done.outcomes[position : position + count], done.info)
                position += count
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of it, whatever it is
            failed = error
            for piece in pieces:
                if not piece.owner.done.done():
                    piece.owner.done.set_exception(error)
        finally:
            self._busy -= 1
            self._kick()
            if self._on_forward is not None:
                samples = sum(piece.stop - piece.start for piece in pieces)
                self._on_forward(Forwarded(origins, samples, waited_s, (began_ns, time.time_ns()), failed))

    async def _done(self, batch: Batch, needs: S) -> Done:
        """Forward a batch; on failure go one by one, so that one sample fails alone."""
        try:
            tokens, info = await self._run(batch, needs)
            return Done(list(tokens), info)
        except Exception as error:  # noqa: BLE001 - a process edge: one sample must not fail its neighbours
            if len(batch) == 1 or isinstance(error, CheckpointError):
                return Done([_known(error)] * len(batch), None)
            alone = [await self._done(batch.take(index, index + 1), needs) for index in range(len(batch))]
            outcomes = [outcome for one in alone for outcome in one.outcomes]
            return Done(outcomes, next((one.info for one in alone if one.info is not None), None))


def _known(error: Exception) -> RSEmbedError:
    if isinstance(error, RSEmbedError):
        return error
    return ForwardError(f"the forward failed: {type(error).__name__}: {error}")
