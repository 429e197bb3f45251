"""Stage fetch: ``Gate``, which lets requests to one service through: so many at once, so many a second.

Interactive reads pass before bulk ones. The limit halves when the service complains and grows by one per clean
interval (AIMD). A fault that every request would meet opens the circuit: the next ones fail at once for a while. Then
one request tries, and the others wait for what comes of it.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from rs_embed_core.errors import ProviderError
from rs_embed_core.providers.calls import Terms, Verdict, too_late

_BREAKS_AT = 3  # such faults in a row open the circuit: one may be a hiccup of the service's own
_OPEN_S = 30.0
_RETRIES, _RETRY_SHARE = 20.0, 0.2  # that may be tried again at once, and of the requests that succeed after that
_LOOK_S = 1.0  # the limit grows with time, which wakes nobody


@dataclass(frozen=True)
class Quota:
    """What a service allows one account.

    Attributes:
        at_once: requests under way (Earth Engine: 40 per project, so 32 leaves room for a notebook).
        per_second: requests begun in a second (Earth Engine: 100 per project).
    """

    at_once: int = 32
    per_second: float = 80.0


class Allowance:
    """How many requests may be under way: AIMD below what the quota says. Not thread-safe; its owner locks.

    Args:
        most: the quota.
        interval_s: after a cut, no further one for so long (they tell of the same crowd); and one more slot per
            clean interval.
        now: monotonic seconds.
    """

    def __init__(self, most: int, *, interval_s: float = 1.0, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._most = most
        self._limit = most
        self._interval_s = interval_s
        self._cut_at = self._grown_at = float("-inf")

    @property
    def limit(self) -> int:
        """Requests that may be under way now."""
        if self._limit < self._most:
            grown = int((self._now() - self._grown_at) / self._interval_s)
            self._limit = min(self._most, self._limit + grown)
            self._grown_at += grown * self._interval_s
        return self._limit

    def cut(self) -> None:
        """The service complained."""
        now = self._now()
        if now - self._cut_at >= self._interval_s:
            self._limit = max(1, self.limit // 2)
            self._cut_at = self._grown_at = now


class Gate:
    """Slots and a token bucket for one service and account in this process; a ``Turnstile``.

    A cluster shares one quota among processes by giving each gate its part: ``resize``.

    Args:
        quota: what may pass.
        name: of the service, for error texts.
        open_s: how long the circuit stays open, at least.

    Attributes:
        on_wait: called, in the thread of a request that finds no slot of its own, before it waits.
    """

    def __init__(self, quota: Quota, *, name: str, open_s: float = _OPEN_S) -> None:
        self.on_wait: Callable[[], None] | None = None
        self._name, self._open_s = name, open_s
        self._allowance = Allowance(quota.at_once)
        self._part: int | None = None
        self._per_second = quota.per_second
        self._tokens, self._filled = quota.per_second, time.monotonic()
        self._open = threading.Condition()
        self._waiting: list[tuple[bool, int]] = []
        self._numbers = itertools.count()
        self._inside = 0
        self._cuts = 0
        self._faults = 0
        self._retries = _RETRIES
        self._broken: tuple[ProviderError, float] | None = None
        self._trying = False

    def resize(self, at_once: int, per_second: float) -> None:
        """Let no more through than this part of the quota."""
        with self._open:
            self._part, self._per_second = at_once, max(per_second, 1e-3)
            self._open.notify_all()

    @property
    def broken(self) -> bool:
        """Whether the circuit is open: requests fail without being sent."""
        with self._open:
            return self._broken is not None and time.monotonic() < self._broken[1]

    @property
    def demand(self) -> tuple[int, int, int]:
        """Requests under way, requests that wait, and complaints of the service so far."""
        with self._open:
            return self._inside, len(self._waiting), self._cuts

    def enter(self, terms: Terms) -> None:
        """See ``Turnstile.enter``."""
        with self._open:
            me = (terms.bulk, next(self._numbers))
            heapq.heappush(self._waiting, me)
            try:
                while True:
                    self._check_circuit()
                    wait_s = self._wait_s(me)
                    if wait_s == 0.0:
                        break
                    if self.on_wait is not None and self._inside >= self._limit:
                        self.on_wait()
                    if terms.left_s <= 0.0:
                        raise too_late(f"waiting for a slot at {self._name}")
                    self._open.wait(min(wait_s, terms.left_s))
            finally:
                self._waiting.remove(me)
                heapq.heapify(self._waiting)
                self._open.notify_all()  # the next in line may have a slot of its own
            self._inside += 1
            self._tokens -= 1.0
            if self._broken is not None:
                self._trying, self._faults = True, _BREAKS_AT - 1  # if it fails the circuit opens again

    def _wait_s(self, me: tuple[bool, int]) -> float:
        """0 if it is this one's turn; else how long to sleep at most: what else may change wakes it."""
        if self._waiting[0] != me or self._inside >= self._limit or self._trying:
            return _LOOK_S
        now = time.monotonic()
        burst = max(1.0, self._per_second / 4)
        self._tokens = min(burst, self._tokens + (now - self._filled) * self._per_second)
        self._filled = now
        return 0.0 if self._tokens >= 1.0 else (1.0 - self._tokens) / self._per_second

    @property
    def _limit(self) -> int:
        own = self._allowance.limit
        return own if self._part is None else min(own, self._part)

    def _check_circuit(self) -> None:
        if self._broken is not None and time.monotonic() < self._broken[1]:
            raise self._broken[0].again()

    def leave(self, verdict: Verdict | None) -> None:
        """See ``Turnstile.leave``."""
        with self._open:
            self._inside -= 1
            if verdict is not None and verdict.pressure != "none":
                self._cuts += 1
                self._allowance.cut()
            if self._trying:  # any answer but the fault itself closes the circuit
                self._trying, self._broken = False, None
            if verdict is None:
                self._faults = 0
                self._retries = min(_RETRIES, self._retries + _RETRY_SHARE)
            elif verdict.breaks:
                self._faults += 1
                if self._faults >= _BREAKS_AT:
                    until = time.monotonic() + max(self._open_s, verdict.retry_after_s or 0.0)
                    self._broken = verdict.error.again(), until
            self._open.notify_all()

    def may_retry(self) -> bool:
        """See ``Turnstile.may_retry``."""
        with self._open:
            if self._retries < 1.0:
                return False
            self._retries -= 1.0
            return True
