"""What is refused over real HTTP, and with which problem; one bad ROI costs its neighbours nothing."""

from __future__ import annotations

import json

import pytest

from rs_embed_core import TemporalSpec
from rs_embed_core.errors import (
    BatchTooLong,
    CheckpointError,
    InvalidRequest,
    MalformedBody,
    NoImagery,
    RSEmbedError,
    UnknownModel,
    UnknownOption,
    UnknownProvider,
    UnsupportedMedia,
)
from serve_app.client import EmbeddingClient
from serve_app.serving import Serving
from serve_app.wire.codecs import JSON
from tests.http.calls import problem_of
from tests.serve.calls import ONE, POINT, SUMMER, many, places, post, post_bytes

_BOX = {"minlon": 11.0, "minlat": 48.0, "maxlon": 11.1, "maxlat": 48.1}
_SENSOR = {"collection": "COPERNICUS/S2_SR_HARMONIZED", "bands": ["B4", "B3", "B2"]}
_BEFORE_SENTINEL_2 = {"start": "2010-06-01", "end": "2010-09-01"}


@pytest.mark.parametrize(
    ("changes", "status", "cls", "words"),
    [
        ({"model": "mosaics"}, 404, UnknownModel, "Did you mean mosaiks"),
        ({"model": "clay"}, 404, UnknownModel, "not served here"),
        ({"model": "galileo", "model_config": {"variant": "giant"}}, 422, UnknownOption, "nano, tiny, base"),
        ({"model": "galileo", "model_config": {"colour": 1}}, 422, UnknownOption, "patch_size"),
        ({"model": "galileo", "model_config": {"patch_size": 3}}, 422, UnknownOption, "1, 2, 4, 8"),
        ({"modality": "s1"}, 422, UnknownOption, "Modalities are s2"),
        ({"backend": "gea"}, 422, UnknownProvider, "synthetic"),
        ({"sensor": _SENSOR, "fetch": {"scale_m": 20}}, 422, InvalidRequest, "both sensor and fetch"),
        ({"temporal": {"start": "2022-13-01", "end": "2022-09-01"}}, 422, InvalidRequest, "2022-13-01"),
        ({"temporal": {"start": "2022-09-01", "end": "2022-06-01"}}, 422, InvalidRequest, "half-open"),
        ({"temporal": _BEFORE_SENTINEL_2}, 404, NoImagery, "COPERNICUS/S2_SR_HARMONIZED"),
        ({"output": "vector"}, 422, InvalidRequest, "OutputSpec"),
        ({"colour": "red"}, 422, InvalidRequest, "Known fields"),
        ({"spatial": None, "spatials": []}, 422, InvalidRequest, "empty"),
        ({"spatial": None}, 422, InvalidRequest, "neither spatial nor spatials"),
        ({"spatial": {**POINT, "buffer_m": 0}}, 422, InvalidRequest, "buffer_m"),
        ({"spatial": {**POINT, "lat": 148.1}}, 422, InvalidRequest, "swapped"),
        ({"spatial": {**POINT, "lon": 179.9999}}, 422, InvalidRequest, "antimeridian"),
        ({"spatial": {**_BOX, "minlat": 48.2}}, 422, InvalidRequest, "not south of"),
        ({"spatial": {**_BOX, "minlon": 179.0, "maxlon": -179.0}}, 422, InvalidRequest, "antimeridian"),
        ({"spatial": {**_BOX, "crs": "EPSG:3857"}}, 422, InvalidRequest, "EPSG:4326"),
    ],
)
def test_what_cannot_be_done_has_its_problem(
    service: Serving, changes: dict[str, object], status: int, cls: type[RSEmbedError], words: str
) -> None:
    body = {name: value for name, value in {**ONE, **changes}.items() if value is not None}
    problem = problem_of(post(service.url, body), status, cls)
    assert words in f"{problem['detail']} {problem['hint']}"
    assert problem["type"].startswith("/problems/")


@pytest.mark.parametrize(
    ("content", "media_type", "status", "cls"),
    [
        (b'{"model": "mosaiks", "spatial"', JSON, 400, MalformedBody),
        (json.dumps({**ONE, "spatial": {**POINT, "lon": float("nan")}}).encode(), JSON, 400, MalformedBody),
        (b'["mosaiks"]', JSON, 400, MalformedBody),
        (b"", JSON, 400, MalformedBody),
        (b"model=mosaiks", "application/x-www-form-urlencoded", 415, UnsupportedMedia),
        (b" " * 100_001, JSON, 413, BatchTooLong),
    ],
    ids=["cut", "nan", "list", "empty", "form", "large"],
)
def test_a_body_that_is_no_request(
    service: Serving, content: bytes, media_type: str, status: int, cls: type[RSEmbedError]
) -> None:
    problem_of(post_bytes(service.url, content, media_type), status, cls)


def test_nothing_acceptable(service: Serving) -> None:
    assert problem_of(post(service.url, ONE, "text/csv"), 406, UnsupportedMedia)["code"] == "not_acceptable"


def test_one_bad_roi_in_a_list_is_a_problem_at_its_index(service: Serving) -> None:
    body = many(6)
    body["spatials"][2] = {**POINT, "buffer_m": -1}
    body["spatials"][4] = "nowhere"
    document = post(service.url, body).json()
    assert document["summary"] == {"status": "complete", "rows": 6, "problems": 2}
    outcome = {item["index"]: item for item in document["embeddings"]}
    assert {index for index, item in outcome.items() if "embedding" in item} == {0, 1, 3, 5}
    for index in (2, 4):
        problem = outcome[index]["problem"]
        assert (problem["status"], problem["code"]) == (422, "invalid_request")
        assert problem["errors"][0]["pointer"] == f"/spatials/{index}"


def test_no_imagery_is_every_row_s_own_problem(client: EmbeddingClient) -> None:
    early = TemporalSpec.range("2010-06-01", "2010-09-01")
    items = list(client.stream_embeddings("galileo", spatials=places(5), temporal=early))
    assert sorted(item.index for item in items) == list(range(5))
    assert all(isinstance(item.error, NoImagery) for item in items)


def test_missing_weights_name_the_file_and_stop_no_other_model(
    service: Serving, client: EmbeddingClient, handle: EmbeddingClient
) -> None:
    problem = problem_of(post(service.url, {**ONE, "model": "remoteclip"}), 503, CheckpointError)
    text = f"{problem['detail']} {problem['hint']}"
    assert "MVRL/remote-clip-vit-base-patch32/model.safetensors" in text
    assert str(service.settings.checkpoints.root) in text
    for over in (client, handle):
        with pytest.raises(CheckpointError, match=r"remote-clip-vit-base-patch32"):
            over.get_embeddings_batch("remoteclip", spatials=places(3), temporal=SUMMER)
        assert over.get_embedding("mosaiks", spatial=POINT, temporal=SUMMER).data.shape == (512,)


@pytest.mark.parametrize("over", ["client", "handle"])
def test_clients_raise_the_same_class(over: str, request: pytest.FixtureRequest) -> None:
    service: EmbeddingClient = request.getfixturevalue(over)
    with pytest.raises(UnknownModel, match=r"Did you mean mosaiks"):
        service.get_embedding("mosaics", spatial=POINT)
    with pytest.raises(UnknownOption, match=r"Variants are"):
        service.get_embedding("galileo", spatial=POINT, model_config={"variant": "giant"})
    with pytest.raises(UnknownProvider):
        service.get_embedding("mosaiks", spatial=POINT, backend="gea")
