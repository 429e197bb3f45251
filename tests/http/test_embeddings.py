"""POST /v1/embeddings with a fake service: results, and errors before and after the first row."""

from __future__ import annotations

import json
import logging

import numpy as np
import pyarrow as pa
import pytest

from rs_embed_core.errors import (
    InvalidRequest,
    NoImagery,
    Overloaded,
    ProviderQuota,
    RSEmbedError,
    UnknownModel,
)
from serve_app.wire.codecs import ARROW, JSON, NDJSON
from tests.http.calls import BAD, ONE, POINT, many, post, problem_of, rows_of
from tests.http.fake_service import FakeService


async def test_one_roi_as_json():
    response = await post(FakeService(), ONE)
    assert response.status_code == 200
    assert response.headers["content-type"] == JSON
    assert response.json()["meta"]["model"] == "dofa"
    np.testing.assert_allclose(response.json()["embedding"], [11.5, 48.1, 1280], rtol=1e-6)


async def test_one_roi_as_arrow():
    (row,) = rows_of(await post(FakeService(), ONE, ARROW))
    np.testing.assert_allclose(row.data, [11.5, 48.1, 1280], rtol=1e-6)


async def test_one_bad_roi_among_many():
    rows = rows_of(await post(FakeService(), many(POINT, BAD, POINT, "x"), ARROW))
    assert sorted(row.index for row in rows) == [0, 1, 2, 3]
    outcome = {row.index: row.error for row in rows}
    assert outcome[0] is outcome[2] is None
    assert isinstance(outcome[1], InvalidRequest)
    assert outcome[1].context["errors"][0]["pointer"] == "/spatials/1"
    assert isinstance(outcome[3], InvalidRequest)


async def test_nothing_but_bad_rois():
    rows = rows_of(await post(FakeService(), many(BAD, BAD, BAD), ARROW))
    assert all(isinstance(row.error, InvalidRequest) for row in rows)
    assert len(rows) == 3


async def test_many_as_json_and_lines():
    document = (await post(FakeService(), many(POINT, BAD, POINT))).json()
    assert document["summary"] == {"status": "complete", "rows": 3, "problems": 1}
    lines = (await post(FakeService(), many(POINT, BAD, POINT), NDJSON)).text.splitlines()
    assert json.loads(lines[-1]) == {"summary": document["summary"]}
    assert sorted(item["index"] for item in document["embeddings"]) == [0, 1, 2]


@pytest.mark.parametrize("ordered", [False, True])
async def test_the_ordered_flag_passes(ordered):
    service = FakeService()
    rows = rows_of(await post(service, many(*[POINT] * 5, ordered=ordered), ARROW))
    assert service.jobs[0].ordered is ordered
    assert [row.index for row in rows] == (list(range(5)) if ordered else list(range(5))[::-1])


async def test_float16_and_grids():
    body = many(POINT, POINT, output="grid", dtype="float16", input_prep="tile")
    response = await post(FakeService(), body, ARROW)
    assert sorted(row.data.shape for row in rows_of(response)) == [(3, 2, 2), (3, 2, 3)]
    kind = pa.ipc.open_stream(response.content).schema.field("embedding").type
    assert kind.field("data").type == pa.list_(pa.float16())


async def test_one_grid_is_a_tensor():
    response = await post(FakeService(), {**ONE, "output": "grid"}, ARROW)
    kind = pa.ipc.open_stream(response.content).schema.field("embedding").type
    assert kind == pa.fixed_shape_tensor(pa.float32(), [3, 2, 2])


async def test_timings_are_told():
    response = await post(FakeService(), ONE)
    names = [part.split(";")[0].strip() for part in response.headers["server-timing"].split(",")]
    assert names == ["decode", "first"]


@pytest.mark.parametrize("accept", [ARROW, JSON, NDJSON])
async def test_the_only_roi_failing_has_a_true_status(accept):
    service = FakeService()
    problem = problem_of(await post(service, {"model": "dofa", "spatial": BAD}, accept), 422, InvalidRequest)
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
    response = await post(FakeService(early=error), many(POINT, POINT), ARROW)
    problem_of(response, status, type(error))
    assert response.headers.get("retry-after") == wait


async def test_an_unexpected_exception_is_a_problem_and_logged(caplog):
    service = FakeService(early=KeyError("secret"))
    with caplog.at_level(logging.ERROR):
        response = await post(service, ONE, **{"x-request-id": "find-me"})
    problem = problem_of(response, 500, RSEmbedError)
    assert "secret" not in json.dumps(problem)
    (record,) = [record for record in caplog.records if record.name.startswith("serve_app")]
    assert record.request_id == "find-me"
    assert "secret" in caplog.text


@pytest.mark.parametrize(("late", "cls"), [(NoImagery("gone."), NoImagery), (KeyError("secret"), RSEmbedError)])
async def test_a_later_failure_is_rows(late, cls, caplog):
    service = FakeService(late=late)
    response = await post(service, many(*[POINT] * 5, ordered=True), ARROW)
    rows = rows_of(response)
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
    rows = rows_of(await post(_Lossy(chunk=1), many(*[POINT] * 4, ordered=True), ARROW))
    assert [row.index for row in rows] == [0, 2, 1, 3]
    assert [row.error is None for row in rows] == [True, True, False, False]


async def test_a_job_without_any_row():
    class Silent(FakeService):
        async def run(self, job):
            return
            yield

    problem_of(await post(Silent(), ONE), 500, RSEmbedError)
    problem_of(await post(Silent(), many(POINT)), 500, RSEmbedError)
