"""Threads of a fetch actor: one where the work computes, many where it waits for a provider."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

_SHARE = 0.5  # of a core that the crew fills before it stops growing
_REMEMBERED = 16  # jobs that say what the next are like

type Job = Callable[[], None]


class Crew:
    """Does jobs in threads, as many at once as their waiting is worth.

    Reading from a provider waits; drawing and preparing compute under the interpreter's lock, where threads that
    contend cost a third to a half more CPU than one that does not. So the crew has as many threads as it takes to
    fill half a core, between one and ``most``: all the time that the latest jobs took, over all that they computed.
    So a few that wait count for as long as they wait, however many found their chip in a cache.

    Args:
        most: threads.
        wall, cpu: seconds that pass, and that the calling thread computes.
    """

    def __init__(
        self,
        most: int,
        *,
        wall: Callable[[], float] = time.perf_counter,
        cpu: Callable[[], float] = time.thread_time,
    ) -> None:
        self._wall, self._cpu = wall, cpu
        self._most = most
        self._threads = ThreadPoolExecutor(most, thread_name_prefix="fetch")
        self._lock = threading.Lock()
        self._first: deque[Job] = deque()
        self._todo: deque[Job] = deque()
        self._at_work = 0
        self._wanted = most  # a provider that waits must not wait to be found out
        self._latest: deque[tuple[float, float]] = deque(maxlen=_REMEMBERED)  # wall and CPU time of jobs

    @property
    def wanted(self) -> int:
        """Threads that the latest jobs were worth."""
        return self._wanted

    def do(self, jobs: Iterable[Job], *, bulk: bool = True) -> None:
        """Queue jobs, which must not raise; those that are not bulk go first."""
        with self._lock:
            (self._todo if bulk else self._first).extend(jobs)
            self._hire()

    def _hire(self) -> None:
        for _ in range(min(self._wanted - self._at_work, len(self._first) + len(self._todo))):
            self._at_work += 1
            self._threads.submit(self._work)

    def _work(self) -> None:
        while True:
            with self._lock:
                jobs = self._first or self._todo
                if not jobs or self._at_work > self._wanted:
                    self._at_work -= 1
                    return
                job = jobs.popleft()
            wall, cpu = self._wall(), self._cpu()
            job()
            self._learn(self._wall() - wall, self._cpu() - cpu)

    def _learn(self, wall_s: float, cpu_s: float) -> None:
        with self._lock:
            self._latest.append((wall_s, cpu_s))
            took_s, computed_s = map(sum, zip(*self._latest, strict=True))
            self._wanted = max(1, min(self._most, math.ceil(_SHARE * took_s / max(computed_s, 1e-6))))
            self._hire()
