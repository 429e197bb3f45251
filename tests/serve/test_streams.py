"""Long requests: order, the window, the deadline, and nobody left who wants the rest."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pytest

from rs_embed_core.errors import DeadlineExceeded
from serve_app.client import EmbeddingClient, Splitting
from serve_app.serving import Serving
from serve_app.wire.codecs import ARROW, NDJSON, read_arrow
from tests.http.calls import problem_of
from tests.serve import slow as slow_application
from tests.serve.calls import ONE, SUMMER, assert_each_once, many, places, post
from tests.serve.fetching import reads, reads_at_rest

_QUIET_S = 4 * slow_application.DELAY_MS / 1e3
_LONG = 400  # 15 s of the slow application


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("over", ["client", "handle"])
def test_a_request_longer_than_the_window(over: str, request: pytest.FixtureRequest) -> None:
    """The window has 48 ROIs."""
    service: EmbeddingClient = request.getfixturevalue(over)
    spatials = places(160)
    assert_each_once(service.stream_embeddings("mosaiks", spatials=spatials, temporal=SUMMER), "mosaiks", spatials)


@pytest.mark.parametrize("over", ["client", "handle"])
def test_rows_in_the_order_of_the_request(over: str, request: pytest.FixtureRequest) -> None:
    service: EmbeddingClient = request.getfixturevalue(over)
    items = service.stream_embeddings("mosaiks", spatials=places(120), temporal=SUMMER, ordered=True)
    assert [item.index for item in items] == list(range(120))


def test_ordered_lines_of_a_request_with_bad_rois(service: Serving) -> None:
    body = many(60, ordered=True)
    for index in (0, 31, 59):
        body["spatials"][index] = {"lon": 11.0}
    *lines, summary = (json.loads(line) for line in post(service.url, body, NDJSON).text.splitlines())
    assert [line["index"] for line in lines] == list(range(60))
    assert [line["index"] for line in lines if "problem" in line] == [0, 31, 59]
    assert summary["summary"] == {"status": "complete", "rows": 60, "problems": 3}


@pytest.mark.usefixtures("library")
def test_a_client_splits_and_joins(service: Serving) -> None:
    spatials = places(50)
    with EmbeddingClient(service.url, splitting=Splitting(rois=16, in_flight=3)) as client:
        assert_each_once(client.stream_embeddings("mosaiks", spatials=spatials, temporal=SUMMER), "mosaiks", spatials)


def test_the_deadline_ends_in_rows(slow: str) -> None:
    response = post(slow, many(100, timeout_s=1.5), ARROW)
    rows = [row for rows in read_arrow(io.BytesIO(response.content)) for row in rows]  # checks the summary too
    assert sorted(row.index for row in rows) == list(range(100))
    late = [row for row in rows if row.error is not None]
    assert late
    assert all(isinstance(row.error, DeadlineExceeded) for row in late)


def test_the_deadline_of_the_only_roi_is_a_status(slow: str) -> None:
    problem_of(post(slow, {**ONE, "timeout_s": 0.05}), 504, DeadlineExceeded)


@contextmanager
def _http(url: str) -> Iterator[None]:
    """A caller who hangs up in the middle of the stream."""
    body = many(_LONG)
    with httpx2.stream("POST", f"{url}/v1/embeddings", json=body, headers={"accept": NDJSON}, timeout=60) as answer:
        assert next(answer.iter_lines())
        yield


@contextmanager
def _handle(url: str) -> Iterator[None]:
    """A caller in the cluster who closes the stream."""
    with EmbeddingClient.from_handle(slow_application.NAME) as client:
        items = client.stream_embeddings("mosaiks", spatials=places(_LONG), temporal=SUMMER)
        assert next(items).error is None
        yield
        items.close()


@contextmanager
def _deadline(url: str) -> Iterator[None]:
    """A caller who gives it two seconds."""
    assert post(url, many(_LONG, timeout_s=2.0)).json()["summary"]["rows"] == _LONG
    yield


@pytest.mark.parametrize("leave", [_http, _handle, _deadline])
def test_who_leaves_stops_the_reads(slow: str, leave: object) -> None:
    before = reads(slow_application.NAME)
    with leave(slow):
        assert reads(slow_application.NAME) > before
    begun = reads_at_rest(slow_application.NAME, quiet_s=_QUIET_S) - before
    assert begun < _LONG / 2
    assert len(post(slow, ONE).json()["embedding"]) == 512
