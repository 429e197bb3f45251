"""Models over imagery that is read from a service: Earth Engine's client against the emulator, and products."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from ray import serve

from rs_embed_core import BBox, Embedding, OutputSpec, PointBuffer, TemporalSpec, get_embedding
from rs_embed_core.errors import InvalidRequest, NoImagery, ProviderError, ProviderTimeout, UnknownProvider
from rs_embed_core.providers import register_provider
from rs_embed_core.providers.tessera import TesseraProvider, TesseraSettings
from serve_app.client import EmbeddingClient
from serve_app.serving import Serving
from tests.emulator.control import Emulator
from tests.parity.golden import golden_dir
from tests.serve.calls import SMALL, SUMMER
from tests.serve.elsewhere import Library, library

YEAR = TemporalSpec.year(2022)
COUNTED = ("requests", "retries", "bytes", "queued_ms", "cache")
pytestmark = pytest.mark.usefixtures("library")


@pytest.fixture(autouse=True)
def quiet(earth_engine: Emulator) -> None:
    """No fault of the test before, and the library's own reader of tiles beside the service's."""
    earth_engine.reset()
    register_provider("tessera", TesseraProvider(TesseraSettings(golden_dir("tessera") / "sample", offline=True)))


@pytest.fixture(scope="module")
def elsewhere(earth_engine: Emulator, weights: Path) -> Iterator[Library]:
    with library(earth_engine.url, weights) as own:
        yield own


def assert_same(ours: Embedding, theirs: np.ndarray) -> None:
    """The same numbers but for the rounding of other neighbours in a forward."""
    np.testing.assert_allclose(ours.data, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())


def pixels_asked(earth_engine: Emulator) -> int:
    return int(earth_engine.counters()["requests"].get("pixels", 0))


def test_a_single_composite_through_http_is_the_library_s(client: EmbeddingClient, elsewhere: Library) -> None:
    place = PointBuffer(8.5, 47.3, 640)
    ours = client.get_embedding("dofa", spatial=place, temporal=SUMMER, backend="gee")
    assert_same(ours, elsewhere.embed("dofa", spatial=place, temporal=SUMMER, backend="gee"))
    assert (ours.meta["backend"], ours.meta["source"]) == ("gee", "COPERNICUS/S2_SR_HARMONIZED")
    assert ours.meta["acquisitions"]
    fetch = ours.meta["fetch"]
    assert isinstance(fetch, dict)
    assert set(COUNTED) <= fetch.keys()
    assert fetch["cache"] == "miss"


def test_a_time_series_through_http_is_the_library_s(client: EmbeddingClient, elsewhere: Library) -> None:
    place = PointBuffer(8.6, 47.3, 320)
    ours = client.get_embedding("galileo", spatial=place, temporal=SUMMER, backend="gee")
    assert_same(ours, elsewhere.embed("galileo", spatial=place, temporal=SUMMER, backend="gee"))
    assert {entry["frame"] for entry in ours.meta["acquisitions"]} == {0, 1, 2, 3}  # type: ignore[index,union-attr]


@pytest.mark.parametrize("output", [OutputSpec.pooled(), OutputSpec.pooled("max"), OutputSpec.grid()])
def test_a_product_on_earth_engine_through_http_is_the_library_s(
    client: EmbeddingClient, elsewhere: Library, output: OutputSpec
) -> None:
    box = BBox(8.5, 47.3, 8.506, 47.303)
    ours = client.get_embedding("gse", spatial=box, temporal=YEAR, output=output)
    np.testing.assert_array_equal(ours.data, elsewhere.embed("gse", spatial=box, temporal=YEAR, output=output))
    assert (ours.meta["type"], ours.meta["backend"]) == ("precomputed", "gee")


def test_a_product_in_files_through_handle_and_http(client: EmbeddingClient, handle: EmbeddingClient) -> None:
    place = PointBuffer(0.15, 52.05, 300)
    theirs = get_embedding("tessera", spatial=place, temporal=TemporalSpec.year(2024), output=OutputSpec.grid())
    for one in (client, handle):
        ours = one.get_embedding("tessera", spatial=place, temporal=TemporalSpec.year(2024), output=OutputSpec.grid())
        np.testing.assert_array_equal(ours.data, theirs.data)
        assert ours.meta["crs"] == "EPSG:3857"


def test_a_chip_is_read_once_for_several_models(client: EmbeddingClient, earth_engine: Emulator) -> None:
    place = PointBuffer(9.1, 46.9, 320)
    earth_engine.set(latency_ms=300)
    with ThreadPoolExecutor(3) as threads:
        jobs = [
            threads.submit(client.get_embedding, "mosaiks", spatial=place, temporal=SUMMER, backend="gee", **config)
            for config in ({"model_config": {"seed": seed}} for seed in range(3))
        ]
        cached = [job.result().meta["fetch"]["cache"] for job in jobs]  # type: ignore[index,call-overload]
    assert pixels_asked(earth_engine) == 1
    assert cached.count("miss") == 1
    again = client.get_embedding("mosaiks", spatial=place, temporal=SUMMER, backend="gee")
    assert again.meta["fetch"]["cache"] == "memory"  # type: ignore[index,call-overload]
    assert pixels_asked(earth_engine) == 1


def test_models_over_the_same_places_share_every_read(
    client: EmbeddingClient, handle: EmbeddingClient, elsewhere: Library, earth_engine: Emulator
) -> None:
    """They need different bands of the same composite."""
    models = {
        "rcf": {"model": "mosaiks"},
        "dofa": {"model": "dofa"},
        "one": {"model": "galileo", "model_config": SMALL},
    }
    for user, north in ((client, 46.5), (handle, 46.7)):
        spatials = [PointBuffer(9.3 + 0.05 * i, north, 160) for i in range(6)]
        earth_engine.reset()
        earth_engine.set(latency_ms=200)
        found = list(user.stream_models(models, spatials=spatials, temporal=SUMMER, backend="gee"))
        assert pixels_asked(earth_engine) == len(spatials)
        assert sorted((name, item.index) for name, item in found) == sorted(
            (name, index) for name in models for index in range(len(spatials))
        )
        for name, how in models.items():
            item = next(item for who, item in found if who == name)
            assert item.embedding is not None
            place = spatials[item.index]
            assert_same(item.embedding, elsewhere.embed(**how, spatial=place, temporal=SUMMER, backend="gee"))


def test_the_quota_holds_for_all_fetch_actors_together(client: EmbeddingClient, earth_engine: Emulator) -> None:
    earth_engine.set(latency_ms=100, at_once=8)
    spatials = [PointBuffer(10 + 0.02 * i, 45.0, 80) for i in range(40)]
    found = client.get_embeddings_batch("mosaiks", spatials=spatials, temporal=SUMMER, backend="gee")
    counters = earth_engine.counters()
    assert len(found) == 40
    assert counters["rejected"] == 0
    assert counters["most_in_flight"] <= 8


def test_what_passes_is_asked_again(client: EmbeddingClient, earth_engine: Emulator) -> None:
    earth_engine.set(faults=[{"kind": "pixels", "status": 503, "times": 1, "message": "internal error"}])
    ours = client.get_embedding("mosaiks", spatial=PointBuffer(11.3, 46.0, 80), temporal=SUMMER, backend="gee")
    assert ours.meta["fetch"]["retries"] == 1  # type: ignore[index,call-overload]


def test_a_service_that_never_answers_ends_at_the_deadline(service: Serving, earth_engine: Emulator) -> None:
    earth_engine.set(faults=[{"kind": "pixels", "delay": 60, "times": 9}])
    with EmbeddingClient(service.url, timeout_s=3) as hurried, pytest.raises(ProviderError) as raised:
        hurried.get_embedding("mosaiks", spatial=PointBuffer(11.4, 46.0, 80), temporal=SUMMER, backend="gee")
    assert isinstance(raised.value, ProviderTimeout) or raised.value.code == "deadline_exceeded"


def test_no_imagery_is_said_with_what_would_be_right(client: EmbeddingClient) -> None:
    with pytest.raises(NoImagery, match="COPERNICUS/S2") as raised:
        client.get_embedding(
            "mosaiks",
            spatial=PointBuffer(11.4, 46.0, 80),
            temporal=TemporalSpec.range("1990-01-01", "1990-02-01"),
            backend="gee",
        )
    assert raised.value.hint


def test_what_is_not_set_up_is_refused(client: EmbeddingClient) -> None:
    with pytest.raises(UnknownProvider, match="stac") as raised:
        client.get_embedding("mosaiks", spatial=PointBuffer(11.4, 46.0, 80), temporal=SUMMER, backend="stac")
    assert "gee" in str(raised.value)
    with pytest.raises(InvalidRequest, match="needs a year"):
        client.get_embedding("gse", spatial=PointBuffer(11.4, 46.0, 80))


def test_a_fetch_actor_that_dies_loses_nothing(
    client: EmbeddingClient, service: Serving, earth_engine: Emulator
) -> None:
    earth_engine.set(latency_ms=200)
    spatials = [PointBuffer(12 + 0.02 * i, 44.0, 80) for i in range(40)]
    processes = serve.get_app_handle(service.settings.name).processes.remote().result()
    found: list[int] = []
    stream = client.stream_embeddings("mosaiks", spatials=spatials, temporal=SUMMER, backend="gee", progress=False)
    for item in stream:
        assert item.error is None, item.error
        if not found:
            os.kill(processes["fetch"][0], signal.SIGKILL)
        found.append(item.index)
    assert sorted(found) == list(range(40))


def test_a_series_of_a_small_model_takes_few_requests(client: EmbeddingClient, earth_engine: Emulator) -> None:
    client.get_embedding(
        "galileo", spatial=PointBuffer(13.0, 47.0, 160), temporal=SUMMER, backend="gee", model_config=SMALL
    )
    asked = earth_engine.counters()["requests"]
    assert asked.get("pixels", 0) + asked.get("value", 0) <= 3
