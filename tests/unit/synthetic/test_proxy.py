"""Synthetic imagery stands in for MODIS radiances in the same way as Earth Engine's."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import numpy as np
import pytest

from rs_embed_core.chip import FetchPlan, Period
from rs_embed_core.errors import NoImagery, ProviderError
from rs_embed_core.geo import Grid
from rs_embed_core.models.satvision import CARD
from rs_embed_core.providers.synthetic.provider import SyntheticProvider

_GRID = Grid("EPSG:3857", (1000.0, 0.0, 940_000.0, 0.0, -1000.0, 6_000_000.0), 20, 24)
_SUMMER = Period(dt.date(2022, 6, 1), dt.date(2022, 9, 1))
_BANDS = CARD.inputs[0].bands
_PLAN = FetchPlan("MODIS/061/MOD021KM", _BANDS, _GRID, (_SUMMER,), "mosaic", cloudy_pct=100)


def test_the_channels_are_reflectance_and_one_temperature() -> None:
    provider = SyntheticProvider()
    chip = provider.fetch(_PLAN)
    assert (chip.bands, chip.collection, chip.provider) == (_BANDS, _PLAN.collection, "synthetic")
    assert dict(chip.facts)["already_unit_scaled"] is True
    assert 0 <= chip.data.min() < chip.data.max() <= 1
    red = provider.fetch(replace(_PLAN, collection="MODIS/061/MOD09GA", bands=("sur_refl_b01",))).data
    kelvin = 0.02 * provider.fetch(replace(_PLAN, collection="MODIS/061/MOD21A1D", bands=("LST_1KM",))).data
    np.testing.assert_allclose(chip.data[:, 0], red[:, 0] / 10_000, rtol=1e-6)
    warm = np.clip((kelvin[:, 0] - 223.1222) / (352.7182 - 223.1222), 0, 1)
    np.testing.assert_allclose(chip.data[:, _BANDS.index("20")], warm, rtol=1e-5)


def test_what_the_stand_in_does_not_have_is_refused() -> None:
    with pytest.raises(ProviderError, match="'8'"):
        SyntheticProvider().fetch(replace(_PLAN, bands=("8",)))
    early = Period(dt.date(1990, 1, 1), dt.date(1990, 2, 1))
    with pytest.raises(NoImagery):
        SyntheticProvider().fetch(replace(_PLAN, frames=(early,)))
