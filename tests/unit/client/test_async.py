from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import httpx2
import pytest

from rs_embed_core.errors import (
    NoImagery,
)
from serve_app.client import AsyncEmbeddingClient, Splitting
from serve_app.wire.codecs import ARROW
from serve_app.wire.rows import Job
from tests.unit.client.fake_service import Endless, FakeService, odd_ones_fail, places, stream_of


async def test_the_async_client_does_the_same() -> None:
    service = FakeService(row=odd_ones_fail)
    service.answers = [lambda job: stream_of(job, service.rows(job), cut=1)]
    async with AsyncEmbeddingClient(service.transport(), splitting=Splitting(rois=16)) as client:
        items = [item async for item in client.stream_embeddings("mosaiks", spatials=places(40), ordered=True)]
        assert [item.index for item in items] == list(range(40))
        with pytest.raises(NoImagery) as caught:
            await client.get_embeddings_batch("mosaiks", spatials=places(8))
        assert caught.value.context["failed"] == 4
        assert (await client.get_embedding("mosaiks", spatial=places(3)[2])).data[0] == 2
        assert await client.list_models() == ["dofa", "mosaiks"]
        assert (await client.describe_model("dofa"))["id"] == "dofa"
        assert (await client.ready())["ready"] is False


async def test_the_loop_stays_free_while_a_stream_waits() -> None:
    started, go_on = asyncio.Event(), asyncio.Event()
    service = FakeService()

    def slow(job: Job) -> httpx2.Response:
        whole = stream_of(job, service.rows(job))

        async def body() -> AsyncIterator[bytes]:
            async for piece in whole.stream:  # type: ignore[union-attr]
                yield piece
                started.set()
                await go_on.wait()

        return httpx2.Response(200, headers={"Content-Type": ARROW}, content=body())

    service.answers = [slow]
    async with AsyncEmbeddingClient(service.transport()) as client:
        asked = asyncio.create_task(client.get_embeddings_batch("mosaiks", spatials=places(30)))
        await asyncio.wait_for(started.wait(), 10)  # the loop runs although a thread waits for bytes
        assert not asked.done()
        go_on.set()
        assert len(await asked) == 30


async def test_cancelling_a_call_ends_its_request() -> None:
    begun, ended = threading.Event(), threading.Event()
    async with AsyncEmbeddingClient(Endless.transport(ended, begun)) as client:
        asked = asyncio.create_task(client.get_embeddings_batch("mosaiks", spatials=places(3)))
        assert await asyncio.to_thread(begun.wait, 10)
        asked.cancel()
        assert await asyncio.to_thread(ended.wait, 10)
        with pytest.raises(asyncio.CancelledError):
            await asked
