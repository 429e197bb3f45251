"""The emulator refuses in the service's words, fails on demand and counts."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ee
import numpy as np
import pytest
import urllib3

from rs_embed_core.geo import Grid
from tests.emulator.client import PROJECT, Client, client, compute_pixels
from tests.emulator.control import Emulator, emulator

DOT = Grid("EPSG:3857", (10.0, 0.0, 1_335_800.0, 0.0, -10.0, 6_446_200.0), 4, 3)


@pytest.fixture(scope="module")
def running() -> Iterator[Emulator]:
    with emulator("small") as server:
        yield server


@pytest.fixture(scope="module")
def earth(running) -> Iterator[Client]:
    with client(running.url) as started:
        yield started


@pytest.fixture
def server(running, earth) -> Emulator:
    """The emulator with a client that has asked once, and nothing counted."""
    earth.pixels(constant, DOT, 1)
    running.reset()
    return running


def constant(*values) -> Any:
    return ee.Image.constant(list(values))


def number(value) -> Any:
    return ee.List([value])


def one_band_of(collection, band) -> Any:
    window = ee.ImageCollection(collection).filterDate("2022-06-01", "2022-07-01")
    return window.select(band).median()


def empty_month() -> Any:
    return (
        ee.ImageCollection("COPERNICUS/S2_SR_HARMONIZED").filterDate("2022-08-01", "2022-09-01").median().select("B2")
    )


def first_of_nothing() -> Any:
    none = ee.ImageCollection("COPERNICUS/S2_SR_HARMONIZED").filterDate("2022-08-01", "2022-09-01")
    return ee.Image(none.first()).select("B2")


def mixed_bands() -> Any:
    return ee.ImageCollection([ee.Image.constant(1), ee.Image.constant([1, 2])]).mosaic()


@pytest.mark.parametrize(
    ("graph", "arguments", "message"),
    [
        (
            one_band_of,
            ("COPERNICUS/NONE", "B2"),
            r"ImageCollection asset 'COPERNICUS/NONE' not found \(does not exist or caller does not have access\)\.",
        ),
        (
            one_band_of,
            ("LANDSAT/LC08/C02/T1_L2", "B2"),
            r"\(ID=LC08_192025_20220612\):\nImage\.select: Band pattern 'B2' did not match any bands\. Avail.*SR_B7",
        ),
        (empty_month, (), r"Image\.select: Band pattern 'B2' did not match any bands\. Available bands: \[\]"),
        (first_of_nothing, (), r"Image\.select: Parameter 'input' is required and may not be null\."),
        (mixed_bands, (), "Expected a homogeneous image collection, but an image with incompatible bands"),
        (constant, tuple(range(1025)), r"Number of bands \(1025\) must be less than or equal to 1024\."),
    ],
)
def test_what_cannot_be_computed_is_refused_in_the_service_s_words(server, earth, graph, arguments, message):
    with pytest.raises(ee.EEException, match=message):
        earth.pixels(graph, DOT, *arguments)


def floats(bands) -> Any:
    return ee.Image.constant([0.5] * bands).toFloat()


@pytest.mark.parametrize(
    ("width", "height", "message"),
    [
        (32_769, 1, r"Pixel grid dimensions \(32769x1\) must be less than or equal to 32768\."),
        (32_768, 1, None),
        (1_024, 4_915, None),  # two bands of 5 bytes: 5 033 164.8 pixels are 48 MiB
        (1_024, 4_916, r"Total request size \(50339840 bytes\) must be less than or equal to 50331648 bytes\."),
    ],
)
def test_a_request_may_have_48_mib_with_a_mask_byte_per_band(server, earth, width, height, message):
    grid = Grid(DOT.crs, DOT.transform, height, width)
    if message is None:
        assert earth.pixels(floats, grid, 2).shape == (2, height, width)
    else:
        with pytest.raises(ee.EEException, match=message):
            earth.pixels(floats, grid, 2)


def wide_sample() -> Any:
    image = ee.Image.constant(1).reproject("EPSG:3857", scale=1)
    return image.sampleRectangle(ee.Geometry.Rectangle([0, 0, 513, 512], "EPSG:3857", geodesic=False))


def test_sample_rectangle_has_a_ceiling_of_its_own(server, earth):
    with pytest.raises(ee.EEException, match=r"Too many pixels in sample; must be <= 262144\. Got 262656\."):
        earth.value(wide_sample)


def status_of(graph, *arguments) -> tuple[str, int | None]:
    """The message of a failing call, and the HTTP status that the client keeps beside it."""
    try:
        compute_pixels(graph, DOT, *arguments)
    except ee.EEException as error:
        return str(error), getattr(getattr(error.__context__, "resp", None), "status", None)
    raise AssertionError("the call did not fail")


@pytest.mark.parametrize(
    ("fault", "message", "status"),
    [
        ({"status": 429, "message": "Too many concurrent aggregations."}, "Too many concurrent aggregations.", 429),
        ({"status": 503, "message": "The service is currently unavailable."}, "The service is curr", 503),
        ({"status": 400, "message": "Computation timed out."}, "Computation timed out.", 400),
        ({"status": 403, "message": "Slow down.", "reason": "rateLimitExceeded"}, "Slow down.", 403),
        ({"status": 401, "message": "Request had invalid authentication credentials."}, "Request had invalid", 401),
        ({"html": True}, "Ok", 502),
    ],
    ids=["429", "503", "timed out", "403", "401", "a proxy's page"],
)
def test_faults_reach_the_client_as_in_production(server, earth, fault, message, status):
    server.set(faults=[{"kind": "pixels", **fault}])
    if fault.get("status") == 401:  # anonymous credentials cannot be refreshed
        with pytest.raises(Exception, match="Anonymous credentials cannot be refreshed"):
            earth.call(status_of, constant, 1)
    else:
        got = earth.call(status_of, constant, 1)
        assert got[0].startswith(message)
        assert got[1] == status
    assert earth.pixels(constant, DOT, 1).sum() == 12


def test_a_truncated_body_and_a_dropped_connection_are_noticed(server, earth):
    server.set(faults=[{"kind": "pixels", "truncate": True}, {"kind": "pixels", "hang_up": True}])
    for _ in range(2):
        with pytest.raises(ConnectionError):
            earth.pixels(constant, DOT, 1)
    assert earth.pixels(constant, DOT, 1).sum() == 12


def test_a_stalled_reply_comes_late(server, earth):
    server.set(faults=[{"kind": "value", "delay": 0.3}])
    began = time.monotonic()
    assert earth.value(number, 3) == [3]
    assert time.monotonic() - began >= 0.3


def test_faults_befall_the_requests_they_name(server, earth):
    server.set(faults=[{"kind": "value", "skip": 1, "times": 2, "status": 500}])
    outcomes = [_succeeds(earth, value) for value in range(5)]
    assert outcomes == [True, False, False, True, True]
    server.set(faults=[{"kind": "any", "times": None, "status": 500}])
    assert not any(_succeeds(earth, value) for value in range(3))
    server.set(faults=[])
    assert _succeeds(earth, 0)


def _succeeds(earth: Client, value: int) -> bool:
    try:
        return bool(earth.value(number, value) == [value])
    except ee.EEException:
        return False


def test_headers_go_with_faults_and_answers(server):
    quota = {"x-earth-engine-quota-status": "parallelism_restricted=true"}
    server.set(faults=[{"kind": "discovery", "status": 429, "retry_after": 7}, {"kind": "discovery", "headers": quota}])
    path = "/$discovery/rest?version=v1"
    refused, answered = (_get(server.url + path) for _ in range(2))
    assert (refused[0], refused[1]["Retry-After"]) == (429, "7")
    assert (answered[0], answered[1]["x-earth-engine-quota-status"]) == (200, "parallelism_restricted=true")


def test_a_request_body_may_have_10_mb(server):
    reply = urllib3.request("POST", f"{server.url}/v1/projects/p/value:compute", body=b" " * 10_000_001, retries=False)
    assert reply.status == 400
    assert reply.json()["error"]["message"].startswith("Request payload size exceeds the limit")


def _get(url: str) -> tuple[int, Any]:
    with urllib3.PoolManager() as pool:
        reply = pool.request("GET", url, retries=False)
        return reply.status, reply.headers


def test_an_unknown_fault_is_refused(server):
    with pytest.raises(OSError, match="400"):
        server.set(faults=[{"kind": "pixels", "statsu": 500}])


def burst(count: int) -> list[str]:
    """So many different calls at once; what each of them came to."""

    def one(value: int) -> str:
        try:
            compute_pixels(constant, DOT, value)
        except ee.EEException as error:
            return str(error)
        return "ok"

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def test_more_than_allowed_at_once_are_rejected(server, earth):
    server.set(latency_ms=300, at_once=3)
    outcomes = earth.call(burst, 8)
    counters = server.counters()
    refused = [message for message in outcomes if message != "ok"]
    assert all(message.startswith("Too Many Requests: ") for message in refused)
    assert counters["rejected"] == len(refused) > 0
    assert outcomes.count("ok") >= 3
    assert counters["requests"]["pixels"] == 8
    assert counters["most_in_flight"] > 3
    assert counters["in_flight"] == 0


def initialise_again(url: str) -> None:
    from tests.emulator.client import initialise  # noqa: PLC0415

    ee.Reset()
    initialise(url)


def test_counters_tell_what_a_client_sent(server, earth):
    earth.call(initialise_again, server.url)
    earth.pixels(constant, DOT, 5)
    earth.pixels(constant, DOT, 5)
    counters = server.counters()
    assert counters["requests"] == {"pixels": 2, "value": 0, "discovery": 2, "algorithms": 1, "asset": 0}
    assert counters["headers"] == {"project": PROJECT, "authorization": None, "workload_tag": "emulator-tests"}
    assert counters["ports"] >= 1
    assert 0 < counters["cpu_s"] < 60
    server.reset()
    assert server.counters()["requests"]["pixels"] == 0


def test_a_repeated_request_costs_no_work(server, earth):
    wide = Grid(DOT.crs, DOT.transform, 1500, 1500)
    first = earth.pixels(one_band_of, wide, "LANDSAT/LC08/C02/T1_L2", "SR_B1")
    spent = server.counters()["cpu_s"]
    again = earth.pixels(one_band_of, wide, "LANDSAT/LC08/C02/T1_L2", "SR_B1")
    np.testing.assert_array_equal(first, again)
    assert server.counters()["cpu_s"] - spent < spent


def test_the_program_prints_its_address_first_and_obeys_its_flags():
    command = [sys.executable, "-m", "tests.emulator", "--catalogue", "small", "--latency-ms", "200", "--at-once", "1"]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        started = Emulator(process.stdout.readline().strip())
        try:
            assert started.url.startswith("http://127.0.0.1:")
            with client(started.url) as earth:
                outcomes = earth.call(burst, 4)
        finally:
            process.terminate()
    assert "ok" in outcomes
    assert any(message.startswith("Too Many Requests") for message in outcomes)
