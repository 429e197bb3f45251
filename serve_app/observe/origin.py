"""Whose work is under way: ``Origin`` goes with it from process to process, into every log line and trace."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class Origin:
    """The request that some work is done for.

    Attributes:
        request_id: as in ``X-Request-ID``; of a forward for several requests, all of theirs.
        traceparent: the span that the work belongs to, as W3C Trace Context writes it; None makes no trace.
        callers_trace: id of the trace that the caller is in, also where ours is not part of it.
    """

    request_id: str = ""
    traceparent: str | None = None
    callers_trace: str = ""

    @property
    def trace_id(self) -> str:
        """The trace's id, for log lines; empty where there is none."""
        return self.callers_trace if self.traceparent is None else self.traceparent.split("-")[1]


NOBODY = Origin()
_origin: ContextVar[Origin] = ContextVar("origin", default=NOBODY)


def origin() -> Origin:
    """Of the work under way in this context."""
    return _origin.get()


@contextmanager
def under(new: Origin) -> Iterator[None]:
    """Work for this request while the block runs. Not around a ``yield``: that may be resumed in another context."""
    token = _origin.set(new)
    try:
        yield
    finally:
        _origin.reset(token)


def adopt(new: Origin) -> None:
    """Work for this request until the task ends."""
    _origin.set(new)


def together(origins: Iterable[Origin]) -> Origin:
    """The origin of work that is done for several requests at once: it belongs to the trace of none."""
    different = tuple(dict.fromkeys(origins))
    return different[0] if len(different) == 1 else Origin(",".join(one.request_id for one in different))
