"""Whatever goes wrong ends in the right typed error, within the deadline (earth_engine.md, 2.3)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any  # a fault's fields

import pytest

from rs_embed_core.errors import (
    NoImagery,
    ProviderAuth,
    ProviderError,
    ProviderQuota,
    ProviderTimeout,
)
from rs_embed_core.geo import Grid
from rs_embed_core.providers.calls import Terms, under
from tests.emulator.control import Emulator
from tests.emulator.small import S1_LINEAR
from tests.unit.gee.emulated import provider
from tests.unit.gee.plans import MONTHS, PLAN, check, expected, plan

_EVER = {"times": None}
_LATE = ("provider_timeout", True)  # where the deadline falls into the last try, and not between two
_QUOTA = "Quota exceeded for quota metric 'Earth Engine compute time (EECU-seconds)' and limit 'daily_eecu_usage_time'"
_RATE = "Quota exceeded for quota metric 'Read requests' and limit 'Read requests per minute'"


@contextmanager
def _within(seconds: float) -> Iterator[None]:
    """Read with a deadline so far away, and see that it is kept (generously: the machine may be busy)."""
    began = time.monotonic()
    with under(Terms(time.monotonic() + seconds)):
        yield
    assert time.monotonic() - began < seconds + 5.0


def _fails(service: Emulator, *faults: dict[str, Any], seconds: float = 20.0) -> ProviderError:
    service.set(faults=list(faults))
    with _within(seconds), pytest.raises(ProviderError) as caught:
        provider().fetch(plan(scenes=False))
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 429, "message": "Too many concurrent aggregations.", "times": 2},
        {"status": 429, "message": _RATE},
        {"status": 403, "reason": "rateLimitExceeded"},
        {"status": 500, "message": "An internal error has occurred."},
        {"status": 503, "times": 2},
        {"html": True, "status": 502},
        {"truncate": True},
        {"hang_up": True, "times": 2},
    ],
    ids=str,
)
def test_what_passes_is_tried_again_and_changes_nothing(service: Emulator, fault: dict[str, Any]) -> None:
    service.set(faults=[{"kind": "pixels", **fault}])
    chip = provider().fetch(PLAN)
    check(chip, expected(PLAN))
    times = fault.get("times", 1)
    assert dict(chip.facts)["retries"] == times
    assert service.counters()["requests"]["pixels"] == 1 + times


def test_a_failed_scene_list_is_no_empty_frame(service: Emulator) -> None:
    service.set(faults=[{"kind": "value", "status": 503}])
    chip = provider().fetch(plan(frames=MONTHS[4:6]))
    assert chip.empty_frames == ()
    assert chip.acquisitions


def test_the_service_says_when_to_come_back(service: Emulator) -> None:
    service.set(faults=[{"kind": "pixels", "status": 429, "retry_after": 2}])
    began = time.monotonic()
    provider().fetch(PLAN)
    assert time.monotonic() - began >= 2.0


def test_endless_rejections(service: Emulator) -> None:
    error = _fails(service, {"kind": "pixels", "status": 429, **_EVER}, seconds=60.0)  # all tries: some 7 s
    assert isinstance(error, ProviderQuota)
    assert error.code == "provider_quota"
    assert error.retryable


def test_a_spent_daily_quota_is_not_asked_again(service: Emulator) -> None:
    error = _fails(service, {"kind": "pixels", "status": 429, "message": _QUOTA, **_EVER})
    assert isinstance(error, ProviderQuota)
    assert (error.code, error.retryable) == ("daily_quota", False)
    assert service.counters()["requests"]["pixels"] == 1


def test_endless_server_errors(service: Emulator) -> None:
    error = _fails(service, {"kind": "pixels", "status": 503, "message": "Service unavailable.", **_EVER}, seconds=2.0)
    assert (error.code, error.retryable) in (("provider_failed", True), _LATE)
    assert "503" in error.message or error.code == _LATE[0]


def test_a_proxy_s_page_is_told_by_its_status(service: Emulator) -> None:
    error = _fails(service, {"kind": "pixels", "html": True, "status": 502, **_EVER}, seconds=2.0)
    assert (error.code, error.retryable) in (("provider_failed", True), _LATE)
    assert "502" in error.message or error.code == _LATE[0]


def test_bodies_cut_in_half(service: Emulator) -> None:
    error = _fails(service, {"kind": "pixels", "truncate": True, **_EVER}, seconds=2.0)
    assert (error.code, error.retryable) in (("provider_unreachable", True), _LATE)


@pytest.mark.parametrize("kind", ["pixels", "value"])
def test_a_server_that_does_not_answer(service: Emulator, kind: str) -> None:
    service.set(faults=[{"kind": kind, "delay": 30.0, **_EVER}])
    with _within(1.0), pytest.raises(ProviderTimeout) as caught:
        provider().fetch(PLAN)
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("status", "message", "code"),
    [
        (401, "Request had invalid authentication credentials.", "credentials_expired"),
        (403, "Google Earth Engine API has not been used in project 1 before or it is disabled.", "api_disabled"),
        (403, "Project 'x' is not registered to use Earth Engine.", "project_not_registered"),
        (403, "Caller does not have required permission to use project x.", "no_permission"),
    ],
)
def test_refused_accounts_are_not_asked_again(service: Emulator, status: int, message: str, code: str) -> None:
    error = _fails(service, {"kind": "pixels", "status": status, "message": message, **_EVER})
    assert isinstance(error, ProviderAuth)
    assert (error.code, error.retryable) == (code, False)
    assert dict(service.counters()["requests"])["pixels"] == 1


def test_three_refusals_in_a_row_open_the_circuit(service: Emulator) -> None:
    service.set(faults=[{"kind": "pixels", "status": 403, "message": "no permission", **_EVER}])
    same = provider()
    for _ in range(5):
        with pytest.raises(ProviderAuth):
            same.fetch(plan(scenes=False))
    assert service.counters()["requests"]["pixels"] == 3


def test_an_unknown_collection(service: Emulator) -> None:
    with pytest.raises(ProviderError, match="NOT/THERE") as caught:
        provider().fetch(plan(collection="NOT/THERE"))
    assert (caught.value.code, caught.value.retryable) == ("unknown_collection", False)
    assert service.counters()["requests"]["pixels"] == 1


def test_a_wrong_band(service: Emulator) -> None:
    with pytest.raises(ProviderError, match="B99") as caught:
        provider().fetch(plan(bands=("B4", "B99")))
    assert (caught.value.code, caught.value.retryable) == ("unknown_band", False)


def test_no_imagery_in_the_window_counts_what_each_filter_left(service: Emulator) -> None:
    with pytest.raises(NoImagery, match="no images found: COPERNICUS/S2_SR_HARMONIZED has 0 at this place") as caught:
        provider().fetch(plan(frames=(MONTHS[7],)))
    assert caught.value.retryable is False
    assert service.counters()["requests"]["value"] == 2


def test_no_imagery_with_so_few_clouds(service: Emulator) -> None:
    with pytest.raises(NoImagery, match="has 3 at this place, 0 with CLOUDY_PIXEL_PERCENTAGE <= 0") as caught:
        provider().fetch(plan(frames=(MONTHS[0],), cloudy_pct=0))
    assert "CLOUDY_PIXEL_PERCENTAGE" in str(caught.value.hint)


def test_no_radar_of_this_mode(service: Emulator) -> None:
    radar = plan(collection=S1_LINEAR, bands=("VV", "VH"), frames=(MONTHS[3],), relax_iw=False)
    with pytest.raises(NoImagery, match="3 at this place, 0 with instrumentMode = IW"):
        provider().fetch(radar)


def test_elsewhere_there_is_nothing(service: Emulator) -> None:
    grid = Grid("EPSG:3857", (10.0, 0.0, 0.0, 0.0, -10.0, 0.0), 8, 8)
    with pytest.raises(NoImagery):
        provider().fetch(plan(grid=grid))


def test_a_grid_that_is_not_on_the_lattice(service: Emulator) -> None:
    with pytest.raises(ProviderError, match="EPSG:32633") as caught:
        provider().fetch(plan(grid=Grid("EPSG:32633", (10.0, 0.0, 0.0, 0.0, -10.0, 0.0), 8, 8)))
    assert caught.value.code == "unsupported_grid"


@pytest.mark.parametrize("message", ["Computation timed out.", "User memory limit exceeded."])
def test_too_much_work_is_halved(service: Emulator, message: str) -> None:
    service.set(faults=[{"kind": "pixels", "status": 400, "message": message, "times": 2}])
    wanted = plan(frames=MONTHS[4:6])
    chip = provider().fetch(wanted)
    check(chip, expected(wanted))
    assert service.counters()["requests"]["pixels"] == 2 + 3  # two frames, one frame, then its halves and the other


def test_too_much_work_even_for_the_smallest_part(service: Emulator) -> None:
    error = _fails(service, {"kind": "pixels", "status": 400, "message": "Computation timed out.", **_EVER})
    assert (error.code, error.retryable) == ("computation_too_large", False)
    assert service.counters()["requests"]["pixels"] == 5  # 81 x 81, 41 x 81, 41 x 41, 21 x 41, 21 x 21


def test_a_restricted_project_is_a_fact_and_no_warning(service: Emulator) -> None:
    restricted = {"x-earth-engine-quota-status": "parallelism_restricted=true"}
    service.set(faults=[{"kind": "pixels", "headers": restricted}])
    assert dict(provider().fetch(plan(scenes=False)).facts)["quota_restricted"] is True
    assert dict(provider().fetch(plan(scenes=False)).facts)["quota_restricted"] is False
