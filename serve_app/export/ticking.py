"""Something to say while nothing comes: an iterator with a clock beside it."""

from __future__ import annotations

import threading
from collections.abc import Generator
from queue import Empty, Full, Queue

_LOOK_S = 0.5  # how often a thread with an item in its hand looks whether anybody still wants it
_LEAVE_S = 30.0  # for its item in the making: Ray starts anew by itself for a thread that goes on after its end


class _Source[T]:
    """A generator that runs in a thread of its own, one item ahead.

    A daemon: what takes too long to end does not hold the process.
    """

    def __init__(self, items: Generator[T]) -> None:
        self.found: Queue[tuple[T] | BaseException | None] = Queue(1)
        self.wanted = threading.Event()
        self.wanted.set()
        self._thread = threading.Thread(target=self._run, args=(items,), name="outcomes", daemon=True)
        self._thread.start()

    def leave(self) -> None:
        """Nobody wants any more of it; the generator is closed."""
        self.wanted.clear()
        self._thread.join(_LEAVE_S)

    def _run(self, items: Generator[T]) -> None:
        end: BaseException | None = None
        try:
            for item in items:
                if not self._put((item,)):
                    return
        except BaseException as error:  # noqa: BLE001 - whoever waits raises it
            end = error
        finally:
            items.close()
        self._put(end)

    def _put(self, item: tuple[T] | BaseException | None) -> bool:
        """Hand an item over; False where it is not wanted."""
        while self.wanted.is_set():
            try:
                self.found.put(item, timeout=_LOOK_S)
            except Full:
                continue
            return True
        return False


def ticking[T](items: Generator[T], every_s: float) -> Generator[T | None]:
    """Yield the items as they come, and None whenever none has come for so long."""
    source = _Source(items)
    try:
        while True:
            try:
                found = source.found.get(timeout=every_s)
            except Empty:
                yield None
                continue
            if found is None:
                return
            if isinstance(found, BaseException):
                raise found
            yield found[0]
    finally:
        source.leave()
