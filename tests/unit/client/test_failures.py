from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import httpx2
import pytest

from rs_embed_core.errors import (
    DeadlineExceeded,
    IncompleteStream,
    Overloaded,
    Unavailable,
    UnknownModel,
)
from serve_app.client import EmbeddingClient, Splitting
from serve_app.wire.codecs import ARROW
from serve_app.wire.rows import Job
from tests.unit.client.fake_service import FakeService, check_places, places, problem, raising, stream_of


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
