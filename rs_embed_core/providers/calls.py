"""Stage fetch: how a provider asks a remote service: past a gate, within a deadline, again where that may help.

A provider sends each request through ``ask`` and says with a ``Verdict`` what a failure means. Retry, quota and
deadline live here and in ``gate``; a provider only knows its service.
"""

from __future__ import annotations

import contextvars
import math
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal, Protocol

from rs_embed_core.errors import ProviderError, ProviderTimeout

type Pressure = Literal["none", "concurrency", "rate"]

COUNTED = ("requests", "retries", "bytes", "queued_ms")  # what a ``Tally`` counts, and ``Chip.facts`` call it
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 20.0  # full jitter below 0.5 * 2**n, at most 20 (earth_engine.md, 2.3)


@dataclass(frozen=True)
class Terms:
    """Under which terms a chip is read; they are the request's, not the provider's.

    Attributes:
        deadline: ``time.monotonic()`` after which nobody wants the answer.
        bulk: one of many ROIs; those of small requests go first.
    """

    deadline: float = math.inf
    bulk: bool = False

    @property
    def left_s(self) -> float:
        """Seconds until the deadline, at least 0."""
        return max(0.0, self.deadline - time.monotonic())


_terms: ContextVar[Terms] = ContextVar("terms", default=Terms())  # noqa: B039 - frozen


def terms() -> Terms:
    """The terms of the read under way in this context."""
    return _terms.get()


@contextmanager
def under(new: Terms) -> Iterator[None]:
    """Read under these terms while the block runs."""
    token = _terms.set(new)
    try:
        yield
    finally:
        _terms.reset(token)


def in_parallel[R](jobs: Sequence[Callable[[], R]], threads: Executor) -> list[R]:
    """The results of jobs that run at once, under the caller's terms; all end before the first error is raised."""
    first, *others = jobs
    futures: list[Future[R]] = [threads.submit(contextvars.copy_context().run, job) for job in others]
    try:
        own = first()  # in this thread: a single job needs no other
    finally:
        for future in futures:
            future.exception()
    return [own, *(future.result() for future in futures)]


@dataclass(frozen=True)
class Verdict:
    """What a failed request means.

    Attributes:
        error: what the caller hears if it is not sent again.
        tries: how often in all this kind of failure may be met; 1 is never again.
        pressure: what the service complained of, for the gate.
        retry_after_s: the service's own word on when to come back.
        breaks: a fault of configuration or a spent quota that every other request will meet too.
    """

    error: ProviderError
    tries: int = 1
    pressure: Pressure = "none"
    retry_after_s: float | None = None
    breaks: bool = False


_UNJUDGED = Verdict(ProviderError("the request failed in a way that its provider does not know.", retryable=False))


class Turnstile(Protocol):
    """What a request passes: slots, rate, broken circuits. One per service and account."""

    def enter(self, terms: Terms) -> None:
        """Wait for a slot.

        Raises:
            ProviderTimeout: the deadline passed first.
            ProviderError: the circuit is open; the error that opened it.
        """

    def leave(self, verdict: Verdict | None) -> None:
        """Give the slot back; ``verdict`` is None after a success."""

    def may_retry(self) -> bool:
        """Whether a request that failed on the way may go again: no more than a share of all do."""


class Tally:
    """What one chip cost: requests, retries, bytes, seconds of waiting for a slot. Threads may share one.

    One that is begun within ``billed_to`` adds to that bill too, so what a read that failed has cost is known as well.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(COUNTED, 0.0)
        self._bill = _bill.get()

    def add(self, name: str, amount: float = 1) -> None:
        """Count something."""
        with self._lock:
            self._counts[name] += amount
        if self._bill is not None:
            self._bill.add(name, amount)

    def counts(self) -> dict[str, float]:
        """The counts so far, by their names in ``COUNTED``."""
        with self._lock:
            return dict(self._counts)

    def facts(self) -> tuple[tuple[str, int | float], ...]:
        """The counts for ``Chip.facts``; whole numbers where they are counts."""
        return tuple((name, round(n, 1) if name.endswith("_ms") else int(n)) for name, n in self.counts().items())


_bill: ContextVar[Tally | None] = ContextVar("bill", default=None)


@contextmanager
def billed_to(bill: Tally) -> Iterator[None]:
    """Whatever is read while the block runs counts on this bill too, whether or not a chip comes of it."""
    token = _bill.set(bill)
    try:
        yield
    finally:
        _bill.reset(token)


@dataclass(frozen=True)
class Asking:
    """How the requests of one chip are sent.

    Attributes:
        judge: what an exception of ``send`` means.
        gate: what every attempt passes.
        tally: what it all costs.
    """

    judge: Callable[[Exception], Verdict]
    gate: Turnstile
    tally: Tally

    def ask[R](self, send: Callable[[float], R]) -> R:
        """The answer of a request, sent again while that may help.

        Args:
            send: one attempt; it is given the seconds that are left (may be infinite) and must not take longer.

        Raises:
            ProviderError: the verdict on the last failure, or that of the gate.
        """
        attempt = 0
        while True:
            attempt += 1
            try:
                return self._once(send)
            except _Failed as failed:
                verdict = failed.verdict
                wait_s = _wait_s(attempt, verdict)
                if attempt >= verdict.tries or wait_s >= terms().left_s or not self._affordable(verdict):
                    raise verdict.error from failed.cause
            self.tally.add("retries")
            time.sleep(wait_s)

    def _affordable(self, verdict: Verdict) -> bool:
        """Whether the service, when it fails often, is spared another try; one that is only busy is not."""
        return verdict.pressure != "none" or self.gate.may_retry()

    def _once[R](self, send: Callable[[float], R]) -> R:
        queued = time.monotonic()
        try:
            self.gate.enter(terms())
        finally:  # who gave up in the line has waited longest
            self.tally.add("queued_ms", 1e3 * (time.monotonic() - queued))
        self.tally.add("requests")
        verdict: Verdict | None = _UNJUDGED
        try:
            answer = send(terms().left_s)
            verdict = None
        except ProviderError as error:  # the provider has judged already
            verdict = Verdict(error)
            raise
        except Exception as error:  # whatever a client raises; the judge raises again what it does not know
            verdict = self.judge(error)
            raise _Failed(verdict, error) from error
        finally:
            self.gate.leave(verdict)
        return answer


class _Failed(Exception):
    """An attempt that failed, judged."""

    def __init__(self, verdict: Verdict, cause: Exception) -> None:
        super().__init__(str(verdict.error))
        self.verdict = verdict
        self.cause = cause


def _wait_s(attempt: int, verdict: Verdict) -> float:
    """Full jitter; what the service says counts where it asks for more."""
    jitter = random.uniform(0, min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2**attempt))  # noqa: S311 - not for secrets
    return max(jitter, verdict.retry_after_s or 0.0)


def too_late(what: str) -> ProviderTimeout:
    """The error of a read whose deadline passed."""
    return ProviderTimeout(f"{what}: the request's deadline passed.", hint="Give a longer timeout_s or fewer ROIs.")
