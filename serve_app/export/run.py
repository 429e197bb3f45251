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
    """

    done: int
    total: int
    files: int
    failed: int
    elapsed_s: float

    @property
    def left_s(self) -> float:
        """Seconds to the end, as it has gone so far."""
        return (self.total - self.done) * self.elapsed_s / self.done if self.done else float("inf")


def run(export: Export) -> Iterator[Progress]:
    """Do what is missing; yield every few seconds, and at the end. Ray is connected, unless nothing is missing.

    Raises:
        CheckpointError: weights are missing.
        Unavailable: the service is not there.
    """
    for label, ledger in export.ledgers.items():
        ledger.clear(export.store)
        ledger.begin(export.store, export.made[label])
    writer, gathering = Writer(export.store, export.ledgers, export.rois), Gathering(export.work)
    started = said = time.monotonic()
    writing: list[Future[Marker]] = []
    done = 0
    with ThreadPoolExecutor(_WRITERS, thread_name_prefix="write") as threads:
        for outcomes in outcomes_of(export):
            new, complete = gathering.add(outcomes)
            done += new
            if complete is not None:
                writing.append(threads.submit(writer.write, complete))
            if time.monotonic() - said > _EVERY_S:
                said = time.monotonic()
                yield _progress(done, export.rows, writing, said - started)
        for future in writing:
            future.result()
    list_failures(export.store, FAILURES, export.failures, export.rois)
    yield _progress(done, export.rows, writing, time.monotonic() - started)


def _progress(done: int, total: int, writing: Sequence[Future[Marker]], elapsed_s: float) -> Progress:
    ready = [future.result() for future in writing if future.done()]  # a file that cannot be written ends it here
    return Progress(done, total, len(ready), sum(len(marker.failures) for marker in ready), elapsed_s)
