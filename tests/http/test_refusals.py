"""What is refused, and how: bodies, media types, routes; and which encoding a caller gets."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest

from rs_embed_core.errors import (
    BatchTooLong,
    DeadlineExceeded,
    InvalidRequest,
    NoImagery,
    ProviderError,
    RSEmbedError,
    UnsupportedMedia,
)
from serve_app.http.accept import negotiate
from serve_app.observe import metrics
from serve_app.wire.codecs import ARROW, JSON, NDJSON
from tests.http.calls import ONE, POINT, client_of, get, many, post, problem_of
from tests.http.fake_service import FakeService
from tests.unit.written import written


async def _send(content: bytes | AsyncIterator[bytes], **headers: str) -> httpx2.Response:
    async with client_of(FakeService()) as client:
        return await client.post("/v1/embeddings", content=content, headers=headers)


async def test_what_is_refused_before_any_model_is_asked_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = written(monkeypatch, metrics.REQUEST_REFUSED)
    await _send(b'{"model": ', **{"content-type": JSON})
    await _send(b"model=dofa", **{"content-type": "application/x-www-form-urlencoded"})
    await post(FakeService(), ONE, "text/csv")
    await post(FakeService(), {"model": "dofa", "spatial": POINT, "output": "vector"})
    await post(FakeService(), ONE)
    codes = [labels["code"] for labels in refused.labels]
    assert codes == ["malformed_body", "unsupported_media_type", "not_acceptable", "invalid_request"]


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (DeadlineExceeded("late.", context={"timeout_s": 10.0}), 504, "deadline_exceeded"),
        (ProviderError("no such band.", code="unknown_band"), 502, "unknown_band"),
        (DeadlineExceeded("late."), 504, None),
        (NoImagery("none."), 404, None),
        (RuntimeError("broken."), 500, None),
    ],
)
async def test_a_5xx_that_is_the_caller_s_own_fault_is_counted(
    error: Exception, status: int, code: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    excused = written(monkeypatch, metrics.REQUEST_EXCUSED)
    assert (await post(FakeService(early=error), ONE)).status_code == status
    assert [labels["code"] for labels in excused.labels] == ([] if code is None else [code])


async def test_json_that_is_not_json():
    problem = (await _send(b'{"model": ', **{"content-type": JSON})).json()
    assert (problem["status"], problem["code"]) == (400, "malformed_body")


async def test_another_content_type():
    response = await _send(b"model=dofa", **{"content-type": "application/x-www-form-urlencoded"})
    problem_of(response, 415, UnsupportedMedia)


async def test_nothing_acceptable():
    problem = problem_of(await post(FakeService(), ONE, "text/csv"), 406, UnsupportedMedia)
    assert problem["code"] == "not_acceptable"
    assert ARROW in problem["hint"]


async def test_all_wrong_fields_are_pointed_at():
    body = {"model": "dofa", "spatial": POINT, "output": "vector", "temporal": 3}
    problem = problem_of(await post(FakeService(), body), 422, InvalidRequest)
    assert [entry["pointer"] for entry in problem["errors"]] == ["/temporal", "/output"]


async def test_too_many_rois():
    problem_of(await post(FakeService(), many(*[POINT] * 51)), 413, BatchTooLong)


async def test_a_body_that_says_it_is_too_large():
    problem_of(await _send(b"x" * 10_001, **{"content-type": JSON}), 413, BatchTooLong)


async def test_a_body_without_a_length_is_read_only_up_to_the_limit():
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield b" " * 1000

    problem_of(await _send(endless(), **{"content-type": JSON}), 413, BatchTooLong)
    assert sent <= 12


async def test_an_unknown_route():
    problem = problem_of(await get("/v1/embedding"), 404, RSEmbedError)
    assert problem["type"] == "about:blank"
    assert problem["code"] == "not_found"


async def test_another_method():
    response = await get("/v1/embeddings")
    problem = problem_of(response, 405, RSEmbedError)
    assert response.headers["allow"] == "POST"
    assert problem["code"] == "method_not_allowed"


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
