"""An export runs: outcomes come from Ray Data, and become files here. Imports Ray."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from pydantic_core import from_json

from rs_embed_core.errors import IncompleteStream, ProviderAuth
from serve_app.export.cluster import Patience
from serve_app.export.ledger import FAILURES, OWN_FOLDERS, Marker
from serve_app.export.parts import Part
from serve_app.export.pipeline import nodes, outcomes_of
from serve_app.export.planned import Export
from serve_app.export.rows import note_ends
from serve_app.export.stages import Outcomes
from serve_app.export.ticking import ticking
from serve_app.export.writer import Gathered, Gathering, Writer, list_failures

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
        if done:
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

    However it ends, what is complete is written, and the list of failures with it.

    Raises:
        CheckpointError: weights are missing.
        ProviderAuth: the account is not let in, and nothing has worked yet.
        Unavailable: the service is not there, or for too long no node that could hold a worker.
        InvalidRequest: the service is set up in another way than it was.
        IncompleteStream: rows have not arrived.
    """
    _begin(export)
    clock, rows = _Clock(export.rows), _Rows(export)
    try:
        with ThreadPoolExecutor(_WRITERS, thread_name_prefix="write") as threads:
            for _ in rows.mended(export.outdated, threads):
                if clock.due(rows.done):
                    yield clock.progress(rows.done, rows.writing)
            patience = Patience(export.job, export.settings)
            for outcomes in ticking(outcomes_of(export), _EVERY_S):
                if outcomes is None:
                    patience.look(nodes(), time.monotonic())
                else:
                    patience.renew()
                    rows.take(outcomes, threads)
                if clock.due(rows.done):
                    yield clock.progress(rows.done, rows.writing)
            rows.check()
        yield clock.progress(rows.done, rows.writing)
    finally:
        list_failures(export.store, FAILURES, export.failures, export.rois, export.ids)


def _begin(export: Export) -> None:
    """Make the store ready, before there is a new file in it."""
    for folder in OWN_FOLDERS:
        export.store.sweep(folder)
    note_ends(export.store, export.ends)
    for label, ledger in export.ledgers.items():
        ledger.begin(export.store, export.made[label])


class _Rows:
    """What has come so far, and what is being written of it."""

    def __init__(self, export: Export) -> None:
        self._writer = Writer(export.store, export.ledgers, export.rois, export.columns)
        self._gathering = Gathering(export.work)
        self._by_service = export.job.service is not None
        self._ledgers, self._store = export.ledgers, export.store
        self._worked = False
        self.done = 0
        self.writing: list[Future[Marker]] = []

    def take(self, outcomes: Outcomes, threads: ThreadPoolExecutor) -> None:
        """Gather rows; a part that is complete is written.

        Raises:
            ProviderAuth: all rows so far have failed, and these because of the account.
            InvalidRequest: the service makes them in another way than those that are there.
        """
        errors = [row.error for row in outcomes.rows if row.error is not None]
        self._worked = self._worked or len(errors) < len(outcomes.rows)
        refused = next((error for error in errors if isinstance(error, ProviderAuth)), None)
        if refused is not None and not self._worked:
            raise refused.again()
        if self._by_service:
            for row in outcomes.rows:
                if row.meta is not None:
                    self._ledgers[outcomes.label].check_answer(self._store, from_json(row.meta))
        new, complete = self._gathering.add(outcomes)
        self.done += new
        if complete is not None:
            self.writing.append(threads.submit(self._writer.write, complete))

    def mended(self, outdated: Sequence[tuple[str, Part]], threads: ThreadPoolExecutor) -> Iterator[Marker]:
        """Yield the markers of files that are written anew, with their own vectors and the columns of now."""
        futures = [threads.submit(self._writer.write, Gathered(part, label, set())) for label, part in outdated]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:  # whoever stops it does not wait for the others
            for future in futures:
                future.cancel()

    def check(self) -> None:
        """Refuse an end with rows that have not come.

        Raises:
            IncompleteStream: it says how many.
        """
        if self._gathering.left:
            msg = f"{self._gathering.left} rows did not come back from the workers."
            raise IncompleteStream(msg, hint="Run it again: what is complete is kept.")
