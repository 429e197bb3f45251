"""Models, health, request ids and pages."""

from __future__ import annotations

import pytest

from rs_embed_core.errors import (
    UnknownModel,
    error_classes,
)
from serve_app.wire.problems import problem_pages
from tests.http.calls import client_of, get, problem_of
from tests.http.fake_service import FakeService


async def test_the_callers_id_is_kept_if_it_is_harmless():
    response = await get("/nowhere", **{"x-request-id": "job-7.a:b"})
    assert response.headers["x-request-id"] == response.json()["instance"] == "job-7.a:b"
    response = await get("/nowhere", **{"x-request-id": "<script>"})
    assert "script" not in response.headers["x-request-id"]
    assert (await get("/livez")).headers["x-request-id"]


async def test_under_serve_the_id_is_not_sent_twice():
    async with client_of(FakeService(), echo_request_id=False) as client:
        response = await client.get("/nowhere", headers={"x-request-id": "abc"})
    assert "x-request-id" not in response.headers
    assert response.json()["instance"] == "abc"


async def test_models():
    models = (await get("/v1/models")).json()["models"]
    assert [entry["id"] for entry in models] == ["dofa", "mosaiks"]
    assert models[0]["serving"]["base"]["status"] == "ready"


@pytest.mark.parametrize("name", ["dofa", "DOFA", "dofa_base", "dofa-base"])
async def test_a_model_by_id_or_alias(name):
    assert (await get(f"/v1/models/{name}")).json()["id"] == "dofa"


async def test_an_unknown_model():
    problem = problem_of(await get("/v1/models/dofaa"), 404, UnknownModel)
    assert problem["hint"] == "Did you mean dofa or dofa_base?"


@pytest.mark.parametrize("path", ["/livez", "/v2/health/live"])
async def test_alive(path):
    response = await get(path, FakeService(state={"ready": False}))
    assert (response.status_code, response.json()) == (200, {"live": True})


@pytest.mark.parametrize("path", ["/readyz", "/v2/health/ready"])
@pytest.mark.parametrize(("ready", "status"), [(True, 200), (False, 503)])
async def test_ready(path, ready, status):
    state = {"ready": ready, "models": {"dofa-base": {"status": "starting"}}}
    response = await get(path, FakeService(state=state))
    assert (response.status_code, response.json()) == (status, state)
    assert response.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("code", sorted({cls.default_code for cls in error_classes()}))
async def test_every_problem_has_a_page(code):
    response = await get(f"/problems/{code}")
    assert response.status_code == 200
    assert code in response.text
    assert "http://" not in response.text
    assert "https://" not in response.text


async def test_the_index_of_problems_and_one_that_is_none():
    text = (await get("/problems")).text
    assert all(f'href="problems/{code}"' in text for code in problem_pages())
    assert "/problems lists them" in (await get("/problems/none")).json()["detail"]


async def test_the_landing_page_has_a_request_to_copy():
    response = await get("/")
    assert "http://test/v1/embeddings" in response.text
    assert "script" not in response.text
    assert "default-src 'none'" in response.headers["content-security-policy"]


async def test_the_docs_load_nothing_from_elsewhere():
    async with client_of(FakeService()) as client:
        page = (await client.get("/docs")).text
        assert "//" not in page.replace("// ", "").replace("<!-- ", "")
        for path in ("/static-offline-docs/swagger-ui-bundle.js", "/static-offline-docs/swagger-ui.css"):
            assert path in page
            assert (await client.get(path)).status_code == 200
