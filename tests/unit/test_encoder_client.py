"""The encoder deployments as the router sees them, over a handle that answers what a test says."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
from ray.exceptions import (
    LocalRayletDiedError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RaySystemError,
    TaskCancelledError,
    WorkerCrashedError,
)
from ray.serve.schema import (
    ApplicationStatus,
    ApplicationStatusOverview,
    DeploymentStatus,
    DeploymentStatusOverview,
    DeploymentStatusTrigger,
    ReplicaState,
    ServeStatus,
)

from rs_embed_core.card import Selection
from rs_embed_core.embedding import EncoderInfo
from rs_embed_core.errors import JSONValue
from serve_app.deployments.encoder_client import ServeEncoder, StatusBoard
from serve_app.router import Lost, PayloadLost
from serve_app.wire.blocks import Encoded

SELECTION = Selection("mosaiks", "gaussian", "s2", ())
DONE = Encoded((), EncoderInfo("cpu", "float32", None, ()), 1.0)
UP: Mapping[str, JSONValue] = {"running": 1}


@dataclass
class Response:
    """A call's answer, as Serve's handles give it."""

    answer: Callable[[], Awaitable[object]]
    cancelled: bool = False

    def __await__(self) -> Generator[object, None, object]:
        return self.answer().__await__()

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class Handle:
    """Answers every call in one way."""

    answer: Callable[[], Awaitable[object]]
    deployment_name: str = "mosaiks-gaussian"
    responses: list[Response] = field(default_factory=list)

    def options(self, **_: object) -> Handle:
        return self

    def _call(self, *_: object, **__: object) -> Response:
        self.responses.append(Response(self.answer))
        return self.responses[-1]

    @property
    def encode(self) -> SimpleNamespace:
        return SimpleNamespace(remote=self._call)

    status = encode


@dataclass
class Board:
    """Says what a test says of every deployment."""

    state: Mapping[str, JSONValue] = field(default_factory=lambda: UP)

    async def of(self, deployment: str) -> Mapping[str, JSONValue]:
        return self.state


def encoder(answer: Callable[[], Awaitable[object]], board: object = None) -> ServeEncoder:
    return ServeEncoder(Handle(answer), board or Board(), start_timeout_s=60)


def raising(error: Exception) -> Callable[[], Awaitable[object]]:
    async def answer() -> object:
        await asyncio.sleep(0)
        raise error

    return answer


@pytest.mark.parametrize(
    "error",
    [
        RayActorError(),
        OutOfMemoryError("Task was killed due to the node running low on memory.\nMemory on the node was 9 GB"),
        NodeDiedError("the node died"),
        WorkerCrashedError(),
        LocalRayletDiedError(),
        TaskCancelledError(),
        RaySystemError("nobody thought of this"),
    ],
)
async def test_work_that_goes_down_with_a_process_may_be_sent_again(error: RayError) -> None:
    with pytest.raises(Lost) as caught:
        await encoder(raising(error)).encode([], SELECTION)
    assert not isinstance(caught.value, PayloadLost)
    assert str(caught.value) == (str(error) or "TaskCancelledError").splitlines()[0]


async def test_imagery_that_is_gone_is_told_apart() -> None:
    with pytest.raises(PayloadLost):
        await encoder(raising(ObjectLostError("ab", None, ""))).encode([], SELECTION)


async def test_a_replica_that_died_is_on_its_way_back() -> None:
    state = await encoder(raising(OutOfMemoryError("killed"))).status()
    assert state["status"] == "starting"


@dataclass
class Hanging:
    """A board whose controller does not answer; it notes that it was asked."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def of(self, deployment: str) -> Mapping[str, JSONValue]:
        self.asked.set()
        await asyncio.Event().wait()
        return {}


async def test_a_finished_call_does_not_wait_for_the_controller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve_app.deployments.encoder_client._WATCH_S", 0.0)
    board = Hanging()

    async def answer() -> object:
        await board.asked.wait()
        return DONE

    before = asyncio.all_tasks()
    async with asyncio.timeout(10):
        assert await encoder(answer, board).encode([], SELECTION) is DONE
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


def running(replicas: int) -> ServeStatus:
    healthy, trigger = DeploymentStatus.HEALTHY, DeploymentStatusTrigger.UNSPECIFIED
    deployment = DeploymentStatusOverview(healthy, trigger, {ReplicaState.RUNNING: replicas}, "")
    application = ApplicationStatusOverview(ApplicationStatus.RUNNING, "", 0.0, {"mosaiks": deployment})
    return ServeStatus(applications={"main": application})


async def test_what_the_controller_said_last_holds_while_it_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve_app.deployments.encoder_client._STATUS_AGE_S", -1.0)  # nothing is fresh
    looks, begun, back = 0, threading.Event(), threading.Event()

    def look() -> ServeStatus:
        nonlocal looks
        looks += 1
        if looks == 1:
            return running(2)
        begun.set()
        back.wait()
        return running(3)

    board = StatusBoard("main", look)
    assert (await board.of("mosaiks"))["running"] == 2
    monkeypatch.setattr("serve_app.deployments.encoder_client._STATUS_TIMEOUT_S", 0.01)
    for _ in range(3):
        assert (await board.of("mosaiks"))["running"] == 2
    assert await asyncio.to_thread(begun.wait, 10)
    assert looks == 2  # one thread waits, however many ask
    back.set()
    monkeypatch.setattr("serve_app.deployments.encoder_client._STATUS_TIMEOUT_S", 10)
    assert (await board.of("mosaiks"))["running"] == 3


async def test_a_controller_that_is_gone_is_no_end_of_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve_app.deployments.encoder_client._STATUS_AGE_S", 3600.0)
    looks = 0

    def look() -> ServeStatus:
        nonlocal looks
        looks += 1
        raise RayActorError

    board = StatusBoard("main", look)
    assert [await board.of("mosaiks") for _ in range(3)] == [{}, {}, {}]
    assert looks == 1  # it is not asked more often than one that answers
