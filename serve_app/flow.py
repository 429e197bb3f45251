"""Stage stream: how much of one job is under way, how fast it goes, and in which order its rows leave."""

from __future__ import annotations

import asyncio
import math
import struct
import time
import zlib
from collections.abc import Sequence

from serve_app.wire.rows import Row

_EVEN_FROM = 8  # ROIs that an actor may get of any job, however few there are
_REFILL = 1 / 8  # of the window is free before more is sent: every span costs a call, so few and full ones


class Window:
    """What is under way: at most so many ROIs and so many bytes, and always room for one."""

    def __init__(self, rois: int, nbytes: float) -> None:
        self._rois = rois
        self._nbytes = nbytes
        self._taken: dict[int, int] = {}
        self._total = 0
        self._changed = asyncio.Event()

    @property
    def refill(self) -> int:
        """ROIs that fit when there is room."""
        return max(1, int(_REFILL * self._rois))

    def fits(self, nbytes: int) -> bool:
        """Whether one more ROI of so many bytes fits."""
        return not self._taken or (len(self._taken) < self._rois and self._total + nbytes <= self._nbytes)

    async def room(self, nbytes: int) -> None:
        """Return when there is room for an ROI of so many bytes, and for a good many more."""
        while not (self._has_room() and self.fits(nbytes)):
            self._changed.clear()
            await self._changed.wait()

    def _has_room(self) -> bool:
        few = len(self._taken) <= self._rois - self.refill
        return not self._taken or (few and self._total <= (1 - _REFILL) * self._nbytes)

    def take(self, index: int, nbytes: int) -> None:
        """An ROI goes under way."""
        self._taken[index] = nbytes
        self._total += nbytes

    def give(self, index: int) -> None:
        """Its row has left."""
        self._total -= self._taken.pop(index, 0)
        self._changed.set()


def fair_share(loads: Sequence[int], left: int) -> int:
    """What the least loaded worker may take of what is left so that in the end all have the same to do; at least 1."""
    return max(1, math.ceil((sum(loads) + left) / len(loads)) - min(loads))


class Dealer:
    """Deals the ROIs of one job out to fetch actors: a place always to the same one, which may have its chip.

    No actor gets more than its even share of a long job. What is dealt depends on the job's places alone, so another
    model that is asked about the same places at the same time finds the same actors.
    """

    def __init__(self, actors: int, rois: int) -> None:
        self._dealt = [0] * actors
        self._share = max(_EVEN_FROM, math.ceil(rois / actors))

    def home(self, transform: Sequence[float]) -> int:
        """The actor for a chip whose pixels have this transform."""
        home = zlib.crc32(struct.pack(f"{len(transform)}d", *transform)) % len(self._dealt)
        if self._dealt[home] >= self._share:
            home = self._dealt.index(min(self._dealt))
        self._dealt[home] += 1
        return home


class Pace:
    """How long the encoder has enough to do with what is there, at the rate that it had so far in this job."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._ahead = 0
        self._done = 0

    def arrive(self, samples: int) -> None:
        """Samples are ready for the encoder."""
        self._began = self._began or time.monotonic()
        self._ahead += samples

    def leave(self, samples: int) -> None:
        """The encoder is through with samples."""
        self._ahead -= samples
        self._done += samples

    @property
    def busy_s(self) -> float:
        """Seconds until the encoder runs dry; 0 while its rate is unknown."""
        if self._began is None or not self._done:
            return 0.0
        return self._ahead * (time.monotonic() - self._began) / self._done


class Order:
    """Lets rows through as they come, or in the order of the request."""

    def __init__(self, *, ordered: bool) -> None:
        self._ordered = ordered
        self._held: dict[int, Row] = {}
        self._turn = 0

    def through(self, rows: list[Row]) -> list[Row]:
        """The rows that may leave now."""
        if not self._ordered:
            return rows
        self._held.update((row.index, row) for row in rows)
        out = []
        while self._turn in self._held:
            out.append(self._held.pop(self._turn))
            self._turn += 1
        return out
