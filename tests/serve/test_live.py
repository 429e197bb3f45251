"""The application of the Serve config: settings that change in place, and models that cannot start."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pytest
import ray
from ray import serve

from rs_embed_core import Embedding
from rs_embed_core.errors import Unavailable
from rs_embed_core.plan import recipe
from rs_embed_core.specs.request import Ask
from serve_app.client import EmbeddingClient
from serve_app.wire.blocks import Payload
from tests.http.calls import problem_of
from tests.serve import slow as slow_application
from tests.serve.calls import ONE, SUMMER, many, places, post


def _state(url: str, encoder: str) -> dict[str, object]:
    return httpx2.get(f"{url}/readyz", timeout=30).json()["models"][encoder]


@contextmanager
def _requests_all_the_time(url: str) -> Iterator[list[Embedding]]:
    """Requests in a thread while the block runs; what they raise is raised here."""
    results: list[Embedding] = []
    failures: list[Exception] = []
    stop = threading.Event()

    def ask() -> None:
        try:
            with EmbeddingClient(url) as client:
                while not stop.is_set():
                    results.extend(client.get_embeddings_batch("mosaiks", spatials=places(8), temporal=SUMMER))
        except Exception as error:  # noqa: BLE001 - of the other thread
            failures.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield results
    finally:
        stop.set()
        thread.join()
    assert not failures, failures


class _Held:
    """Imagery that comes when it is let go."""

    def __init__(self) -> None:
        self._gate = asyncio.Event()

    async def imagery(self) -> Payload:
        await self._gate.wait()
        return Payload(())

    async def let_go(self) -> None:
        self._gate.set()


@contextmanager
def _every_slot_taken() -> Iterator[None]:
    """More groups at the encoder than it admits, all waiting for their imagery while the block runs."""
    held = ray.remote(num_cpus=0)(_Held).remote()
    encoder = serve.get_deployment_handle(slow_application.ENCODER, slow_application.NAME).options(_by_reference=True)
    selection = recipe(Ask("mosaiks")).selection
    calls = [encoder.encode.remote([held.imagery.remote()], selection) for _ in range(12)]
    try:
        yield
    finally:
        held.let_go.remote()
        for call in calls:
            call.result(timeout_s=60)


def _readiness(url: str, encoder: str) -> tuple[int, str]:
    ready = httpx2.get(f"{url}/readyz", timeout=30)
    return ready.status_code, ready.json()["models"][encoder]["status"]


def test_a_model_with_its_hands_full_is_busy_and_up(slow: str) -> None:
    deadline = time.monotonic() + 30
    with _every_slot_taken():
        while (answer := _readiness(slow, slow_application.ENCODER)) != (200, "busy"):
            assert time.monotonic() < deadline, answer
    assert _state(slow, slow_application.ENCODER)["status"] == "ready"


def test_models_may_sleep(slow: str) -> None:
    ready = httpx2.get(f"{slow}/readyz", timeout=30)
    assert ready.status_code == 200
    states = {name: model["status"] for name, model in ready.json()["models"].items()}
    assert states == {"mosaiks-gaussian": "ready", "galileo-tiny": "sleeping", "dofa-base": "sleeping"}


def test_the_batch_size_changes_without_a_restart(slow: str) -> None:
    processes = serve.get_app_handle(slow_application.NAME).processes
    before = processes.remote().result(timeout_s=60)
    assert _state(slow, slow_application.ENCODER)["batch_size"] == 64
    with _requests_all_the_time(slow) as results:
        slow_application.deploy(user_config={"batch_size": 3})
        deadline = time.monotonic() + 30
        while (size := _state(slow, slow_application.ENCODER)["batch_size"]) != 3:
            assert time.monotonic() < deadline, size
            time.sleep(0.2)
    assert results
    assert processes.remote().result(timeout_s=60) == before


@pytest.mark.parametrize(
    ("model", "deployment"),
    [(slow_application.BROKEN, "galileo-tiny"), (slow_application.TOO_LARGE, "dofa-base")],
    ids=["its-constructor-fails", "no-node-has-room"],
)
def test_a_model_that_cannot_start_is_said_in_time(slow: str, model: dict[str, object], deployment: str) -> None:
    """Serve itself never answers who waits for such a model; the others go on."""
    config = {"variant": model["variant"]} if "variant" in model else {}
    body = {**ONE, "model": model["model"], "model_config": config}
    assert deployment in problem_of(post(slow, body), 503, Unavailable)["detail"]
    rows = post(slow, {**many(5), "model": model["model"], "model_config": config}).json()
    assert rows["summary"] == {"status": "complete", "rows": 5, "problems": 5}
    assert {item["problem"]["code"] for item in rows["embeddings"]} == {"unavailable"}
    assert len(post(slow, ONE).json()["embedding"]) == 512


def test_a_model_whose_constructor_fails_is_called_failed(slow: str) -> None:
    """After its last try Serve says why; callers hear it, and need not try again."""
    deadline = time.monotonic() + 90
    while _state(slow, "galileo-tiny")["status"] != "failed":
        assert time.monotonic() < deadline, _state(slow, "galileo-tiny")
        time.sleep(1)
    assert "cuda:99" in _state(slow, "galileo-tiny")["message"]
    body = {**ONE, "model": "galileo", "model_config": {"variant": "tiny"}}
    problem_of(post(slow, body), 503, Unavailable)
    assert httpx2.get(f"{slow}/readyz", timeout=30).status_code == 503
