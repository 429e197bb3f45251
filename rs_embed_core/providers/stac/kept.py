"""Stage fetch, STAC: ``Kept``, values made once and kept while there is room."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future

from rs_embed_core.providers.calls import terms, too_late

_LONGEST_WAIT_S = 3600.0


class Kept[K: Hashable, V]:
    """Values by key, the longest unused dropped first. Threads that ask for one at the same time make it once.

    Args:
        room: how much may be kept; at least the last value is, however large.
        size: how much room a value takes.
    """

    def __init__(self, room: float, size: Callable[[V], float]) -> None:
        self._room = room
        self._size = size
        self._lock = threading.Lock()
        self._values: OrderedDict[K, Future[V]] = OrderedDict()
        self._sizes: dict[K, float] = {}
        self._taken = 0.0

    def get(self, key: K, make: Callable[[], V]) -> V:
        """The value of a key, made now if it is not kept.

        Raises:
            ProviderTimeout: another thread is making it, and this read's deadline passed.
            Exception: what ``make`` raised.
        """
        while True:
            mine: Future[V] = Future()
            with self._lock:
                value = self._values.setdefault(key, mine)
                self._values.move_to_end(key)
            if value is mine:
                return self._made(key, mine, make)
            try:
                failed = value.exception(min(terms().left_s, _LONGEST_WAIT_S))
            except TimeoutError as error:
                raise too_late("waiting for another read of the same") from error
            if failed is None:
                return value.result()
            # The other read failed, perhaps by its own deadline: this one tries for itself.

    def _made(self, key: K, future: Future[V], make: Callable[[], V]) -> V:
        try:
            value = make()
        except BaseException as error:
            with self._lock:
                del self._values[key]
            future.set_exception(error)
            raise
        future.set_result(value)
        with self._lock:
            self._sizes[key] = self._size(value)
            self._taken += self._sizes[key]
            self._make_room(key)
        return value

    def _make_room(self, newest: K) -> None:
        for key in list(self._values):
            if self._taken <= self._room:
                return
            if key != newest and key in self._sizes:  # what is still being made has no size yet
                del self._values[key]
                self._taken -= self._sizes.pop(key)
