"""Requests to the ASGI application, and what is always checked of an answer."""

from __future__ import annotations

import io

import httpx2

from rs_embed_core.errors import RSEmbedError
from serve_app.http.app import build_http
from serve_app.wire.codecs import ARROW, JSON, read_arrow
from serve_app.wire.problems import PROBLEM_JSON, from_problem
from serve_app.wire.rows import Row
from serve_app.wire.schemas import Limits
from tests.http.fake_service import FakeService

POINT = {"lon": 11.5, "lat": 48.1, "buffer_m": 640}
BAD = {"lon": 11.5, "lat": 148.1, "buffer_m": 640}
LIMITS = Limits(max_rois=50, max_body_mb=0.01)
ONE = {"model": "dofa", "spatial": POINT}


def many(*spatials: object, **fields: object) -> dict[str, object]:
    return {"model": "dofa", "spatials": list(spatials), **fields}


def client_of(service: FakeService, **options: object) -> httpx2.AsyncClient:
    app = build_http(service, LIMITS, **options)
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test")


async def post(service: FakeService, body: object, accept: str = JSON, **headers: str) -> httpx2.Response:
    async with client_of(service) as client:
        return await client.post("/v1/embeddings", json=body, headers={"accept": accept, **headers})


async def get(path: str, service: FakeService | None = None, **headers: str) -> httpx2.Response:
    async with client_of(service or FakeService()) as client:
        return await client.get(path, headers=headers)


def problem_of(response: httpx2.Response, status: int, cls: type[RSEmbedError]) -> dict[str, object]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == PROBLEM_JSON
    problem = response.json()
    assert problem["status"] == status
    assert problem["instance"] == response.headers["x-request-id"]
    assert type(from_problem(problem)) is cls
    return problem


def rows_of(response: httpx2.Response) -> list[Row]:
    assert response.status_code == 200
    assert response.headers["content-type"] == ARROW
    return [row for rows in read_arrow(io.BytesIO(response.content)) for row in rows]
