"""A caller who leaves, in any way and at any time, stops the work."""

from __future__ import annotations

import asyncio
import json

import pytest

from serve_app.http.app import build_http
from serve_app.wire.codecs import ARROW
from tests.http.calls import LIMITS, POINT, many
from tests.http.fake_service import FakeService


class _Caller:
    """An ASGI server's side of one request, which can hang up."""

    def __init__(self, body: object) -> None:
        self._body = json.dumps(body).encode()
        self._read = False
        self.gone = asyncio.Event()
        self.got: list[dict[str, object]] = []

    async def receive(self) -> dict[str, object]:
        if not self._read:
            self._read = True
            return {"type": "http.request", "body": self._body, "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, object]) -> None:
        self.got.append(message)

    async def call(self, service: FakeService) -> None:
        scope = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1",
            "method": "POST", "scheme": "http", "path": "/v1/embeddings", "raw_path": b"/v1/embeddings",
            "query_string": b"", "root_path": "", "server": ("test", 80), "client": ("test", 1),
            "headers": [(b"content-type", b"application/json"), (b"accept", ARROW.encode())],
        }  # fmt: skip
        await build_http(service, LIMITS)(scope, self.receive, self.send)


@pytest.mark.parametrize("lists", [0, 1])
async def test_a_caller_who_leaves_stops_the_work(lists):
    service = FakeService(stall=lists)
    caller = _Caller(many(*[POINT] * 6))
    call = asyncio.ensure_future(caller.call(service))
    await service.stalled.wait()
    assert service.closed == 0
    caller.gone.set()
    await asyncio.wait_for(call, 10)
    assert service.closed == 1
    assert bool(caller.got) is bool(lists)


@pytest.mark.parametrize("lists", [0, 1])
async def test_a_cancelled_request_stops_the_work(lists):
    service = FakeService(stall=lists)
    call = asyncio.ensure_future(_Caller(many(*[POINT] * 6)).call(service))
    await service.stalled.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert service.closed == 1


async def test_a_broken_connection_stops_the_work():
    class Broken(_Caller):
        async def send(self, message: dict[str, object]) -> None:
            raise RuntimeError("the connection is gone")

    service = FakeService()
    with pytest.raises(RuntimeError):
        await Broken(many(*[POINT] * 6)).call(service)
    assert service.closed == 1
