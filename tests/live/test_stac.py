"""The public STAC catalogues: ``RS_EMBED_LIVE_STAC=1 pytest -m live tests/live``; no account is needed."""

from __future__ import annotations

import os

import pytest

from rs_embed_core.providers.stac import StacProvider, StacSettings
from rs_embed_core.providers.stac.presets import PRESETS, PresetName
from tests.live.reads import check, check_fields, count, plan

pytestmark = pytest.mark.skipif(not os.environ.get("RS_EMBED_LIVE_STAC"), reason="RS_EMBED_LIVE_STAC is not set")


@pytest.mark.parametrize("preset", PRESETS)
def test_a_small_read(preset: PresetName) -> None:
    chip = StacProvider(StacSettings(preset=preset, max_scenes=3, at_once=8)).fetch(plan(cloudy_pct=60))
    check(chip, plan())
    check_fields(chip)
    assert 1 <= count(chip, "stac_items") <= 3
    assert dict(chip.facts)["stac_catalogue"] == PRESETS[preset].url


def test_clouds_are_masked_by_class() -> None:
    """Planetary Computer's names of the classes' file, and its values."""
    settings = StacSettings(preset="planetary-computer", mask_clouds=True, max_scenes=3, at_once=8)
    asked = plan(bands=("B4", "B8", "SCL"), composite="mosaic", cloudy_pct=60)
    chip = StacProvider(settings).fetch(asked)
    check(chip, asked)
    classes = chip.data[0, 2] if chip.valid is None else chip.data[0, 2][chip.valid[0]]
    assert set(classes.astype(int).ravel()) <= {2, 4, 5, 6, 7, 11}
