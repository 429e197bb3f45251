"""The service from inside its own Ray cluster, without HTTP: a task, an actor, and a program of its own."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import ray
from ray import serve

from rs_embed_core import Embedding, get_embeddings_batch
from rs_embed_core.errors import InvalidRequest, RSEmbedError, Unavailable, UnknownModel
from serve_app.client import AsyncEmbeddingClient, EmbeddingClient
from serve_app.serving import Serving
from tests.serve.calls import SUMMER, assert_close, places

_EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "ray_job.py"


@ray.remote(num_cpus=0)
def embed_in_a_task(application: str) -> list[Embedding]:
    with EmbeddingClient.from_handle(application) as client:
        return client.get_embeddings_batch("mosaiks", spatials=places(12), temporal=SUMMER)


@ray.remote(num_cpus=0)
class Embedder:
    """A job's own actor, which asks twice at once."""

    def __init__(self, application: str) -> None:
        self._client = AsyncEmbeddingClient.from_handle(application)

    async def embed(self) -> list[Embedding]:
        calls = (
            self._client.get_embeddings_batch("mosaiks", spatials=part, temporal=SUMMER)
            for part in (places(12)[:5], places(12)[5:])
        )
        return [result for results in await asyncio.gather(*calls) for result in results]


@ray.remote(num_cpus=0)
def ask_for_nonsense(application: str) -> None:
    with EmbeddingClient.from_handle(application) as client:
        client.get_embedding("mosaics", spatial=places(1)[0])


def _check(results: list[Embedding]) -> None:
    expected = get_embeddings_batch("mosaiks", spatials=places(12), temporal=SUMMER, device="cpu")
    for ours, theirs in zip(results, expected, strict=True):
        assert_close(ours, theirs)


@pytest.mark.usefixtures("library")
def test_a_task_and_an_actor(service: Serving) -> None:
    name = service.settings.name
    embedder = Embedder.remote(name)
    for results in ray.get([embed_in_a_task.remote(name), embedder.embed.remote()], timeout=120):
        _check(results)


def test_an_error_keeps_its_class_through_the_job(service: Serving) -> None:
    with pytest.raises(UnknownModel, match=r"Did you mean mosaiks"):
        ray.get(ask_for_nonsense.remote(service.settings.name), timeout=90)


def test_no_such_application(service: Serving) -> None:
    with pytest.raises(Unavailable, match=r"not there"):
        EmbeddingClient.from_handle("nobody")


class _Faulty:
    """A router with a bug."""

    async def catalogue(self) -> list[object]:
        raise KeyError("bug")


@pytest.mark.usefixtures("service")
def test_a_fault_inside_is_the_error_that_http_gives_too() -> None:
    serve.run(
        serve.deployment(_Faulty).options(ray_actor_options={"num_cpus": 0}).bind(), name="faulty", route_prefix=None
    )
    with EmbeddingClient.from_handle("faulty") as client, pytest.raises(RSEmbedError) as caught:
        client.list_models()
    serve.delete("faulty")
    assert type(caught.value) is RSEmbedError
    assert "bug" not in str(caught.value)
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_program_of_its_own(service: Serving) -> None:
    environment = {**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    command = [sys.executable, str(_EXAMPLE), service.settings.name]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "16 embeddings of 512 values" in done.stdout


@pytest.mark.parametrize("output", ["pooled", "grid"])
async def test_the_router_s_own_methods(service: Serving, output: str) -> None:
    """What ``HandleTransport`` does not use: one embedding as a value."""
    request = {"model": "mosaiks", "spatial": places(1)[0].to_dict(), "output": output}
    handle = serve.get_app_handle(service.settings.name)
    first, second = await asyncio.gather(handle.embed.remote(request), handle.embed.remote(request))
    np.testing.assert_array_equal(np.asarray(first.data), np.asarray(second.data))
    assert first.meta["output_mode"] == output


async def test_the_router_s_own_method_for_one_takes_no_list(service: Serving) -> None:
    handle = serve.get_app_handle(service.settings.name)
    with pytest.raises(InvalidRequest, match=r"one ROI"):
        await handle.embed.remote({"model": "mosaiks", "spatials": [place.to_dict() for place in places(2)]})
