"""What is known of collections, against the tables of earth_engine.md (1.4 to 1.6)."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest

from rs_embed_core.chip import FetchPlan, Period
from rs_embed_core.geo import Bounds, Grid
from rs_embed_core.providers.gee.collections import bands_of, collection_of, conditions_of

_GRID = Grid.on_lattice(Bounds(0, 0, 100, 100), 10)
_PLAN = FetchPlan("COPERNICUS/S2_SR_HARMONIZED", ("B4",), _GRID, (Period(dt.date(2022, 6, 1), dt.date(2022, 7, 1)),))


def _conditions(**changes: object) -> list[str]:
    return [str(condition) for condition in conditions_of(replace(_PLAN, **changes))]


@pytest.mark.parametrize("collection", ["COPERNICUS/S2_SR_HARMONIZED", "COPERNICUS/S2_SR", "COPERNICUS/S2"])
def test_sentinel_2_scenes_are_filtered_by_their_cloud(collection: str) -> None:
    assert _conditions(collection=collection) == ["CLOUDY_PIXEL_PERCENTAGE <= 30"]


def test_landsat_scenes_are_filtered_by_their_cloud() -> None:
    assert _conditions(collection="LANDSAT/LC08/C02/T1_L2", cloudy_pct=12) == ["CLOUD_COVER <= 12"]


@pytest.mark.parametrize("collection", ["NASA/HLS/HLSL30/v002", "MODIS/061/MOD09GA", "USGS/SRTMGL1_003"])
def test_other_collections_are_not_filtered(collection: str) -> None:
    assert _conditions(collection=collection) == []


def test_without_a_threshold_nothing_is_filtered() -> None:
    assert _conditions(cloudy_pct=None) == []


@pytest.mark.parametrize(
    ("collection", "asked", "native"),
    [
        ("COPERNICUS/S2_SR_HARMONIZED", "BLUE GREEN RED NIR NIR_NARROW", "B2 B3 B4 B8 B8A"),
        ("COPERNICUS/S2_SR_HARMONIZED", "NIR_WIDE NIR_BROAD NIRN NIR_N", "B8 B8 B8A B8A"),
        ("COPERNICUS/S2_HARMONIZED", "RE1 RED_EDGE_2 RE3 RE4 SWIR1 SWIR_2", "B5 B6 B7 B8A B11 B12"),
        ("LANDSAT/LC09/C02/T1_L2", "BLUE GREEN RED NIR SWIR1 SWIR2", "SR_B2 SR_B3 SR_B4 SR_B5 SR_B6 SR_B7"),
        ("LANDSAT/LT05/C02/T1_L2", "BLUE GREEN RED NIR SWIR1 SWIR2", "SR_B1 SR_B2 SR_B3 SR_B4 SR_B5 SR_B7"),
        ("LANDSAT/LE07/C02/T1_L2", "RED SR_B4 QA_PIXEL", "SR_B3 SR_B4 QA_PIXEL"),
        ("MODIS/061/MOD09GA", "RED sur_refl_b01", "RED sur_refl_b01"),
    ],
)
def test_common_names_are_resolved_and_others_pass_through(collection: str, asked: str, native: str) -> None:
    plan = replace(_PLAN, collection=collection, bands=tuple(asked.split()))
    assert bands_of(plan) == tuple(native.split())


@pytest.mark.parametrize("collection", ["COPERNICUS/S1_GRD_FLOAT", "COPERNICUS/S1_GRD"])
@pytest.mark.parametrize(("linear", "read"), [(True, "COPERNICUS/S1_GRD_FLOAT"), (False, "COPERNICUS/S1_GRD")])
def test_linear_decides_which_sentinel_1_is_read(collection: str, linear: bool, read: str) -> None:
    assert collection_of(replace(_PLAN, collection=collection, linear=linear)) == read


def test_sentinel_1_scenes_have_mode_polarisations_and_orbit() -> None:
    both = ["transmitterReceiverPolarisation has VV", "transmitterReceiverPolarisation has VH"]
    radar = "COPERNICUS/S1_GRD_FLOAT"
    assert _conditions(collection=radar) == ["instrumentMode = IW", *both]
    assert _conditions(collection=radar, require_iw=False) == both
    assert _conditions(collection=radar, orbit="DESCENDING")[0] == "orbitProperties_pass = DESCENDING"
