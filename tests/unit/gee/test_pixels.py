"""Chips equal a computation in plain NumPy, bit for bit, and take as few requests as possible."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import replace

import numpy as np
import pytest

from rs_embed_core.chip import Period
from rs_embed_core.providers.base import Provider
from tests.emulator.control import Emulator
from tests.emulator.scenes import StoredScene
from tests.emulator.small import ANNUAL, LANDSAT, S1_DB, S1_LINEAR, S2_BANDS
from tests.unit.gee.emulated import provider
from tests.unit.gee.plans import FOUR, MONTHS, PLAN, WHOLE_YEAR, around, check, expected, members, plan

_RADAR = plan(collection=S1_LINEAR, bands=("VV", "VH"), frames=(WHOLE_YEAR,))
_APRIL = (MONTHS[3],)  # only EW scenes


def _requests(service: Emulator) -> dict[str, int]:
    return {kind: count for kind, count in service.counters()["requests"].items() if count}


def _usable(scene: StoredScene) -> bool:
    polarisations = scene.own["transmitterReceiverPolarisation"]
    return scene.own["instrumentMode"] == "IW" and polarisations == ["VV", "VH"]


def test_it_is_a_provider(service: Emulator) -> None:
    assert isinstance(provider(), Provider)
    assert provider().name == "gee"


@pytest.mark.parametrize("composite", ["median", "mosaic"])
@pytest.mark.parametrize("cloudy_pct", [30, 5, None])
def test_sentinel_2_in_two_utm_zones(service: Emulator, composite: str, cloudy_pct: int | None) -> None:
    wanted = plan(bands=tuple(S2_BANDS), composite=composite, cloudy_pct=cloudy_pct)
    check(provider().fetch(wanted), expected(wanted))
    assert _requests(service) == {"pixels": 1, "value": 1}


def test_medians_may_end_in_a_half(service: Emulator) -> None:
    assert np.any(provider().fetch(PLAN).data % 1 == 0.5)


@pytest.mark.parametrize("composite", ["median", "mosaic"])
@pytest.mark.parametrize(("frames", "empty"), [(FOUR, (2,)), (MONTHS, (7,))])
def test_a_series_is_one_request_for_pixels_and_one_for_scenes(
    service: Emulator, frames: tuple, empty: tuple[int, ...], composite: str
) -> None:
    wanted = plan(frames=frames, composite=composite)
    chip = provider().fetch(wanted)
    check(chip, expected(wanted))
    assert chip.empty_frames == empty
    assert chip.valid is not None
    assert not chip.valid[list(empty)].any()
    assert _requests(service) == {"pixels": 1, "value": 1}


def test_an_empty_frame_says_so_and_takes_nothing_from_its_neighbours(service: Emulator) -> None:
    chip = provider().fetch(plan(frames=FOUR, fill_value=-1.0))
    assert np.all(chip.data[2] == -1.0)
    check(chip, expected(plan(frames=FOUR)), -1.0)


def test_scenes_are_listed_with_time_and_frame(service: Emulator) -> None:
    wanted = plan(frames=FOUR)
    chip = provider().fetch(wanted)
    scenes = [(index, scene) for index, period in enumerate(FOUR) for scene in members(wanted, period)]
    listed = [(seen.frame, seen.id, seen.time) for seen in chip.acquisitions]
    assert listed == [(index, scene.index, f"{scene.time_start:%Y-%m-%dT%H:%M:%SZ}") for index, scene in scenes]
    cloud = "CLOUDY_PIXEL_PERCENTAGE"
    clouds = [float(scene.own[cloud]) for _, scene in scenes if cloud in scene.own]
    assert len(clouds) == len(scenes) - 1  # one scene tells none, and passes the filter
    facts = dict(chip.facts)
    assert facts["scenes"] == len(scenes)
    assert facts["cloud_pct_mean"] == round(sum(clouds) / len(clouds), 2)


def test_without_the_list_it_is_one_request(service: Emulator) -> None:
    chip = provider().fetch(plan(scenes=False))
    check(chip, expected(PLAN))
    assert chip.acquisitions == ()
    assert _requests(service) == {"pixels": 1}


def test_names_are_resolved_and_kept_as_spelled(service: Emulator) -> None:
    chip = provider().fetch(plan(bands=("NIR", "B8", "SWIR1")))
    assert chip.bands == ("NIR", "B8", "SWIR1")
    check(chip, expected(plan(bands=("B8", "B8", "B11"))))


def test_landsat_with_its_own_cloud_property(service: Emulator) -> None:
    wanted = plan(collection=LANDSAT, bands=("SR_B4", "SR_B5"), cloudy_pct=20)
    chip = provider().fetch(replace(wanted, bands=("RED", "NIR")))
    check(chip, expected(wanted))


def test_embeddings_of_a_year_with_nan_where_there_are_none(service: Emulator) -> None:
    bands = tuple(f"A{i:02d}" for i in range(64))
    wanted = plan(collection=ANNUAL, bands=bands, frames=(WHOLE_YEAR,), composite="mosaic", fill_value=math.nan)
    wanted = replace(wanted, grid=around(2600, 30))  # more than the tiles cover
    chip = provider().fetch(wanted)
    assert chip.valid is not None
    assert not chip.valid.all()
    check(chip, expected(wanted), math.nan)


@pytest.mark.parametrize("orbit", [None, "ASCENDING", "DESCENDING"])
@pytest.mark.parametrize("composite", ["median", "mosaic"])
def test_sentinel_1_by_orbit(service: Emulator, orbit: str | None, composite: str) -> None:
    wanted = replace(_RADAR, orbit=orbit, composite=composite)

    def kept(scene: StoredScene) -> bool:
        return _usable(scene) and orbit in {None, scene.own["orbitProperties_pass"]}

    chip = provider().fetch(wanted)
    check(chip, expected(wanted, kept))
    assert dict(chip.facts)["s1_iw_applied"] is True
    assert dict(chip.facts)["s1_iw_relaxed"] is False


def test_sentinel_1_in_decibels(service: Emulator) -> None:
    chip = provider().fetch(replace(_RADAR, linear=False))
    assert chip.collection == S1_DB
    check(chip, expected(replace(_RADAR, collection=S1_DB), _usable))
    assert chip.data.min() < -10.0


def test_the_mode_is_relaxed_where_it_leaves_nothing_and_that_is_said(service: Emulator) -> None:
    wanted = replace(_RADAR, frames=_APRIL)
    chip = provider().fetch(wanted)
    check(chip, expected(wanted))
    assert dict(chip.facts)["s1_iw_applied"] is False
    assert dict(chip.facts)["s1_iw_relaxed"] is True
    assert len(chip.acquisitions) == len(members(wanted, MONTHS[3]))


def test_the_mode_is_not_relaxed_while_another_frame_has_scenes(service: Emulator) -> None:
    wanted = replace(_RADAR, frames=MONTHS[2:5])
    chip = provider().fetch(wanted)
    check(chip, expected(wanted, _usable))
    assert chip.empty_frames == (1,)
    assert dict(chip.facts)["s1_iw_relaxed"] is False


def test_the_mode_is_relaxed_also_where_no_list_was_wanted(service: Emulator) -> None:
    chip = provider().fetch(replace(_RADAR, frames=_APRIL, scenes=False))
    assert dict(chip.facts)["s1_iw_relaxed"] is True


def test_tiles_joined_are_the_same_as_other_tiles(service: Emulator) -> None:
    bands, day = tuple(S2_BANDS)[:10], Period(dt.date(2022, 6, 4), dt.date(2022, 6, 5))
    wanted = plan(bands=bands, grid=around(200, 0.4), frames=(day,), scenes=False)  # 1001 px: 50.1 MB
    chip = provider().fetch(wanted)
    assert dict(chip.facts)["tiles"] == 2
    assert _requests(service) == {"pixels": 2}
    west, east = (replace(wanted, grid=wanted.grid.crop(0, 1001, *columns)) for columns in ((0, 300), (300, 1001)))
    parts = [provider().fetch(part).data for part in (west, east)]
    np.testing.assert_array_equal(chip.data, np.concatenate(parts, axis=3))


def test_facts_tell_what_it_cost(service: Emulator) -> None:
    facts = dict(provider().fetch(PLAN).facts)
    assert facts["requests"] == 2
    assert facts["retries"] == 0
    assert facts["bytes"] > 3 * PLAN.grid.width * PLAN.grid.height * 4
    assert facts["workload_tag"] == "tests"
    assert facts["quota_restricted"] is False


def test_requests_carry_project_and_tag(service: Emulator) -> None:
    provider().fetch(plan(scenes=False))
    headers = service.counters()["headers"]
    assert headers["project"] == "test-project"
    assert headers["workload_tag"] == "tests"
