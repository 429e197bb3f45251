"""Imagery goes from the fetch actors to the encoder through shared memory; the router never touches it."""

from __future__ import annotations

import time

import psutil
import ray
from ray import serve
from ray._private.internal_api import get_state_from_address, node_stats

from serve_app.client import EmbeddingClient
from serve_app.serving import Serving
from tests.serve.calls import SUMMER, places

_MB = 1e6
_IMAGERY_MB = 60 * 160 * 160 * 10 * 4 / _MB  # 60 ROIs of 160 x 160 pixels and 10 bands


def _store_mb() -> float:
    """What the object store holds."""
    state = get_state_from_address(ray.get_runtime_context().gcs_address)
    (node,) = state.node_table()
    stats = node_stats(node["NodeManagerAddress"], node["NodeManagerPort"], include_memory_info=False)
    return stats.store_stats.object_store_bytes_used / _MB


def _mapped_mb(process: int) -> float:
    """What a process has touched of the store."""
    maps = psutil.Process(process).memory_maps(grouped=True)
    return sum(entry.rss for entry in maps if "plasma" in entry.path) / _MB


def test_imagery_never_passes_the_router_and_is_freed(service: Serving, client: EmbeddingClient) -> None:
    """A reference that is pickled outside of a call's arguments would be an error here (see ``conftest``)."""
    processes = serve.get_app_handle(service.settings.name).processes.remote().result(timeout_s=60)
    (router,), encoder = processes["router"], processes["encoder"][0]
    store, router_before, encoder_before = _store_mb(), _mapped_mb(router), _mapped_mb(encoder)
    results = client.get_embeddings_batch("mosaiks", spatials=places(60, buffer_m=800), temporal=SUMMER)
    assert len(results) == 60
    assert _mapped_mb(encoder) - encoder_before > _IMAGERY_MB / 10  # it reuses what is free
    assert _mapped_mb(router) - router_before < _IMAGERY_MB / 20  # the results
    deadline = time.monotonic() + 20
    while _store_mb() > store + 0.5:
        assert time.monotonic() < deadline, f"the object store still holds {_store_mb():.1f} MB"
        time.sleep(0.2)
