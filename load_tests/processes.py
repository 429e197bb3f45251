"""CPU and memory of the service's processes."""

from __future__ import annotations

import os
import threading
import time
from types import TracebackType
from typing import Self

import psutil

_PERIOD_S = 0.05


def cpu_seconds() -> dict[str, float]:
    """User and system time by role, of this process and all below it, Ray's own included."""
    totals: dict[str, float] = {}
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        try:
            times, role = process.cpu_times(), _role(process)
        except psutil.NoSuchProcess:
            continue
        totals[role] = totals.get(role, 0.0) + times.user + times.system
    return totals


def _role(process: psutil.Process) -> str:
    """What a process does, from the title that Ray gives its workers."""
    if process.pid == os.getpid():
        return "client"
    title = " ".join(process.cmdline())
    known = {
        "router": ":router",
        "encoder": "ServeReplica",
        "fetch": "Fetcher",
        "proxy": "ProxyActor",
        "controller": "ServeController",
        "raylet": "raylet/raylet",
        "gcs": "gcs_server",
    }
    return next((role for role, mark in known.items() if mark in title), "other")


class PeakMemory:
    """The highest resident memory of one process while the block runs, in megabytes."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.start_mb = self._now()
        self.peak_mb = self.start_mb

    def _now(self) -> float:
        return self._process.memory_info().rss / 1e6

    def _watch(self) -> None:
        while not self._stop.is_set():
            self.peak_mb = max(self.peak_mb, self._now())
            time.sleep(_PERIOD_S)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self.peak_mb = max(self.peak_mb, self._now())
