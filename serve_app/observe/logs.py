"""Log lines: one JSON object each, with the request's id, on the process's standard error."""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime
from typing import Literal, TextIO

from serve_app.observe.origin import origin

type Format = Literal["json", "text"]

LOGGERS = ("serve_app", "rs_embed_core")  # whatever else is logged in the process is not ours to format
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class Line(logging.Formatter):
    """A record as one line.

    Args:
        process: which of the service's processes writes (``router``, ``fetch``, ``dofa-large``).
        form: ``json``, or ``text`` for a reader without tools.
    """

    def __init__(self, process: str, form: Format) -> None:
        super().__init__()
        self._process = process
        self._form = form

    def format(self, record: logging.LogRecord) -> str:
        """See ``logging.Formatter``."""
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        facts = _facts(record)
        trace = self.formatException(record.exc_info) if record.exc_info else None
        if self._form == "text":
            said = " ".join(f"{name}={value}" for name, value in facts.items())
            line = f"{when} {record.levelname} {self._process} {record.name}: {record.getMessage()} {said}".rstrip()
            return line if trace is None else f"{line}\n{trace}"
        head = {"time": when, "level": record.levelname, "message": record.getMessage()}
        place = {"process": self._process, "pid": os.getpid(), "logger": record.name}
        tail = {} if trace is None else {"exception": trace}
        return json.dumps(head | place | facts | tail, default=str)


def _facts(record: logging.LogRecord) -> dict[str, object]:
    """Request and trace, then what ``extra`` said."""
    who = origin()
    named = {"request_id": who.request_id, "trace_id": who.trace_id}
    said = {name: value for name, value in vars(record).items() if name not in _STANDARD}
    return {name: value for name, value in named.items() if value} | said


def set_up(process: str, form: Format, level: str, stream: TextIO | None = None) -> None:
    """Write what the service's own loggers say; again for another process name or form.

    Args:
        stream: None takes standard error itself, not what Serve puts in its place to fill its own log.
    """
    handler = logging.StreamHandler(stream or sys.__stderr__)
    handler.setFormatter(Line(process, form))
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False
