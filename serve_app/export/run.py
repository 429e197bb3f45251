"""An export runs: outcomes come from Ray Data, and become files here. Imports Ray."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from serve_app.export.ledger import FAILURES, Marker
from serve_app.export.pipeline import outcomes_of
from serve_app.export.planned import Export
from serve_app.export.writer import Gathering, Writer, list_failures

_WRITERS = 4  # files being written at once
_EVERY_S = 5.0  # between words on progress


@dataclass(frozen=True)
class Progress:
    """How far an export is.

    Attributes:
        done, total: rows of all models, failed ones too.
        files: parts of all models that are complete.
        left_s: seconds to the end, as it has gone since the first rows came; None where there is nothing to tell it by.
    """

    done: int
    total: int
    files: int
    failed: int
    elapsed_s: float
    left_s: float | None


class _Clock:
    """Times an export from its start, and its rows from the first ones on: workers take their time to start."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._started = self._said = time.monotonic()
        self._first: tuple[float, int] | None = None

    def due(self, done: int) -> bool:
        """Whether it is time for a word on progress."""
        now = time.monotonic()
        self._first = self._first or (now, done)
        if now - self._said < _EVERY_S:
            return False
        self._said = now
        return True

    def progress(self, done: int, writing: Sequence[Future[Marker]]) -> Progress:
        """How far it is. A file that could not be written raises here what was wrong."""
        ready = [future.result() for future in writing if future.done()]
        failed = sum(len(marker.failures) for marker in ready)
        now, left_s = time.monotonic(), None
        if self._first is not None and done > self._first[1]:
            left_s = (self._total - done) * (now - self._first[0]) / (done - self._first[1])
        return Progress(done, self._total, len(ready), failed, now - self._started, left_s)


def run(export: Export) -> Iterator[Progress]:
    """Do what is missing; yield every few seconds, and at the end. Ray is connected, unless nothing is missing.

    Raises:
        CheckpointError: weights are missing.
        Unavailable: the service is not there.
    """
    for label, ledger in export.ledgers.items():
        ledger.begin(export.store, export.made[label])
    writer, gathering = Writer(export.store, export.ledgers, export.rois), Gathering(export.work)
    clock, done = _Clock(export.rows), 0
    writing: list[Future[Marker]] = []
    with ThreadPoolExecutor(_WRITERS, thread_name_prefix="write") as threads:
        for outcomes in outcomes_of(export):
            new, complete = gathering.add(outcomes)
            done += new
            if complete is not None:
                writing.append(threads.submit(writer.write, complete))
            if clock.due(done):
                yield clock.progress(done, writing)
    last = clock.progress(done, writing)
    list_failures(export.store, FAILURES, export.failures, export.rois)
    yield last
