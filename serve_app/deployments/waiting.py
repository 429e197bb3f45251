"""Stage batch: what waits for a forward, in buckets of which each may share one."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass, field

from rs_embed_core.embedding import EncoderInfo
from rs_embed_core.errors import RSEmbedError
from rs_embed_core.sample import Batch
from rs_embed_core.tokens import Tokens
from serve_app.observe.origin import Origin

type Outcome = Tokens | RSEmbedError


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


@dataclass(eq=False)
class Waiting:
    """A batch that came in together, and how far it is."""

    batch: Batch
    done: asyncio.Future[Done]
    origin: Origin
    since: float = field(default_factory=time.monotonic)
    taken: int = 0
    outcomes: list[Outcome | None] = field(default_factory=list)
    left: int = 0
    info: EncoderInfo | None = None

    @property
    def untaken(self) -> int:
        """Samples that no forward has taken yet."""
        return len(self.batch) - self.taken

    def settle(self, start: int, outcomes: list[Outcome], info: EncoderInfo | None) -> None:
        """Note what became of the samples from ``start`` on."""
        self.info = info or self.info
        self.outcomes[start : start + len(outcomes)] = outcomes
        self.left -= len(outcomes)
        if self.left == 0 and not self.done.done():
            self.done.set_result(Done([outcome for outcome in self.outcomes if outcome is not None], self.info))


@dataclass(frozen=True, eq=False)
class Piece:
    """Samples ``start`` to ``stop`` of a waiting batch, on their way through the device."""

    owner: Waiting
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def batch(self) -> Batch:
        """The samples."""
        return self.owner.batch.take(self.start, self.stop)


class Line[K: Hashable]:
    """Buckets that take turns; within each, the oldest samples go first."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[K, deque[Waiting]] = OrderedDict()

    @property
    def samples(self) -> int:
        """That wait."""
        return sum(entry.untaken for queue in self._buckets.values() for entry in queue)

    def add(self, key: K, entry: Waiting) -> None:
        """A batch waits from now on."""
        self._buckets.setdefault(key, deque()).append(entry)

    def first(self) -> K | None:
        """The bucket whose turn it is; None where nothing waits."""
        while self._buckets:
            key, queue = next(iter(self._buckets.items()))
            while queue and not queue[0].untaken:  # its caller has left
                queue.popleft()
            if queue:
                return key
            del self._buckets[key]
        return None

    def take(self, key: K, most: int) -> list[Piece]:
        """Take up to so many samples out of a bucket, which is then the last in line."""
        pieces: list[Piece] = []
        if not most:  # a bucket that gives nothing keeps its turn
            return pieces
        queue = self._buckets.pop(key, deque())
        while queue and most:
            entry = queue[0]
            stop = entry.taken + min(entry.untaken, most)
            if entry.taken < stop:
                pieces.append(Piece(entry, entry.taken, stop))
                most -= len(pieces[-1])
                entry.taken = stop
            if not entry.untaken:
                queue.popleft()
        if queue:
            self._buckets[key] = queue
        return pieces
