"""The ASGI application with a fake service: routes, negotiation, errors, streams."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator

import httpx
import jsonschema
import numpy as np
import pyarrow as pa
import pytest

from rs_embed_core.errors import (
    BatchTooLong,
    InvalidRequest,
    NoImagery,
    Overloaded,
    ProviderQuota,
    RSEmbedError,
    UnknownModel,
    UnsupportedMedia,
    error_classes,
)
from serve_app.http import openapi
from serve_app.http.accept import negotiate
from serve_app.http.app import build_http
from serve_app.wire.codecs import ARROW, JSON, NDJSON, read_arrow
from serve_app.wire.problems import PROBLEM_JSON, from_problem, problem_pages
from serve_app.wire.rows import Row
from serve_app.wire.schemas import Limits, decode
from tests.http.fake_service import FakeService

POINT = {"lon": 11.5, "lat": 48.1, "buffer_m": 640}
BAD = {"lon": 11.5, "lat": 148.1, "buffer_m": 640}
LIMITS = Limits(max_rois=50, max_body_mb=0.01)
ONE = {"model": "dofa", "spatial": POINT}


def _many(*spatials: object, **fields: object) -> dict[str, object]:
    return {"model": "dofa", "spatials": list(spatials), **fields}


def _client(service: FakeService, **options: object) -> httpx.AsyncClient:
    app = build_http(service, LIMITS, **options)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


async def _post(service: FakeService, body: object, accept: str = JSON, **headers: str) -> httpx.Response:
    async with _client(service) as client:
        return await client.post("/v1/embeddings", json=body, headers={"accept": accept, **headers})


async def _get(path: str, service: FakeService | None = None, **headers: str) -> httpx.Response:
    async with _client(service or FakeService()) as client:
        return await client.get(path, headers=headers)


def _problem(response: httpx.Response, status: int, cls: type[RSEmbedError]) -> dict[str, object]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == PROBLEM_JSON
    problem = response.json()
    assert problem["status"] == status
    assert problem["instance"] == response.headers["x-request-id"]
    assert type(from_problem(problem)) is cls
    return problem


def _rows(response: httpx.Response) -> list[Row]:
    assert response.status_code == 200
    assert response.headers["content-type"] == ARROW
    return [row for rows in read_arrow(io.BytesIO(response.content)) for row in rows]


# --- results -------------------------------------------------------------------------------------------------


async def test_one_roi_as_json():
    response = await _post(FakeService(), ONE)
    assert response.status_code == 200
    assert response.headers["content-type"] == JSON
    assert response.json()["meta"]["model"] == "dofa"
    np.testing.assert_allclose(response.json()["embedding"], [11.5, 48.1, 1280], rtol=1e-6)


async def test_one_roi_as_arrow():
    (row,) = _rows(await _post(FakeService(), ONE, ARROW))
    np.testing.assert_allclose(row.data, [11.5, 48.1, 1280], rtol=1e-6)


async def test_one_bad_roi_among_many():
    rows = _rows(await _post(FakeService(), _many(POINT, BAD, POINT, "x"), ARROW))
    assert sorted(row.index for row in rows) == [0, 1, 2, 3]
    outcome = {row.index: row.error for row in rows}
    assert outcome[0] is outcome[2] is None
    assert isinstance(outcome[1], InvalidRequest)
    assert outcome[1].context["errors"][0]["pointer"] == "/spatials/1"
    assert isinstance(outcome[3], InvalidRequest)


async def test_nothing_but_bad_rois():
    rows = _rows(await _post(FakeService(), _many(BAD, BAD, BAD), ARROW))
    assert all(isinstance(row.error, InvalidRequest) for row in rows)
    assert len(rows) == 3


async def test_many_as_json_and_lines():
    document = (await _post(FakeService(), _many(POINT, BAD, POINT))).json()
    assert document["summary"] == {"status": "complete", "rows": 3, "problems": 1}
    lines = (await _post(FakeService(), _many(POINT, BAD, POINT), NDJSON)).text.splitlines()
    assert json.loads(lines[-1]) == {"summary": document["summary"]}
    assert sorted(item["index"] for item in document["embeddings"]) == [0, 1, 2]


@pytest.mark.parametrize("ordered", [False, True])
async def test_the_ordered_flag_passes(ordered):
    service = FakeService()
    rows = _rows(await _post(service, _many(*[POINT] * 5, ordered=ordered), ARROW))
    assert service.jobs[0].ordered is ordered
    assert [row.index for row in rows] == (list(range(5)) if ordered else list(range(5))[::-1])


async def test_float16_and_grids():
    body = _many(POINT, POINT, output="grid", dtype="float16", input_prep="tile")
    response = await _post(FakeService(), body, ARROW)
    assert sorted(row.data.shape for row in _rows(response)) == [(3, 2, 2), (3, 2, 3)]
    kind = pa.ipc.open_stream(response.content).schema.field("embedding").type
    assert kind.field("data").type == pa.list_(pa.float16())


async def test_one_grid_is_a_tensor():
    response = await _post(FakeService(), {**ONE, "output": "grid"}, ARROW)
    kind = pa.ipc.open_stream(response.content).schema.field("embedding").type
    assert kind == pa.fixed_shape_tensor(pa.float32(), [3, 2, 2])


async def test_timings_are_told():
    response = await _post(FakeService(), ONE)
    names = [part.split(";")[0].strip() for part in response.headers["server-timing"].split(",")]
    assert names == ["decode", "first"]


# --- errors before and after the first row -------------------------------------------------------------------


@pytest.mark.parametrize("accept", [ARROW, JSON, NDJSON])
async def test_the_only_roi_failing_has_a_true_status(accept):
    service = FakeService()
    problem = _problem(await _post(service, {"model": "dofa", "spatial": BAD}, accept), 422, InvalidRequest)
    assert problem["errors"][0]["pointer"] == "/spatial"
    assert service.closed == 1


@pytest.mark.parametrize(
    ("error", "status", "wait"),
    [
        (UnknownModel("no model."), 404, None),
        (NoImagery("none."), 404, None),
        (Overloaded("full."), 429, "1"),
        (Overloaded("full.", context={"retry_after_s": 2.5}), 429, "3"),
        (ProviderQuota("spent."), 503, "5"),
    ],
)
async def test_a_job_that_fails_as_a_whole_has_a_true_status(error, status, wait):
    response = await _post(FakeService(early=error), _many(POINT, POINT), ARROW)
    _problem(response, status, type(error))
    assert response.headers.get("retry-after") == wait


async def test_an_unexpected_exception_is_a_problem_and_logged(caplog):
    service = FakeService(early=KeyError("secret"))
    with caplog.at_level(logging.ERROR):
        response = await _post(service, ONE, **{"x-request-id": "find-me"})
    problem = _problem(response, 500, RSEmbedError)
    assert "secret" not in json.dumps(problem)
    (record,) = [record for record in caplog.records if record.name.startswith("serve_app")]
    assert record.request_id == "find-me"
    assert "secret" in caplog.text


@pytest.mark.parametrize(
    ("late", "cls"), [(NoImagery("gone."), NoImagery), (KeyError("secret"), RSEmbedError)]
)
async def test_a_later_failure_is_rows(late, cls, caplog):
    service = FakeService(late=late)
    response = await _post(service, _many(*[POINT] * 5, ordered=True), ARROW)
    rows = _rows(response)
    assert [row.index for row in rows] == [0, 1, 2, 3, 4]
    assert [type(row.error) for row in rows] == [type(None)] * 2 + [cls] * 3
    assert b"secret" not in response.content
    assert "a stream failed" in caplog.text


class _Lossy(FakeService):
    async def run(self, job):
        async for rows in super().run(job):
            if kept := [row for row in rows if row.index % 2 == 0]:
                yield kept


async def test_rois_without_a_row_get_one():
    rows = _rows(await _post(_Lossy(chunk=1), _many(*[POINT] * 4, ordered=True), ARROW))
    assert [row.index for row in rows] == [0, 2, 1, 3]
    assert [row.error is None for row in rows] == [True, True, False, False]


async def test_a_job_without_any_row():
    service = FakeService()
    service.chunk = 10**9
    service._row = lambda job, index: Row(index)  # type: ignore[method-assign]
    assert all(row.error is not None for row in _rows(await _post(service, _many(POINT), ARROW)))

    class Silent(FakeService):
        async def run(self, job):
            return
            yield

    _problem(await _post(Silent(), ONE), 500, RSEmbedError)


# --- what is refused -----------------------------------------------------------------------------------------


async def _send(content: bytes | AsyncIterator[bytes], **headers: str) -> httpx.Response:
    async with _client(FakeService()) as client:
        return await client.post("/v1/embeddings", content=content, headers=headers)


async def test_json_that_is_not_json():
    problem = (await _send(b'{"model": ', **{"content-type": JSON})).json()
    assert (problem["status"], problem["code"]) == (400, "malformed_body")


async def test_another_content_type():
    response = await _send(b"model=dofa", **{"content-type": "application/x-www-form-urlencoded"})
    _problem(response, 415, UnsupportedMedia)


async def test_nothing_acceptable():
    problem = _problem(await _post(FakeService(), ONE, "text/csv"), 406, UnsupportedMedia)
    assert problem["code"] == "not_acceptable"
    assert ARROW in problem["hint"]


async def test_all_wrong_fields_are_pointed_at():
    body = {"model": "dofa", "spatial": POINT, "output": "vector", "temporal": 3}
    problem = _problem(await _post(FakeService(), body), 422, InvalidRequest)
    assert [entry["pointer"] for entry in problem["errors"]] == ["/temporal", "/output"]


async def test_too_many_rois():
    _problem(await _post(FakeService(), _many(*[POINT] * 51)), 413, BatchTooLong)


async def test_a_body_that_says_it_is_too_large():
    _problem(await _send(b"x" * 10_001, **{"content-type": JSON}), 413, BatchTooLong)


async def test_a_body_without_a_length_is_read_only_up_to_the_limit():
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield b" " * 1000

    _problem(await _send(endless(), **{"content-type": JSON}), 413, BatchTooLong)
    assert sent <= 12


async def test_an_unknown_route():
    problem = _problem(await _get("/v1/embedding"), 404, RSEmbedError)
    assert problem["type"] == "about:blank"
    assert problem["code"] == "not_found"


async def test_another_method():
    response = await _get("/v1/embeddings")
    problem = _problem(response, 405, RSEmbedError)
    assert response.headers["allow"] == "POST"
    assert problem["code"] == "method_not_allowed"


# --- negotiation ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (None, JSON),
        ("", JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", JSON),
        (ARROW, ARROW),
        (f"{ARROW}, {JSON}", ARROW),
        (f"{JSON}, {ARROW}", JSON),
        (f"{ARROW}, application/problem+json, */*", ARROW),
        (f"{JSON};q=0.5, {NDJSON};q=0.7", NDJSON),
        (f"{JSON};q=0, */*", ARROW),
        (f"{JSON};charset=utf-8;q=0.2, {ARROW.upper()};Q=0.3", ARROW),
        (f"{JSON};q=broken, {NDJSON};q=0.1", NDJSON),
    ],
)
def test_what_is_accepted(accept, media_type):
    assert negotiate(accept) == media_type


@pytest.mark.parametrize("accept", ["text/html", f"{JSON};q=0", "*/*;q=0", f"{JSON};q=nan", "json"])
def test_what_is_not(accept):
    with pytest.raises(UnsupportedMedia):
        negotiate(accept)


# --- request ids ---------------------------------------------------------------------------------------------


async def test_the_callers_id_is_kept_if_it_is_harmless():
    response = await _get("/nowhere", **{"x-request-id": "job-7.a:b"})
    assert response.headers["x-request-id"] == response.json()["instance"] == "job-7.a:b"
    response = await _get("/nowhere", **{"x-request-id": "<script>"})
    assert "script" not in response.headers["x-request-id"]
    assert (await _get("/livez")).headers["x-request-id"]


async def test_under_serve_the_id_is_not_sent_twice():
    async with _client(FakeService(), echo_request_id=False) as client:
        response = await client.get("/nowhere", headers={"x-request-id": "abc"})
    assert "x-request-id" not in response.headers
    assert response.json()["instance"] == "abc"


# --- the caller leaves ---------------------------------------------------------------------------------------


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
    caller = _Caller(_many(*[POINT] * 6))
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
    call = asyncio.ensure_future(_Caller(_many(*[POINT] * 6)).call(service))
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
        await Broken(_many(*[POINT] * 6)).call(service)
    assert service.closed == 1


# --- models, health, pages -----------------------------------------------------------------------------------


async def test_models():
    models = (await _get("/v1/models")).json()["models"]
    assert [entry["id"] for entry in models] == ["dofa", "mosaiks"]
    assert models[0]["serving"]["base"]["status"] == "ready"


@pytest.mark.parametrize("name", ["dofa", "DOFA", "dofa_base", "dofa-base"])
async def test_a_model_by_id_or_alias(name):
    assert (await _get(f"/v1/models/{name}")).json()["id"] == "dofa"


async def test_an_unknown_model():
    problem = _problem(await _get("/v1/models/dofaa"), 404, UnknownModel)
    assert problem["hint"] == "Did you mean dofa or dofa_base?"


@pytest.mark.parametrize("path", ["/livez", "/v2/health/live"])
async def test_alive(path):
    response = await _get(path, FakeService(state={"ready": False}))
    assert (response.status_code, response.json()) == (200, {"live": True})


@pytest.mark.parametrize("path", ["/readyz", "/v2/health/ready"])
@pytest.mark.parametrize(("ready", "status"), [(True, 200), (False, 503)])
async def test_ready(path, ready, status):
    state = {"ready": ready, "models": {"dofa-base": {"status": "starting"}}}
    response = await _get(path, FakeService(state=state))
    assert (response.status_code, response.json()) == (status, state)
    assert response.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("code", sorted({cls.default_code for cls in error_classes()}))
async def test_every_problem_has_a_page(code):
    response = await _get(f"/problems/{code}")
    assert response.status_code == 200
    assert code in response.text
    assert "http://" not in response.text
    assert "https://" not in response.text


async def test_the_index_of_problems_and_one_that_is_none():
    text = (await _get("/problems")).text
    assert all(f'href="problems/{code}"' in text for code in problem_pages())
    assert "/problems lists them" in (await _get("/problems/none")).json()["detail"]


async def test_the_landing_page_has_a_request_to_copy():
    response = await _get("/")
    assert "http://test/v1/embeddings" in response.text
    assert "script" not in response.text
    assert "default-src 'none'" in response.headers["content-security-policy"]


async def test_the_docs_load_nothing_from_elsewhere():
    async with _client(FakeService()) as client:
        page = (await client.get("/docs")).text
        assert "//" not in page.replace("// ", "").replace("<!-- ", "")
        for path in ("/static-offline-docs/swagger-ui-bundle.js", "/static-offline-docs/swagger-ui.css"):
            assert path in page
            assert (await client.get(path)).status_code == 200


# --- OpenAPI -------------------------------------------------------------------------------------------------

SCHEMA = jsonschema.Draft202012Validator(openapi.request_schema(LIMITS))


async def test_openapi_has_the_routes():
    document = (await _get("/openapi.json")).json()
    assert set(document["paths"]) == {
        "/v1/embeddings",
        "/v1/models",
        "/v1/models/{model}",
        "/livez",
        "/readyz",
    }
    post = document["paths"]["/v1/embeddings"]["post"]
    assert set(post["responses"]["200"]["content"]) == {JSON, NDJSON, ARROW}
    assert set(post["responses"]["default"]["content"]) == {PROBLEM_JSON}
    jsonschema.Draft202012Validator.check_schema(post["requestBody"]["content"]["application/json"]["schema"])


def _decodes(body: object) -> bool:
    try:
        decode(json.dumps(body).encode(), content_type=JSON, limits=LIMITS)
    except RSEmbedError:
        return False
    return True


@pytest.mark.parametrize("name", openapi.EXAMPLES)
async def test_examples_are_requests(name):
    body = openapi.EXAMPLES[name]["value"]
    SCHEMA.validate(body)
    assert (await _post(FakeService(), body)).status_code == 200


@pytest.mark.parametrize(
    ("changes", "good"),
    [
        ({}, True),
        ({"temporal": {"year": 2022}, "output": {"mode": "pooled", "pooling": "max"}}, True),
        ({"sensor": {"collection": "X", "bands": ["B1"], "cloudy_pct": None}}, True),
        (
            {
                "fetch": {"composite": "mosaic"},
                "model_config": {"variant": "base", "n": 1, "f": 0.5, "b": True},
            },
            True,
        ),
        ({"modality": "s1", "backend": "gee", "input_prep": {"tile_size": 64}}, True),
        ({"ordered": True, "timeout_s": 1, "dtype": "float16"}, True),
        ({"model": 3}, False),
        ({"model": ""}, False),
        ({"spatials": [POINT]}, False),
        ({"temporal": {"year": 2022, "start": "2022-01-01"}}, False),
        ({"temporal": {"year": 1900}}, False),
        ({"output": "vector"}, False),
        ({"output": {"mode": "grid", "orientation": "native"}}, False),
        ({"sensor": {"bands": ["B1"]}}, False),
        ({"fetch": {"clouds": 3}}, False),
        ({"model_config": {"a": []}}, False),
        ({"input_prep": {"mode": "cut"}}, False),
        ({"ordered": 1}, False),
        ({"timeout_s": 0}, False),
        ({"timeout_s": 86_401}, False),
        ({"dtype": "int8"}, False),
        ({"device": "cuda"}, False),
    ],
)
def test_the_schema_and_decode_agree(changes, good):
    body = ONE | changes
    assert SCHEMA.is_valid(body) is good
    assert _decodes(body) is good


@pytest.mark.parametrize(
    ("spatials", "good"),
    [([POINT], True), ([], False), ([POINT] * 50, True), ([POINT] * 51, False), (POINT, False)],
)
def test_the_schema_and_decode_agree_on_batches(spatials, good):
    body = {"model": "dofa", "spatials": spatials}
    assert SCHEMA.is_valid(body) is good
    assert _decodes(body) is good
