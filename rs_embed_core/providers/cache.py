"""Stage fetch: ``CachedProvider``, which reads a chip once for all who ask for it.

Memory first, then disk, then the provider; who asks for a chip that is being read waits for it. "There is no imagery"
is an outcome too and is remembered for a short while.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Protocol

from rs_embed_core.chip import Chip, FetchPlan
from rs_embed_core.errors import NoImagery, ProviderTimeout, RSEmbedError
from rs_embed_core.providers.base import Provider
from rs_embed_core.providers.calls import COUNTED, terms, too_late

_log = logging.getLogger(__name__)


class Shelf(Protocol):
    """Where chips are kept."""

    def get(self, key: str) -> Chip | None:
        """The chip, or None where it is not (or no longer) there."""

    def put(self, key: str, chip: Chip) -> None:
        """Keep a chip, perhaps in place of older ones; where that fails it is counted: the chip was paid for."""

    @property
    def nbytes(self) -> float:
        """Of all that is on it, as far as is known."""

    @property
    def failures(self) -> int:
        """Chips that could not be put on it."""


class LruShelf[T]:
    """The latest chips, up to so many bytes, in a form that ``keep`` gives them and ``take`` turns back.

    Where ``keep`` fails the chip is not kept.

    Args:
        nbytes: of all chips on it; a chip larger than that is not kept.
    """

    def __init__(self, nbytes: float, *, keep: Callable[[Chip], T], take: Callable[[T], Chip | None]) -> None:
        self._room = nbytes
        self._keep, self._take = keep, take
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[T, int]] = OrderedDict()
        self._total = 0
        self._failures = 0

    @property
    def nbytes(self) -> float:
        """See ``Shelf.nbytes``."""
        return self._total

    @property
    def failures(self) -> int:
        """See ``Shelf.failures``; what is too large is left out by choice and is none."""
        return self._failures

    def get(self, key: str) -> Chip | None:
        """See ``Shelf.get``."""
        with self._lock:
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            entry = self._kept[key][0]
        return self._take(entry)

    def put(self, key: str, chip: Chip) -> None:
        """See ``Shelf.put``."""
        size = nbytes_of(chip)
        if size > self._room:
            return
        try:
            entry = self._keep(chip)
        except Exception as error:  # noqa: BLE001 - a full object store, which has no name of its own here
            _log.warning("a chip could not be cached in memory", extra={"key": key, "error": str(error)})
            with self._lock:
                self._failures += 1
            return
        with self._lock:
            if key in self._kept:
                self._total -= self._kept.pop(key)[1]
            self._kept[key] = (entry, size)
            self._total += size
            while self._total > self._room:
                self._total -= self._kept.popitem(last=False)[1][1]


def memory_shelf(nbytes: float) -> LruShelf[Chip]:
    """A shelf in this process's own memory."""
    return LruShelf(nbytes, keep=lambda chip: chip, take=lambda chip: chip)


def nbytes_of(chip: Chip) -> int:
    """Bytes of a chip's arrays."""
    return chip.data.nbytes + (0 if chip.valid is None else chip.valid.nbytes)


@dataclass(frozen=True, eq=False)
class _Nothing:
    """Remembered: there is no imagery."""

    error: NoImagery
    until: float


class CachedProvider:
    """A provider behind shelves, asked once for each chip however many want it at the same time.

    Args:
        shelves: in the order in which they are looked at, with the name that ``Chip.facts`` calls each.
        no_imagery_s: how long "no imagery" is believed.
        scope: whatever else of the provider changes its pixels (which catalogue, which data set): part of every key.
    """

    def __init__(self, provider: Provider, shelves: dict[str, Shelf], *, no_imagery_s: float, scope: str = "") -> None:
        self._provider = provider
        self._shelves = shelves
        self._no_imagery_s = no_imagery_s
        digest = hashlib.blake2b(scope.encode(), digest_size=4).hexdigest()
        self._prefix = f"{provider.name}-{digest}"
        self._lock = threading.Lock()
        self._flights: dict[str, Future[Chip]] = {}
        self._nothing: OrderedDict[str, _Nothing] = OrderedDict()

    @property
    def name(self) -> str:
        """The provider's."""
        return self._provider.name

    def fetch(self, plan: FetchPlan) -> Chip:
        """The chip; ``facts`` says in ``cache`` where it was: a shelf, ``shared`` with another read, or ``miss``.

        Raises:
            ProviderError: as the provider; ProviderTimeout also where another's read took too long.
        """
        key = f"{self._prefix}-{plan.key}"
        while True:
            with self._lock:
                flight = self._flights.get(key)
                mine = flight is None
                if flight is None:
                    flight = self._flights[key] = Future()
            if mine:
                return self._lead(key, plan, flight)
            if (chip := _followed(flight)) is not None:
                return marked(chip, "shared")

    def _lead(self, key: str, plan: FetchPlan, flight: Future[Chip]) -> Chip:
        """Look or read, for everybody who waits too."""
        try:
            chip, where = self._found(key, plan)
        except BaseException as error:
            self._land(key)
            flight.set_exception(error)
            raise
        self._land(key)
        flight.set_result(chip)
        return marked(chip, where)

    def _land(self, key: str) -> None:
        with self._lock:
            del self._flights[key]

    def _found(self, key: str, plan: FetchPlan) -> tuple[Chip, str]:
        passed: list[Shelf] = []
        for name, shelf in self._shelves.items():
            if (chip := shelf.get(key)) is not None:
                _keep(passed, key, chip)
                return chip, name
            passed.append(shelf)
        self._check_nothing(key)
        try:
            chip = self._provider.fetch(plan)
        except NoImagery as error:
            self._remember_nothing(key, error)
            raise
        _keep(passed, key, chip)
        return chip, "miss"

    def _check_nothing(self, key: str) -> None:
        with self._lock:
            nothing = self._nothing.get(key)
        if nothing is not None and time.monotonic() < nothing.until:
            raise nothing.error.again()

    def _remember_nothing(self, key: str, error: NoImagery) -> None:
        now = time.monotonic()
        with self._lock:
            self._nothing[key] = _Nothing(error.again(), now + self._no_imagery_s)
            self._nothing.move_to_end(key)
            while self._nothing and next(iter(self._nothing.values())).until < now:
                self._nothing.popitem(last=False)


def _keep(shelves: list[Shelf], key: str, chip: Chip) -> None:
    for shelf in shelves:
        shelf.put(key, chip)


def _followed(flight: Future[Chip]) -> Chip | None:
    """The chip that another read brings; None where it ran out of its own time, which may be shorter than ours."""
    left_s = terms().left_s
    try:
        error = flight.exception(None if left_s == float("inf") else left_s)
    except TimeoutError as passed:
        raise too_late("waiting for another read of the same chip") from passed
    if isinstance(error, ProviderTimeout) and terms().left_s > 0:
        return None
    if isinstance(error, RSEmbedError):
        raise error.again()  # it is raised in the thread of each who waits
    return flight.result()


def marked(chip: Chip, where: str) -> Chip:
    """The chip, whose ``facts`` say where it was; what it once cost was paid by the read that missed."""
    free = where != "miss"
    facts = ((name, 0 if free and name in COUNTED else value) for name, value in chip.facts if name != "cache")
    return replace(chip, facts=(*facts, ("cache", where)))
