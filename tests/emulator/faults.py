"""What goes wrong on demand, and what was counted: the state behind ``/__ctl``."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Self  # orders are JSON

from rs_embed_core.errors import JSONValue
from tests.emulator.replies import Reply, refusal
from tests.emulator.service import Kind

TOO_MANY = "Too Many Requests: Request was rejected because the request rate or concurrency limit was exceeded."
_PAGE = (
    b"<!DOCTYPE html><html lang=en><title>Error 502 (Server Error)!!1</title>"
    b"<p>The server encountered a temporary error and could not complete your request.</html>"
)


@dataclass
class Fault:
    """One thing that goes wrong.

    Attributes:
        kind: of request, ``any`` for all that the service knows.
        skip: leave so many of them alone first.
        times: then happen so often; None for ever.
        status, message: the error sent instead of the answer; no status, no error.
        reason: what a 403 gives as its reason (``rateLimitExceeded``).
        retry_after: seconds, as a header.
        headers: more headers, on an error or on the answer.
        delay: seconds before anything is sent.
        truncate: announce the whole body, send half and hang up.
        hang_up: send nothing.
        html: a proxy's page instead of a JSON error.
    """

    kind: str = "any"
    skip: int = 0
    times: int | None = 1
    status: int | None = None
    message: str = "Injected fault."
    reason: str | None = None
    retry_after: float | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    truncate: bool = False
    hang_up: bool = False
    html: bool = False

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """A fault from its fields.

        Raises:
            ValueError: one of them does not exist.
        """
        if unknown := set(values) - {item.name for item in fields(cls)}:
            raise ValueError(f"a fault has no {', '.join(sorted(unknown))}")
        return cls(**values)

    def take(self, kind: Kind) -> bool:
        """Whether it befalls this request."""
        if self.kind not in {kind, "any"}:
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.times is not None:
            self.times -= 1
            return self.times >= 0
        return True

    def reply(self) -> Reply | None:
        """What is sent instead of the answer, if anything is."""
        if self.html:
            return Reply(self.status or 502, _PAGE, "text/html; charset=UTF-8", self._headers())
        if self.status is None:
            return None
        error = refusal(self.status, self.message, reason=self.reason)
        return Reply(error.status, error.body, error.content_type, self._headers())

    def _headers(self) -> Mapping[str, str]:
        wait = {} if self.retry_after is None else {"Retry-After": f"{self.retry_after:g}"}
        return {**self.headers, **wait}


class Conduct:
    """How the service behaves and what it has seen; every method may be called from many threads."""

    def __init__(self, *, latency_ms: float = 0.0, at_once: int | None = None) -> None:
        self._lock = threading.Lock()
        self._in_flight = 0
        self._start(latency_ms, at_once)

    def _start(self, latency_ms: float, at_once: int | None) -> None:
        self._latency_s = latency_ms / 1000
        self._at_once = at_once
        self._faults: list[Fault] = []
        self._requests: Counter[str] = Counter()
        self._rejected, self._most_in_flight = 0, self._in_flight
        self._ports: set[int] = set()
        self._headers: dict[str, str | None] = {}
        self._cpu = time.process_time()

    def obey(self, orders: Mapping[str, Any]) -> None:
        """Change the behaviour: ``reset``, ``latency_ms``, ``at_once`` (0: no limit), ``faults``."""
        faults = [Fault.from_json(item) for item in orders.get("faults", [])]
        with self._lock:
            if orders.get("reset"):
                self._start(0.0, None)
            if "latency_ms" in orders:
                self._latency_s = orders["latency_ms"] / 1000
            if "at_once" in orders:
                self._at_once = orders["at_once"] or None
            if "faults" in orders:
                self._faults = faults

    def enter(self, kind: Kind, port: int, headers: Mapping[str, str | None]) -> Reply | Fault | None:
        """Count a request in: a refusal, a fault that befalls it, or nothing. ``leave`` must follow."""
        with self._lock:
            self._requests[kind] += 1
            self._ports.add(port)
            self._headers = dict(headers)
            if kind in {"pixels", "value"}:
                self._in_flight += 1
                self._most_in_flight = max(self._most_in_flight, self._in_flight)
                if self._at_once is not None and self._in_flight > self._at_once:
                    self._rejected += 1
                    return refusal(429, TOO_MANY)
            return next((fault for fault in self._faults if fault.take(kind)), None)

    def leave(self, kind: Kind) -> None:
        """Count a request out, just before its reply goes: the client may send the next one at once."""
        if kind in {"pixels", "value"}:
            with self._lock:
                self._in_flight -= 1

    def wait(self, kind: Kind, began: float) -> None:
        """Sleep until the request has taken the latency."""
        if kind in {"pixels", "value"}:
            time.sleep(max(0.0, began + self._latency_s - time.monotonic()))

    def counters(self) -> dict[str, JSONValue]:
        """What was seen since the last reset."""
        known: Sequence[str] = ("pixels", "value", "discovery", "algorithms", "asset")
        with self._lock:
            return {
                "requests": {kind: self._requests[kind] for kind in known},
                "rejected": self._rejected,
                "in_flight": self._in_flight,
                "most_in_flight": self._most_in_flight,
                "ports": len(self._ports),
                "headers": dict(self._headers),
                "cpu_s": time.process_time() - self._cpu,
            }
