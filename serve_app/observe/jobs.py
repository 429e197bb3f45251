"""Metrics of stages request and stream, and the one log line that every request ends with."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from rs_embed_core.errors import RSEmbedError
from serve_app.observe import metrics, tracing
from serve_app.observe.outcomes import outcome_of, outcomes_of
from serve_app.wire.reply import closing
from serve_app.wire.rows import Row

_log = logging.getLogger(__name__)

type End = Literal["complete", "problems", "failed", "left"]


@dataclass
class Watch:
    """What became of one request so far.

    Attributes:
        model: name of the encoder deployment.
        rois: asked for.
        codes: of the problems, with their numbers.
        our_fault: the first problem that is not the caller's.
    """

    model: str
    rois: int
    rows: int = 0
    problems: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    our_fault: RSEmbedError | None = None
    began: float = field(default_factory=time.perf_counter)
    first_row_s: float | None = None

    def take(self, rows: list[Row]) -> None:
        """Note rows on their way to the caller."""
        if self.first_row_s is None:
            self.first_row_s = time.perf_counter() - self.began
            metrics.REQUEST_FIRST_ROW_SECONDS.observe(self.first_row_s, self.model)
        self._note(row.error for row in rows)
        for (outcome, fault), number in outcomes_of(row.error for row in rows).items():
            metrics.STREAM_ROWS.add(number, self.model, outcome, fault)
        metrics.STREAM_BYTES.add(sum(row.data.nbytes for row in rows if row.data is not None), self.model)
        self.rows += len(rows)
        self.problems += sum(row.error is not None for row in rows)

    def _note(self, errors: Iterable[RSEmbedError | None]) -> None:
        for error in errors:
            if error is None:
                continue
            self.codes[error.code] += 1
            if self.our_fault is None and outcome_of(error)[1] == "service":
                self.our_fault = error

    def end(self, failure: Exception | None = None) -> None:
        """Note the end of the request.

        Args:
            failure: that ended it as a whole.
        """
        seconds = time.perf_counter() - self.began
        how = self._how(failed=failure is not None)
        if failure is not None:
            known = failure if isinstance(failure, RSEmbedError) else None
            self._note([known or RSEmbedError(f"{type(failure).__name__}: {failure}")])
        if self.first_row_s is None:  # who waited in vain waited no shorter
            metrics.REQUEST_FIRST_ROW_SECONDS.observe(seconds, self.model)
        metrics.REQUEST_JOBS.add(1, self.model, how)
        metrics.REQUEST_SECONDS.observe(seconds, self.model)
        facts: dict[str, tracing.Fact] = {
            "model": self.model,
            "rois": self.rois,
            "rows": self.rows,
            "problems": self.problems,
            "end": how,
            "seconds": round(seconds, 3),
            "first_row_s": None if self.first_row_s is None else round(self.first_row_s, 3),
        }
        tracing.note_request(facts, None if self.our_fault is None else self.our_fault.code)
        said = facts | ({"codes": dict(self.codes)} if self.codes else {})
        if self.our_fault is None:
            _log.info("request ended", extra=said)
        else:
            _log.warning("request ended", extra={**said, "error": str(self.our_fault)})

    def _how(self, *, failed: bool) -> End:
        if failed:
            return "failed"
        if self.rows < self.rois:
            return "left"
        if 0 < self.rois == self.problems:
            return "failed"
        return "problems" if self.problems else "complete"


class Jobs:
    """The requests under way in one router."""

    def __init__(self) -> None:
        self._active = 0

    async def watched(self, rows: AsyncIterator[list[Row]], *, model: str, rois: int) -> AsyncGenerator[list[Row]]:
        """Yield the same rows; note them, and how it ends. A caller who leaves closes this."""
        watch = Watch(model, rois)
        metrics.REQUEST_ROIS.add(rois, model)
        self._move(1)
        failure: Exception | None = None
        try:
            async with closing(rows):
                async for some in rows:
                    watch.take(some)
                    yield some
        except Exception as error:
            failure = error
            raise
        finally:
            self._move(-1)
            watch.end(failure)

    def _move(self, step: int) -> None:
        self._active += step
        self.tell()

    def tell(self) -> None:
        """Tell the level of how many there are, see ``measures``."""
        metrics.REQUEST_ACTIVE_JOBS.set(self._active)


def count_answer(error: RSEmbedError, status: int) -> None:
    """Count a request that is answered with this problem, where its status puts a fault of the caller's on us.

    Serve counts requests by their status; alerts take these out again.
    """
    if status >= 500 and outcome_of(error)[1] == "caller":
        metrics.REQUEST_EXCUSED.add(1, error.code)


@contextmanager
def refusals_counted() -> Iterator[None]:
    """Count an error of the block as a request that went to no model."""
    try:
        yield
    except RSEmbedError as error:
        metrics.REQUEST_REFUSED.add(1, error.code)
        raise
