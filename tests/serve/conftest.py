"""One local Ray with two applications, started once: everything in this folder talks to them.

``main`` is what ``rs-embed serve`` runs. ``slow`` waits for its imagery and has models that cannot start; it is
deployed from a Serve config, as on Kubernetes, under a prefix.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch

import rs_embed_core
from load_tests import recipe_weights
from serve_app.client import EmbeddingClient
from serve_app.serving import Serving, free_port, serving
from serve_app.settings import ServiceSettings
from tests.emulator.control import Emulator, emulator
from tests.parity.golden import golden_dir, load_case
from tests.parity.published import publish
from tests.serve import collector as collecting
from tests.serve import slow as slow_application

_PATIENCE_S = 30
_CPUS = 8  # logical ones, to hold every replica: they reserve, they do not compute


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ``checkpoints.root`` with made-up weights of Galileo's nano and DOFA's base, and nothing else."""
    root = tmp_path_factory.mktemp("weights")
    publish(load_case("galileo", "nano"), root)
    recipe_weights.write("dofa", "base", root)
    return root


@pytest.fixture(scope="session")
def earth_engine() -> Iterator[Emulator]:
    """An Earth Engine with scenes of every place."""
    with emulator("world") as running:
        yield running


@pytest.fixture(scope="session")
def collector() -> Iterator[collecting.Collector]:
    """Where the main application sends the traces that its callers ask for."""
    with collecting.collector() as running:
        yield running


@pytest.fixture(scope="session")
def service(weights: Path, earth_engine: Emulator, collector: collecting.Collector) -> Iterator[Serving]:
    """The main application; its numbers come from one thread, as the library's in these tests."""
    models: list[dict[str, object]] = [
        {"model": name} for name in ("mosaiks", "galileo", "remoteclip", "gse", "tessera")
    ]
    models.append({"model": "dofa", "min_replicas": 0})  # large, and wanted by one test only
    settings = ServiceSettings.model_validate(
        {
            "name": "main",
            "models": [{**model, "cpu_threads": 1, "device": "cpu"} for model in models],
            "fetch": {"actors": 2, "concurrency": 4, "block_items": 8, "linger_ms": 10},
            "checkpoints": {"root": weights, "offline": True},
            "providers": {
                "gee": {"url": earth_engine.url, "project": "emulated", "credentials": "anonymous", "at_once": 8},
                "tessera": {"root": golden_dir("tessera") / "sample", "offline": True},
            },
            "limits": {"window_rois": 48, "max_body_mb": 0.1, "cold_start_timeout_s": 120},
            "http": {"port": free_port()},
            "observe": {"traces": {"endpoint": collector.url, "ratio": 0.0}},
        }
    )
    processes: list[psutil.Process] = []
    with pytest.MonkeyPatch.context() as patch:
        # A reference that is pickled outside of a call's arguments is never freed: make it an error instead.
        patch.setenv("RAY_allow_out_of_band_object_ref_serialization", "0")
        patch.setenv("HF_HUB_CACHE", str(weights / "no-hub"))  # what this machine has downloaded does not count
        with serving(settings, num_cpus=_CPUS) as running:
            yield running
            processes = [child for child in psutil.Process().children(recursive=True) if _is_ray_s(child)]
        _, alive = psutil.wait_procs(processes, _PATIENCE_S)
    assert not alive


def _is_ray_s(process: psutil.Process) -> bool:
    """Whether Ray started it: other tests have helpers of their own."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return any(mark in " ".join(process.cmdline()) for mark in ("ray::", "/ray/", "raylet", "gcs_server"))
    return False


@pytest.fixture(scope="session")
def slow(service: Serving) -> str:
    """The URL of the application whose imagery takes its time."""
    slow_application.deploy()
    return f"{service.url}{slow_application.PREFIX}"


@pytest.fixture(scope="session")
def client(service: Serving) -> Iterator[EmbeddingClient]:
    with EmbeddingClient(service.url, timeout_s=120) as over_http:
        yield over_http


@pytest.fixture(scope="session")
def handle(service: Serving) -> Iterator[EmbeddingClient]:
    with EmbeddingClient.from_handle(service.settings.name, timeout_s=120) as over_handle:
        yield over_handle


@pytest.fixture(scope="session")
def library(weights: Path) -> Iterator[None]:
    """The library with the service's weights and its number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rs_embed_core.configure(checkpoints_root=weights, offline=True)
    yield
    torch.set_num_threads(threads)
