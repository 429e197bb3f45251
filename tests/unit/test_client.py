from __future__ import annotations

import asyncio
import inspect
import json
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace

import httpx2
import numpy as np
import pytest

import rs_embed_core
from rs_embed_core.errors import (
    DeadlineExceeded,
    IncompleteStream,
    InvalidRequest,
    NoImagery,
    Overloaded,
    RSEmbedError,
    Unavailable,
    UnknownModel,
    Unsupported,
)
from rs_embed_core.specs.output import OutputSpec
from rs_embed_core.specs.sensor import FetchSpec, SensorSpec
from rs_embed_core.specs.spatial import PointBuffer
from rs_embed_core.specs.temporal import TemporalSpec
from serve_app.client import AsyncEmbeddingClient, EmbeddingClient, HttpTransport, Splitting, StreamItem
from serve_app.wire.codecs import ARROW, Reply, encode_stream
from serve_app.wire.problems import status_of, to_problem
from serve_app.wire.rows import Job, Row
from serve_app.wire.schemas import Limits, decode

_ROWS_A_LIST = 8


def _lon_row(index: int, spatial: dict[str, float]) -> Row:
    """The vector of an ROI says where it is, so that a mixed-up row shows."""
    data = np.full(4, spatial["lon"], np.float32)
    return Row(index, data, json.dumps({"model": "mosaiks", "lon": spatial["lon"]}))


@dataclass
class FakeService:
    """Answers ``POST /v1/embeddings`` with the real codec; ``answers`` replaces the first answers."""

    row: Callable[[int, dict[str, float]], Row] = _lon_row
    answers: list[Callable[[Job], httpx2.Response]] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    reverse: bool = False

    async def __call__(self, request: httpx2.Request) -> httpx2.Response:
        if request.method == "GET":
            return self._get(request.url.path)
        assert request.headers["Accept"] == ARROW
        job = decode(
            request.content, content_type=request.headers["Content-Type"], limits=Limits(max_rois=1000, max_body_mb=1)
        )
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


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Backoff without the time."""
    monkeypatch.setattr("serve_app.client.calls._FIRST_WAIT_S", 0.0)


def check_places(items: Sequence[StreamItem]) -> None:
    for item in items:
        assert item.embedding is not None
        assert item.embedding.data[0] == item.index % 180


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


def _odd_ones_fail(index: int, spatial: dict[str, float]) -> Row:
    if spatial["lon"] % 2:
        error = NoImagery("there is nothing.", hint="Widen temporal.", context={"index": index})
        return Row(index, error=error)
    return _lon_row(index, spatial)


def test_a_failed_roi_is_an_item_of_the_stream_and_an_error_of_the_batch() -> None:
    service = FakeService(row=_odd_ones_fail)
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


class Endless(httpx2.AsyncByteStream):
    """Two rows, and then nothing; says when the client has gone."""

    def __init__(self, job: Job, closed: threading.Event) -> None:
        self._job = job
        self._closed = closed

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in encode_stream(ARROW, Reply(self._job), self._lists()):
            yield piece

    async def _lists(self) -> AsyncIterator[list[Row]]:
        yield [_lon_row(0, {"lon": 0.0})]
        yield [_lon_row(1, {"lon": 1.0})]
        await asyncio.sleep(3600)

    async def aclose(self) -> None:
        self._closed.set()

    @classmethod
    def transport(cls, closed: threading.Event) -> HttpTransport:
        def answer(request: httpx2.Request) -> httpx2.Response:
            job = decode(request.content, content_type="application/json", limits=Limits(max_rois=1000, max_body_mb=1))
            return httpx2.Response(200, headers={"Content-Type": ARROW}, stream=cls(job, closed))

        return HttpTransport("http://fake", transport=httpx2.MockTransport(answer))


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


# --- failures ----------------------------------------------------------------------------------------------


def test_a_cut_stream_has_only_its_missing_rois_asked_again() -> None:
    service = FakeService()
    service.answers = [
        lambda job: stream_of(job, service.rows(job), cut=2),  # 16 of 40
        lambda job: stream_of(job, service.rows(job)[:20]),  # says complete, and is not
    ]
    with service.client() as client:
        items = list(client.stream_embeddings("mosaiks", spatials=places(40)))
    assert [len(asked) for asked in service.asked()] == [40, 24, 4]
    assert service.asked()[2] == [36.0, 37.0, 38.0, 39.0]
    assert sorted(item.index for item in items) == list(range(40))
    check_places(items)


def test_ordered_holds_over_a_cut() -> None:
    service = FakeService()
    service.answers = [lambda job: stream_of(job, service.rows(job), cut=2)]
    with service.client(splitting=Splitting(rois=30)) as client:
        items = list(client.stream_embeddings("mosaiks", spatials=places(60), ordered=True))
    assert [item.index for item in items] == list(range(60))


def test_a_lost_connection_is_tried_again() -> None:
    service = FakeService(answers=[raising(httpx2.ReadError("reset")), raising(httpx2.ConnectError("refused"))])
    with service.client() as client:
        assert len(client.get_embeddings_batch("mosaiks", spatials=places(3))) == 3
    assert len(service.jobs) == 3


def test_a_connection_lost_in_the_body_is_a_cut() -> None:
    service = FakeService()

    def breaks(job: Job) -> httpx2.Response:
        whole = stream_of(job, service.rows(job))

        async def body() -> AsyncIterator[bytes]:
            sent = 0
            async for piece in whole.stream:  # type: ignore[union-attr]
                sent += 1
                if sent > 3:
                    raise httpx2.RemoteProtocolError("peer closed connection")
                yield piece

        return httpx2.Response(200, headers={"Content-Type": ARROW}, content=body())

    service.answers = [breaks]
    with service.client() as client:
        items = list(client.stream_embeddings("mosaiks", spatials=places(30)))
    assert sorted(item.index for item in items) == list(range(30))
    assert 0 < len(service.asked()[1]) < 30


def test_rois_that_never_arrive_become_errors_beside_those_that_did() -> None:
    service = FakeService()
    service.answers = [lambda job: stream_of(job, service.rows(job), cut=1)]
    service.answers += [lambda job: stream_of(job, [], cut=0)] * 20
    with service.client() as client:
        items = {item.index: item for item in client.stream_embeddings("mosaiks", spatials=places(20))}
    assert sorted(items) == list(range(20))
    failed = [index for index, item in items.items() if item.error is not None]
    assert sorted(failed) == list(range(8, 20))
    assert all(isinstance(items[index].error, IncompleteStream) for index in failed)
    assert len(service.jobs) < 20  # it stops asking


def test_a_service_that_is_not_there_is_said_so() -> None:
    service = FakeService(answers=[raising(httpx2.ConnectError("refused")) for _ in range(20)])
    with service.client() as client, pytest.raises(Unavailable, match="rs-embed serve") as caught:
        client.get_embedding("mosaiks", spatial=places(1)[0])
    assert caught.value.code == "unreachable"
    assert 1 < len(service.jobs) < 10


@pytest.mark.parametrize("url", ["nonsense", "ftp://x", ""])
def test_an_address_that_is_none(url: str) -> None:
    with EmbeddingClient(url) as client, pytest.raises(Unavailable, match="http"):
        client.ready()


def test_a_problem_is_the_same_error_here() -> None:
    error = UnknownModel("there is no model 'dofo'.", hint="Did you mean dofa?", context={"nearest": ["dofa"]})
    service = FakeService(answers=[lambda _: problem(error)])
    with service.client() as client, pytest.raises(UnknownModel) as caught:
        client.get_embedding("dofo", spatial=places(1)[0])
    assert caught.value.message == error.message
    assert caught.value.hint == error.hint
    assert caught.value.context["nearest"] == ["dofa"]
    assert len(service.jobs) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_busy_with_retry_after_is_waited_for_without_a_bound_on_tries(status: int) -> None:
    def busy(job: Job) -> httpx2.Response:
        return httpx2.Response(status, headers={"Retry-After": "0"}, text="busy")

    service = FakeService(answers=[busy] * 12)
    with service.client() as client:
        assert client.get_embedding("mosaiks", spatial=places(1)[0]).data[0] == 0
    assert len(service.jobs) == 13


def test_busy_for_longer_than_the_timeout_is_an_error_at_once() -> None:
    service = FakeService(answers=[lambda _: problem(Overloaded("full."), **{"Retry-After": "30"})] * 5)
    with service.client(timeout_s=3) as client, pytest.raises(Overloaded) as caught:
        client.get_embedding("mosaiks", spatial=places(1)[0])
    assert caught.value.context["retry_after_s"] == 30
    assert len(service.jobs) == 1


def test_silence_is_a_missed_deadline() -> None:
    service = FakeService(answers=[raising(httpx2.ReadTimeout("silent"))])
    with service.client() as client, pytest.raises(DeadlineExceeded, match="timeout_s"):
        client.get_embedding("mosaiks", spatial=places(1)[0])
    assert len(service.jobs) == 1


def test_another_programs_answer_is_told_apart() -> None:
    service = FakeService(answers=[lambda _: httpx2.Response(200, html="<p>It works!</p>")])
    with service.client() as client, pytest.raises(Unavailable, match="text/html"):
        client.get_embedding("mosaiks", spatial=places(1)[0])
    assert len(service.jobs) == 1


def test_rows_twice_or_unknown() -> None:
    service = FakeService()
    twice = FakeService(answers=[lambda job: stream_of(job, service.rows(job) * 2)])
    with twice.client() as client:
        items = list(client.stream_embeddings("mosaiks", spatials=places(6)))
    assert [item.index for item in items] == list(range(6))
    stranger = FakeService(answers=[lambda job: stream_of(job, [replace(service.rows(job)[0], index=9)])])
    with stranger.client() as client, pytest.raises(IncompleteStream, match="row 9"):
        client.get_embeddings_batch("mosaiks", spatials=places(2))


# --- the rest ----------------------------------------------------------------------------------------------


def test_progress_is_drawn_where_it_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    service = FakeService(row=_odd_ones_fail)
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


async def test_the_async_client_does_the_same() -> None:
    service = FakeService(row=_odd_ones_fail)
    service.answers = [lambda job: stream_of(job, service.rows(job), cut=1)]
    async with AsyncEmbeddingClient(service.transport(), splitting=Splitting(rois=16)) as client:
        items = [item async for item in client.stream_embeddings("mosaiks", spatials=places(40), ordered=True)]
        assert [item.index for item in items] == list(range(40))
        with pytest.raises(NoImagery) as caught:
            await client.get_embeddings_batch("mosaiks", spatials=places(8))
        assert caught.value.context["failed"] == 4
        assert (await client.get_embedding("mosaiks", spatial=places(3)[2])).data[0] == 2
        assert await client.list_models() == ["dofa", "mosaiks"]
        assert (await client.describe_model("dofa"))["id"] == "dofa"
        assert (await client.ready())["ready"] is False


async def test_the_loop_stays_free_while_a_stream_waits() -> None:
    started, go_on = asyncio.Event(), asyncio.Event()
    service = FakeService()

    def slow(job: Job) -> httpx2.Response:
        whole = stream_of(job, service.rows(job))

        async def body() -> AsyncIterator[bytes]:
            async for piece in whole.stream:  # type: ignore[union-attr]
                yield piece
                started.set()
                await go_on.wait()

        return httpx2.Response(200, headers={"Content-Type": ARROW}, content=body())

    service.answers = [slow]
    async with AsyncEmbeddingClient(service.transport()) as client:
        asked = asyncio.create_task(client.get_embeddings_batch("mosaiks", spatials=places(30)))
        await asyncio.wait_for(started.wait(), 10)  # the loop runs although a thread waits for bytes
        assert not asked.done()
        go_on.set()
        assert len(await asked) == 30


async def test_cancelling_a_call_ends_its_request() -> None:
    ended = threading.Event()
    async with AsyncEmbeddingClient(Endless.transport(ended)) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await client.get_embeddings_batch("mosaiks", spatials=places(3))
        assert await asyncio.to_thread(ended.wait, 10)


# --- several models -----------------------------------------------------------------------------------------


def test_several_models_run_at_once_and_know_of_each_other() -> None:
    service = FakeService()
    models = {"plain": {"model": "mosaiks"}, "large": {"model": "dofa", "model_config": {"variant": "large"}}}
    with service.client() as client:
        found = list(client.stream_models(models, spatials=places(5), ordered=True))
    assert {name for name, _ in found} == {"plain", "large"}
    for name in models:
        items = [item for who, item in found if who == name]
        assert [item.index for item in items] == list(range(5))
        check_places(items)
    beside = {job.ask.model: [other.to_dict() for other in job.ask.beside] for job in service.jobs}
    assert beside == {
        "mosaiks": [{"model": "dofa", "model_config": {"variant": "large"}}],
        "dofa": [{"model": "mosaiks"}],
    }


async def test_several_models_from_async_code() -> None:
    service = FakeService()
    async with AsyncEmbeddingClient(service.transport()) as client:
        found = [pair async for pair in client.stream_models(["mosaiks", "dofa"], spatials=places(3))]
    assert sorted((name, item.index) for name, item in found) == [
        (name, index) for name in ("dofa", "mosaiks") for index in range(3)
    ]


def test_one_model_that_cannot_be_asked_ends_them_all() -> None:
    service = FakeService()
    service.answers = [lambda job: problem(UnknownModel(f"there is no model {job.ask.model!r}."))] * 2
    with service.client() as client, pytest.raises(UnknownModel):
        list(client.stream_models(["mosaiks", "nothing"], spatials=places(2)))


@pytest.mark.parametrize("models", [[], "mosaiks", ["mosaiks", "mosaiks"], {"a": {"variant": "x"}}, [3], None])
def test_what_are_no_models_is_refused(models: object) -> None:
    with FakeService().client() as client, pytest.raises(InvalidRequest):
        list(client.stream_models(models, spatials=places(1)))  # type: ignore[arg-type]
