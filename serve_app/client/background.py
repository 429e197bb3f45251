"""An event loop in a thread of its own, so that blocking code (a notebook, a script) can use async code."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from typing import Any


class Background:
    """Runs coroutines in a thread, which starts with the first one and ends with ``close``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: tuple[asyncio.AbstractEventLoop, threading.Thread] | None = None
        self._stop = asyncio.Event()
        self._closed = False

    def run[T](self, work: Coroutine[Any, Any, T]) -> T:  # Any: what a coroutine sends and takes is its own
        """The result of a coroutine; it is cancelled if the caller is interrupted (Ctrl-C)."""
        try:
            loop = self._start()
        except RuntimeError:
            work.close()
            raise
        future = asyncio.run_coroutine_threadsafe(work, loop)
        try:
            return future.result()
        finally:
            future.cancel()  # no effect on one that is done

    def iterate[T](self, items: AsyncGenerator[T]) -> Generator[T]:
        """Yield the items of an async generator, which is closed when the caller stops."""
        pull = _Pull(items)
        try:
            while (item := self.run(pull.next())) is not None:
                yield item
        finally:
            if not self._closed:
                self.run(pull.close())

    def close(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Cancel what runs, run ``last`` where anything ever ran, and stop the thread."""
        with self._lock:
            running, self._closed = (None if self._closed else self._running), True
        if running is not None:
            loop, thread = running
            asyncio.run_coroutine_threadsafe(last(), loop).result()
            loop.call_soon_threadsafe(self._stop.set)
            thread.join()

    def _start(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._closed:
                raise RuntimeError("the client is closed")
            if self._running is None:
                loop = asyncio.new_event_loop()
                # A daemon: a client that nobody closed must not keep the interpreter alive.
                thread = threading.Thread(target=self._main, args=(loop,), name="rs-embed", daemon=True)
                self._running = (loop, thread)
                thread.start()
            return self._running[0]

    def _main(self, loop: asyncio.AbstractEventLoop) -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:  # on leaving it cancels what still runs
            runner.run(self._stop.wait())


class _Pull[T]:
    """Takes items of a generator one at a time, and can close it while one is awaited."""

    def __init__(self, items: AsyncGenerator[T]) -> None:
        self._items = items
        self._task: asyncio.Task[object] | None = None

    async def next(self) -> T | None:
        self._task = asyncio.current_task()
        return await anext(self._items, None)

    async def close(self) -> None:
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._items.aclose()
