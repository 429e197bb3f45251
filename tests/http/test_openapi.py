"""What /openapi.json says is what the service takes."""

from __future__ import annotations

import json

import jsonschema
import pytest

from rs_embed_core.errors import (
    RSEmbedError,
)
from serve_app.http import openapi
from serve_app.wire.codecs import ARROW, JSON, NDJSON
from serve_app.wire.problems import PROBLEM_JSON
from serve_app.wire.schemas import decode
from tests.http.calls import LIMITS, ONE, POINT, get, post
from tests.http.fake_service import FakeService

SCHEMA = jsonschema.Draft202012Validator(openapi.request_schema(LIMITS))


async def test_openapi_has_the_routes():
    document = (await get("/openapi.json")).json()
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
    assert (await post(FakeService(), body)).status_code == 200


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
