"""The service over real HTTP, as curl sees it: encodings, headers, health, the catalogue."""

from __future__ import annotations

import io
import json

import httpx2
import numpy as np
import pytest

from serve_app.client import EmbeddingClient
from serve_app.serving import Serving
from serve_app.wire.codecs import ARROW, JSON, NDJSON, read_arrow
from tests.serve.calls import ONE, many, post


def _arrow(url: str, body: object) -> dict[int, np.ndarray]:
    response = post(url, body, ARROW)
    assert response.headers["content-type"] == ARROW
    rows = [row for rows in read_arrow(io.BytesIO(response.content)) for row in rows]
    return {row.index: row.data for row in rows}


def test_one_place_in_every_encoding(service: Serving) -> None:
    expected = _arrow(service.url, ONE)[0]
    assert expected.shape == (512,)
    document = post(service.url, ONE)
    assert document.headers["content-type"] == JSON
    np.testing.assert_array_equal(np.array(document.json()["embedding"], np.float32), expected)
    line, summary = post(service.url, ONE, NDJSON).text.splitlines()
    np.testing.assert_array_equal(np.array(json.loads(line)["embedding"], np.float32), expected)
    assert json.loads(summary) == {"summary": {"status": "complete", "rows": 1, "problems": 0}}


def test_many_places_in_every_encoding(service: Serving) -> None:
    body = many(6)
    expected = _arrow(service.url, body)
    assert sorted(expected) == list(range(6))
    document = post(service.url, body).json()
    lines = [json.loads(line) for line in post(service.url, body, NDJSON).text.splitlines()]
    assert document["summary"] == lines[-1]["summary"] == {"status": "complete", "rows": 6, "problems": 0}
    for items in (document["embeddings"], lines[:-1]):
        assert sorted(item["index"] for item in items) == list(range(6))
        for item in items:
            np.testing.assert_allclose(item["embedding"], expected[item["index"]], rtol=1e-5, atol=1e-6)


def test_half_the_digits_on_request(service: Serving) -> None:
    half, full = _arrow(service.url, {**ONE, "dtype": "float16"})[0], _arrow(service.url, ONE)[0]
    np.testing.assert_array_equal(half, full.astype(np.float16))


def test_a_request_has_one_id_and_tells_its_timings(service: Serving) -> None:
    response = post(service.url, ONE, **{"x-request-id": "find-me"})
    assert response.headers.get_list("x-request-id") == ["find-me"]
    names = [part.split(";")[0].strip() for part in response.headers["server-timing"].split(",")]
    assert names == ["decode", "first"]
    made = {post(service.url, ONE).headers["x-request-id"] for _ in range(2)}
    assert len(made) == 2


@pytest.mark.parametrize("path", ["/livez", "/v2/health/live", "/", "/problems/unknown_model", "/docs"])
def test_what_needs_no_model_answers(service: Serving, path: str) -> None:
    assert httpx2.get(service.url + path, timeout=30).status_code == 200


@pytest.mark.parametrize("path", ["/readyz", "/v2/health/ready"])
def test_readiness_names_the_model_without_weights(service: Serving, path: str) -> None:
    response = httpx2.get(service.url + path, timeout=30)
    assert response.status_code == 503
    models = response.json()["models"]
    states = {name: model["status"] for name, model in models.items()}
    assert states.pop("dofa-base") in ("sleeping", "starting", "ready")  # another test may have woken it
    products = dict.fromkeys(("gse-annual", "tessera-v1"), "ready")
    networks = {"mosaiks-gaussian": "ready", "galileo-nano": "ready", "remoteclip-vit-b-32": "no_weights"}
    assert states == networks | products
    assert "MVRL/remote-clip-vit-base-patch32/model.safetensors" in models["remoteclip-vit-b-32"]["message"]


def test_the_catalogue_says_what_is_served(client: EmbeddingClient, handle: EmbeddingClient) -> None:
    assert client.list_models() == handle.list_models()
    assert {"mosaiks", "galileo", "remoteclip"} <= set(client.list_models())
    assert "remoteclip_s2rgb" in client.list_models(include_aliases=True)
    for over in (client, handle):
        serving = over.describe_model("galileo")["serving"]
        assert list(serving) == ["nano"]
        assert serving["nano"]["status"] == "ready"
        assert over.describe_model("clay")["serving"] == {}
        assert over.describe_model("remoteclip_s2rgb")["serving"]["vit_b_32"]["status"] == "no_weights"


def test_a_prefix_moves_every_route(slow: str) -> None:
    """The second application was built from a Serve config."""
    assert httpx2.get(f"{slow}/livez", timeout=30).status_code == 200
    assert list(httpx2.get(f"{slow}/v1/models/mosaiks", timeout=30).json()["serving"]) == ["gaussian"]
    assert len(post(slow, ONE).json()["embedding"]) == 512
