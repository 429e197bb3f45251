from __future__ import annotations

import asyncio
import inspect
import json
import threading

import httpx2
import numpy as np
import pytest

import rs_embed_core
from rs_embed_core.errors import (
    InvalidRequest,
    NoImagery,
    UnknownModel,
    Unsupported,
)
from rs_embed_core.specs.output import OutputSpec
from rs_embed_core.specs.sensor import FetchSpec, SensorSpec
from rs_embed_core.specs.spatial import PointBuffer
from rs_embed_core.specs.temporal import TemporalSpec
from serve_app.client import AsyncEmbeddingClient, EmbeddingClient, HttpTransport, Splitting
from serve_app.wire.rows import Row
from tests.unit.client.fake_service import Endless, FakeService, check_places, odd_ones_fail, places

# --- one request -------------------------------------------------------------------------------------------


def test_one_embedding_with_meta() -> None:
    service = FakeService()
    with service.client() as client:
        result = client.get_embedding("mosaiks", spatial=PointBuffer(7, 10, 320), temporal=TemporalSpec.year(2022))
    assert result.data.tolist() == [7, 7, 7, 7]
    assert result.meta == {"model": "mosaiks", "lon": 7.0}
    assert service.jobs[0].ask.temporal == TemporalSpec.year(2022)
    assert 0 < (service.jobs[0].timeout_s or 0) <= 600


def test_every_argument_reaches_the_service() -> None:
    service = FakeService()
    with service.client(timeout_s=5) as client:
        client.get_embedding(
            "mosaiks",
            spatial={"lon": 1, "lat": 2, "buffer_m": 3},
            temporal=TemporalSpec.range("2022-01-01", "2022-02-01"),
            sensor=SensorSpec("C", ("B1",)),
            model_config={"seed": 3},
            modality="s2",
            output=OutputSpec.pooled("max"),
            backend="synthetic",
            input_prep="tile",
        )
        client.get_embedding("mosaiks", spatial=places(1)[0], fetch=FetchSpec(scale_m=20))
    ask = service.jobs[0].ask
    assert ask.sensor == SensorSpec("C", ("B1",))
    assert ask.model_config == (("seed", 3),)
    assert (ask.modality, ask.backend, ask.input_prep.mode, ask.output.pooling) == (
        "s2",
        "synthetic",
        "tile",
        "max",
    )
    assert service.jobs[1].ask.fetch == FetchSpec(scale_m=20)
    assert (service.jobs[0].timeout_s or 0) <= 5


@pytest.mark.parametrize("name", ["get_embedding", "get_embeddings_batch"])
@pytest.mark.parametrize("kind", [EmbeddingClient, AsyncEmbeddingClient])
def test_the_signature_is_the_librarys(name: str, kind: type) -> None:
    ours = inspect.signature(vars(kind)[name]).parameters
    for key, parameter in inspect.signature(
        vars(rs_embed_core).get(name) or getattr(rs_embed_core, name)
    ).parameters.items():
        assert ours[key].kind == parameter.kind
        assert ours[key].default == parameter.default


def test_a_grid_comes_back_georeferenced() -> None:
    meta = json.dumps({"model": "m", "variant": "v", "crs": "EPSG:3857", "transform": [80, 0, 0, 0, -80, 160]})
    service = FakeService(row=lambda index, _: Row(index, np.ones((3, 2, 4), np.float32), meta))
    with service.client() as client:
        grid = client.get_embedding("mosaiks", spatial=places(1)[0], output=OutputSpec.grid()).data
    assert grid.dims == ("d", "y", "x")
    assert grid.y.values.tolist() == [120, 40]


def test_nothing_is_sent_that_is_wrong() -> None:
    service = FakeService()
    with service.client() as client:
        with pytest.raises(Unsupported, match="auto"):
            client.get_embedding("mosaiks", spatial=places(1)[0], device="cuda")
        with pytest.raises(InvalidRequest, match="empty"):
            client.get_embeddings_batch("mosaiks", spatials=[])
        with pytest.raises(InvalidRequest) as caught:
            client.stream_embeddings("mosaiks", spatials=[*places(2), {"lon": 200, "lat": 0, "buffer_m": 1}])
        assert caught.value.context["index"] == 2
        with pytest.raises(InvalidRequest, match="both sensor and fetch"):
            client.get_embedding(
                "mosaiks", spatial=places(1)[0], sensor=SensorSpec("C", ("B1",)), fetch=FetchSpec(scale_m=1)
            )
    assert service.jobs == []


# --- many --------------------------------------------------------------------------------------------------


def test_a_long_list_is_split_and_keeps_its_indices() -> None:
    service = FakeService(reverse=True)
    with service.client(splitting=Splitting(rois=20)) as client:
        results = client.get_embeddings_batch("mosaiks", spatials=places(90))
        assert [result.data[0] for result in results] == [float(i) for i in range(90)]
        assert sorted(map(len, service.asked())) == [10, 20, 20, 20, 20]
        items = list(client.stream_embeddings("mosaiks", spatials=places(90)))
    assert sorted(item.index for item in items) == list(range(90))
    assert [item.index for item in items] != list(range(90))
    check_places(items)


def test_ordered_keeps_the_order_over_requests() -> None:
    service = FakeService(reverse=True)
    with service.client(splitting=Splitting(rois=16, in_flight=3)) as client:
        items = list(client.stream_embeddings("mosaiks", spatials=places(100), ordered=True))
    assert [item.index for item in items] == list(range(100))
    assert all(job.ordered for job in service.jobs)
    check_places(items)


def test_at_most_two_requests_are_under_way() -> None:
    service, now, most = FakeService(), 0, 0

    async def counted(request: httpx2.Request) -> httpx2.Response:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01)
        now -= 1
        return await service(request)

    transport = HttpTransport("http://fake", transport=httpx2.MockTransport(counted))
    with EmbeddingClient(transport, splitting=Splitting(rois=5)) as client:
        assert len(client.get_embeddings_batch("mosaiks", spatials=places(40))) == 40
    assert most == 2


def test_a_failed_roi_is_an_item_of_the_stream_and_an_error_of_the_batch() -> None:
    service = FakeService(row=odd_ones_fail)
    with service.client(splitting=Splitting(rois=4)) as client:
        items = {item.index: item for item in client.stream_embeddings("mosaiks", spatials=places(10))}
        with pytest.raises(NoImagery, match="stream_embeddings") as caught:
            client.get_embeddings_batch("mosaiks", spatials=places(10))
        with pytest.raises(NoImagery) as single:
            client.get_embedding("mosaiks", spatial=places(2)[1])
    assert [index for index, item in sorted(items.items()) if item.error is not None] == [1, 3, 5, 7, 9]
    assert items[7].error is not None
    assert items[7].error.context["index"] == 7
    assert caught.value.context["index"] == 1
    assert caught.value.context["failed"] == 5
    assert "5 of 10" in str(caught.value)
    assert single.value.hint == "Widen temporal."


def test_leaving_the_loop_ends_the_requests() -> None:
    ended = threading.Event()
    client = EmbeddingClient(Endless.transport(ended))
    stream = client.stream_embeddings("mosaiks", spatials=places(5))
    assert next(stream).index == 0
    stream.close()
    assert ended.wait(10)
    ended.clear()
    stream = client.stream_embeddings("mosaiks", spatials=places(5))
    next(stream)
    client.close()  # with a stream half read
    assert ended.wait(10)
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.ready()


# --- the rest ----------------------------------------------------------------------------------------------


def test_progress_is_drawn_where_it_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    service = FakeService(row=odd_ones_fail)
    with service.client() as client:
        list(client.stream_embeddings("mosaiks", spatials=places(40), progress=True))
        drawn = capsys.readouterr().err
        list(client.stream_embeddings("mosaiks", spatials=places(40)))  # no terminal
        list(client.stream_embeddings("mosaiks", spatials=places(40), progress=False))
    assert "40/40" in drawn
    assert "failed=20" in drawn
    assert capsys.readouterr().err == ""


def test_catalogue_and_readiness() -> None:
    with FakeService().client() as client:
        assert client.list_models() == ["dofa", "mosaiks"]
        assert client.list_models(include_aliases=True) == ["dofa", "dofa_base", "mosaiks"]
        assert client.describe_model("dofa")["id"] == "dofa"
        assert client.ready()["ready"] is False
        with pytest.raises(UnknownModel, match="dofa"):
            client.describe_model("x/y")
