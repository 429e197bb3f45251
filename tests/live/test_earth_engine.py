"""Earth Engine itself: ``RS_EMBED_LIVE_GEE_PROJECT=my-project pytest -m live tests/live`` with stored credentials."""

from __future__ import annotations

import datetime as dt
import os

import numpy as np
import pytest

from rs_embed_core import OutputSpec, TemporalSpec, get_embedding
from rs_embed_core.chip import Period
from rs_embed_core.errors import NoImagery, ProviderError
from rs_embed_core.providers import register_provider
from rs_embed_core.providers.gee import GeeProvider, GeeSettings
from rs_embed_core.providers.stac import StacProvider, StacSettings
from tests.live.reads import PLACE, check, check_fields, count, plan

PROJECT = os.environ.get("RS_EMBED_LIVE_GEE_PROJECT")
pytestmark = pytest.mark.skipif(not PROJECT, reason="RS_EMBED_LIVE_GEE_PROJECT names no project")


@pytest.fixture(scope="module")
def gee() -> GeeProvider:
    """The provider, also under its name for the public functions."""
    provider = GeeProvider(GeeSettings(project=PROJECT, workload_tag="rs-embed-live", at_once=4))
    register_provider("gee", provider)
    return provider


def test_a_single_composite(gee: GeeProvider) -> None:
    chip = gee.fetch(plan())
    check(chip, plan())
    check_fields(chip)
    assert (
        count(chip, "requests") - count(chip, "retries") == 2
    )  # pixels and scene list; the start of the client is not counted


def test_a_series_is_one_request_for_pixels(gee: GeeProvider) -> None:
    months = tuple(Period(dt.date(2022, month, 1), dt.date(2022, month + 1, 1)) for month in (6, 7, 8))
    asked = plan(frames=months, cloudy_pct=80)
    chip = gee.fetch(asked)
    check(chip, asked)
    assert count(chip, "requests") - count(chip, "retries") == 2
    assert len(np.unique(chip.data.reshape(3, -1), axis=0)) == 3


def test_sentinel_1_in_linear_power(gee: GeeProvider) -> None:
    asked = plan(collection="COPERNICUS/S1_GRD_FLOAT", bands=("VV", "VH"), cloudy_pct=None)
    chip = gee.fetch(asked)
    check(chip, asked)
    co, cross = np.median(chip.data[0].reshape(2, -1), axis=1)
    assert 1e-3 < cross < co < 1


def test_sentinel_1_in_decibels_is_the_same_scenes(gee: GeeProvider) -> None:
    asked = plan(collection="COPERNICUS/S1_GRD_FLOAT", bands=("VV", "VH"), cloudy_pct=None)
    power, decibels = gee.fetch(asked), gee.fetch(plan(**{**vars(asked), "linear": False}))
    assert [seen.time for seen in power.acquisitions] == [seen.time for seen in decibels.acquisitions]
    # An odd number of scenes has the same median pixel in both; of an even number the two differ a little.
    np.testing.assert_allclose(10 * np.log10(power.data), decibels.data, atol=1.5)


@pytest.mark.usefixtures("gee")
def test_the_annual_embedding() -> None:
    grid = get_embedding("gse", spatial=PLACE, temporal=TemporalSpec.year(2022), output=OutputSpec.grid())
    lengths = np.linalg.norm(np.asarray(grid.data), axis=0)
    np.testing.assert_allclose(lengths[np.isfinite(lengths)], 1, atol=0.02)
    assert np.isfinite(lengths).mean() > 0.9


@pytest.mark.usefixtures("gee")
def test_a_model_over_it() -> None:
    summer = TemporalSpec.range("2022-07-01", "2022-08-01")
    vector = get_embedding("mosaiks", spatial=PLACE, temporal=summer, backend="gee")
    assert np.isfinite(vector.data).all()
    assert vector.meta["source"] == "COPERNICUS/S2_SR_HARMONIZED"
    assert vector.meta["notices"] == []


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"collection": "NO/SUCH/COLLECTION"}, "unknown_collection"),
        ({"bands": ("B4", "B99")}, "unknown_band"),
    ],
)
def test_what_is_wrong_is_said_in_the_words_we_know(gee: GeeProvider, changes: dict[str, object], code: str) -> None:
    with pytest.raises(ProviderError) as raised:
        gee.fetch(plan(**changes))
    assert (raised.value.code, raised.value.retryable) == (code, False)


def test_no_imagery(gee: GeeProvider) -> None:
    with pytest.raises(NoImagery):
        gee.fetch(plan(frames=(Period(dt.date(1990, 1, 1), dt.date(1990, 2, 1)),)))


def test_stac_shows_the_same_place(gee: GeeProvider) -> None:
    """Baselines, versions and masks differ: fields are alike, not equal."""
    there = gee.fetch(plan())
    here = StacProvider(StacSettings(preset="planetary-computer", at_once=8)).fetch(plan())
    check_fields(here)
    assert np.median(np.abs(there.data - here.data)) < 300
    for ours, theirs in zip(here.data[0], there.data[0], strict=True):
        assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.8
