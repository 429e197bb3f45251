from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import httpx2

from rs_embed_core.specs.request import Ask
from serve_app.client import HttpTransport
from serve_app.wire.codecs import ARROW
from serve_app.wire.rows import Job

STREAMS = 3


class Silent:
    """A service whose streams have begun and say nothing more."""

    def __init__(self) -> None:
        self.waiting = 0
        self.all_wait = asyncio.Event()

    async def __call__(self, request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"Content-Type": ARROW}, content=self._body())

    async def _body(self) -> AsyncIterator[bytes]:
        self.waiting += 1
        if self.waiting == STREAMS:
            self.all_wait.set()
        await asyncio.Event().wait()
        yield b""


async def test_streams_that_wait_take_no_thread_of_the_loop_s_own() -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    service = Silent()
    transport = HttpTransport("http://fake", transport=httpx2.MockTransport(service))
    job = Job(Ask("mosaiks"), ({"lon": 11.0, "lat": 48.0, "buffer_m": 80.0},))
    streams = [transport.rows(job) for _ in range(STREAMS)]
    first = [asyncio.ensure_future(anext(stream)) for stream in streams]
    try:
        async with asyncio.timeout(20):
            await service.all_wait.wait()
            assert await asyncio.to_thread(sum, (1, 2)) == 3
    finally:
        for task in first:
            task.cancel()
        await asyncio.gather(*first, return_exceptions=True)
        await transport.aclose()
