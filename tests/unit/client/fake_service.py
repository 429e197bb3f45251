"""A service behind the client's transport: real codec, real errors, made-up rows."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

import httpx2
import numpy as np

from rs_embed_core.errors import (
    NoImagery,
    RSEmbedError,
    UnknownModel,
)
from rs_embed_core.specs.spatial import PointBuffer
from serve_app.client import EmbeddingClient, HttpTransport, StreamItem
from serve_app.wire.codecs import ARROW, Reply, encode_stream
from serve_app.wire.problems import status_of, to_problem
from serve_app.wire.rows import Job, Row
from serve_app.wire.schemas import Limits, decode

_LIMITS = Limits(max_rois=1000, max_body_mb=1)

_ROWS_A_LIST = 8


def lon_row(index: int, spatial: dict[str, float]) -> Row:
    """The vector of an ROI says where it is, so that a mixed-up row shows."""
    data = np.full(4, spatial["lon"], np.float32)
    return Row(index, data, json.dumps({"model": "mosaiks", "lon": spatial["lon"]}))


@dataclass
class FakeService:
    """Answers ``POST /v1/embeddings`` with the real codec; ``answers`` replaces the first answers."""

    row: Callable[[int, dict[str, float]], Row] = lon_row
    answers: list[Callable[[Job], httpx2.Response]] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    reverse: bool = False

    async def __call__(self, request: httpx2.Request) -> httpx2.Response:
        if request.method == "GET":
            return self._get(request.url.path)
        assert request.headers["Accept"] == ARROW
        job = decode(request.content, content_type=request.headers["Content-Type"], limits=_LIMITS)
        self.jobs.append(job)
        if self.answers:
            return self.answers.pop(0)(job)
        return stream_of(job, self.rows(job))

    def rows(self, job: Job) -> list[Row]:
        rows = [self.row(index, spatial) for index, spatial in enumerate(job.spatials)]
        return rows[::-1] if self.reverse and not job.ordered else rows

    def _get(self, path: str) -> httpx2.Response:
        models = [{"id": "mosaiks", "aliases": []}, {"id": "dofa", "aliases": ["dofa_base"]}]
        if path == "/v1/models":
            return httpx2.Response(200, json={"models": models})
        if path == "/readyz":
            return httpx2.Response(503, json={"ready": False, "models": {"dofa-base": {"status": "starting"}}})
        if path == "/v1/models/dofa":
            return httpx2.Response(200, json=models[1])
        return problem(UnknownModel("there is no model 'x'.", hint="Did you mean dofa?"))

    def transport(self) -> HttpTransport:
        return HttpTransport("http://fake", transport=httpx2.MockTransport(self))

    def client(self, **options: object) -> EmbeddingClient:
        return EmbeddingClient(self.transport(), **options)  # type: ignore[arg-type]

    def asked(self) -> list[list[float]]:
        return [[spatial["lon"] for spatial in job.spatials] for job in self.jobs]


def stream_of(job: Job, rows: Sequence[Row], *, cut: int | None = None, status: int = 200) -> httpx2.Response:
    """The rows as an Arrow stream; ``cut`` leaves out the end after so many pieces."""

    async def lists() -> AsyncIterator[list[Row]]:
        for start in range(0, len(rows), _ROWS_A_LIST):
            yield list(rows[start : start + _ROWS_A_LIST])

    async def body() -> AsyncIterator[bytes]:
        pieces = [piece async for piece in encode_stream(ARROW, Reply(job), lists())]
        for piece in pieces[:cut]:
            for start in range(0, len(piece), 1000):  # pieces of the network are not pieces of the codec
                yield piece[start : start + 1000]

    return httpx2.Response(status, headers={"Content-Type": ARROW}, content=body())


def problem(error: RSEmbedError, **headers: str) -> httpx2.Response:
    return httpx2.Response(status_of(error), json=to_problem(error), headers=headers)


def raising(error: Exception) -> Callable[[Job], httpx2.Response]:
    def answer(job: Job) -> httpx2.Response:
        raise error

    return answer


def places(count: int) -> list[PointBuffer]:
    return [PointBuffer(float(i % 180), 10, 320) for i in range(count)]


def check_places(items: Sequence[StreamItem]) -> None:
    for item in items:
        assert item.embedding is not None
        assert item.embedding.data[0] == item.index % 180


def odd_ones_fail(index: int, spatial: dict[str, float]) -> Row:
    if spatial["lon"] % 2:
        error = NoImagery("there is nothing.", hint="Widen temporal.", context={"index": index})
        return Row(index, error=error)
    return lon_row(index, spatial)


class Endless(httpx2.AsyncByteStream):
    """Two rows, and then nothing; says when the client reads, and when it has gone."""

    def __init__(self, job: Job, closed: threading.Event, begun: threading.Event) -> None:
        self._job = job
        self._closed, self._begun = closed, begun

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self._begun.set()
        async for piece in encode_stream(ARROW, Reply(self._job), self._lists()):
            yield piece

    async def _lists(self) -> AsyncIterator[list[Row]]:
        yield [lon_row(0, {"lon": 0.0})]
        yield [lon_row(1, {"lon": 1.0})]
        await asyncio.sleep(3600)

    async def aclose(self) -> None:
        self._closed.set()

    @classmethod
    def transport(cls, closed: threading.Event, begun: threading.Event | None = None) -> HttpTransport:
        def answer(request: httpx2.Request) -> httpx2.Response:
            job = decode(request.content, content_type="application/json", limits=_LIMITS)
            return httpx2.Response(
                200, headers={"Content-Type": ARROW}, stream=cls(job, closed, begun or threading.Event())
            )

        return HttpTransport("http://fake", transport=httpx2.MockTransport(answer))
