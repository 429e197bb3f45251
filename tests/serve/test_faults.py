"""Processes that die in the middle of a request: every row exactly once, and right."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Mapping, Sequence

import psutil
import pytest
from ray import serve
from ray.exceptions import RayError

from serve_app.client import EmbeddingClient
from serve_app.serving import Serving
from tests.serve.calls import SMALL, SUMMER, assert_each_once, places

pytestmark = pytest.mark.usefixtures("library")
_ENCODERS, _GALILEO = 3, 1  # replicas that are always there, in the order of the settings, and which is Galileo's
_HALF_A_KILOMETRE = 250


def _processes(service: Serving) -> Mapping[str, Sequence[int]]:
    """Process ids when everything that died is back."""
    handle = serve.get_app_handle(service.settings.name)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(RayError):
            processes: Mapping[str, Sequence[int]] = handle.processes.remote().result(timeout_s=60)
            if len(processes["encoder"]) >= _ENCODERS:
                return processes
        time.sleep(0.2)
    raise TimeoutError("some process is not back")


def _kill(process: int) -> None:
    os.kill(process, signal.SIGKILL)


@pytest.fixture
def clients(client: EmbeddingClient, handle: EmbeddingClient) -> Sequence[EmbeddingClient]:
    """Two who ask at the same time, over HTTP and over the handle."""
    return client, handle


def test_an_encoder_dies(service: Serving, clients: Sequence[EmbeddingClient]) -> None:
    old, spatials = _processes(service)["encoder"][_GALILEO], places(90)
    streams = [
        client.stream_embeddings("galileo", spatials=spatials, temporal=SUMMER, model_config=SMALL)
        for client in clients
    ]
    found = [[next(stream)] for stream in streams]
    _kill(old)
    for items, stream in zip(found, streams, strict=True):
        assert_each_once([*items, *stream], "galileo", spatials, model_config=SMALL)
    assert _processes(service)["encoder"][_GALILEO] != old


def test_a_fetch_actor_dies(service: Serving, clients: Sequence[EmbeddingClient]) -> None:
    old, spatials = _processes(service)["fetch"], places(120, buffer_m=_HALF_A_KILOMETRE)
    streams = [client.stream_embeddings("mosaiks", spatials=spatials, temporal=SUMMER) for client in clients]
    found = [[next(stream)] for stream in streams]
    _kill(old[0])
    for items, stream in zip(found, streams, strict=True):
        assert_each_once([*items, *stream], "mosaiks", spatials)
    new = _processes(service)["fetch"]
    assert new[0] != old[0]
    assert new[1] == old[1]


def test_all_fetch_actors_die(service: Serving, client: EmbeddingClient) -> None:
    old, spatials = _processes(service)["fetch"], places(100, buffer_m=_HALF_A_KILOMETRE)
    stream = client.stream_embeddings("mosaiks", spatials=spatials, temporal=SUMMER)
    items = [next(stream)]
    for process in old:
        _kill(process)
    items += stream
    assert_each_once(items, "mosaiks", spatials)


def test_the_router_dies(service: Serving, client: EmbeddingClient) -> None:
    """Its fetch actors go with it; the client asks again for what it has not got."""
    (old,), spatials = _processes(service)["router"], places(100, buffer_m=_HALF_A_KILOMETRE)
    stream = client.stream_embeddings("mosaiks", spatials=spatials, temporal=SUMMER)
    items = [next(stream)]
    _kill(old)
    items += stream
    assert_each_once(items, "mosaiks", spatials)


def _is_a_proxy(process: psutil.Process) -> bool:
    """The router of the test before may still be on its way out."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return "ray::ProxyActor" in "".join(process.cmdline()[:1])
    return False


def test_the_proxy_dies(client: EmbeddingClient) -> None:
    spatials = places(100, buffer_m=_HALF_A_KILOMETRE)
    stream = client.stream_embeddings("mosaiks", spatials=spatials, temporal=SUMMER)
    items = [next(stream)]
    (proxy,) = (child.pid for child in psutil.Process().children(recursive=True) if _is_a_proxy(child))
    _kill(proxy)
    items += stream
    assert_each_once(items, "mosaiks", spatials)
