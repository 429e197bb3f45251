"""The stand-in for MODIS radiances, against golden/satvision/spec.md."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import numpy as np
import pytest

from rs_embed_core.chip import Chip, FetchPlan, Period
from rs_embed_core.errors import ProviderError
from rs_embed_core.providers.proxies import combine, parts_of
from tests.emulator.control import Emulator
from tests.emulator.small import MODIS, MODIS_LST
from tests.unit.gee.emulated import provider
from tests.unit.gee.plans import around, expected

_BANDS = ("1", "2", "3", "26", "6", "20", "7", "27", "28", "29", "31", "32", "33", "34")
_JUNE = Period(dt.date(2022, 6, 1), dt.date(2022, 6, 6))
_PLAN = FetchPlan("MODIS/061/MOD021KM", _BANDS, around(10_000, 1000), (_JUNE,), "mosaic", cloudy_pct=100)
_COLOURS = {"1": 1, "2": 2, "3": 3, "26": 4, "6": 6, "7": 7}
_KELVIN = {
    "20": (223.1222, 352.7182),
    "27": (178.9174, 261.2920),
    "28": (204.3739, 282.5529),
    "29": (204.7677, 319.0373),
    "31": (194.8686, 295.0209),
    "32": (202.1759, 324.0677),
    "33": (201.3823, 321.5254),
    "34": (203.3537, 285.9848),
}


def test_a_chip_of_the_proxy_equals_plain_numpy(service: Emulator) -> None:
    chip = provider().fetch(_PLAN)
    colours = replace(_PLAN, collection=MODIS, bands=tuple(f"sur_refl_b0{i}" for i in _COLOURS.values()))
    reflectance = dict(zip(_COLOURS, expected(colours)[0], strict=True))
    heat = expected(replace(_PLAN, collection=MODIS_LST, bands=("LST_1KM",)))[0, 0] * 0.02
    for band, plane in zip(chip.bands, chip.data[0], strict=True):
        if band in _COLOURS:
            wanted = np.clip(reflectance[band] / 10_000, 0, 1)
        else:
            low, high = _KELVIN[band]
            wanted = np.clip((heat - low) / (high - low), 0, 1)
        np.testing.assert_allclose(plane, np.nan_to_num(wanted), rtol=0, atol=1e-6)
    assert dict(chip.facts)["proxy"] == f"{MODIS} + {MODIS_LST}"
    assert dict(chip.facts)["already_unit_scaled"] is True
    assert dict(chip.facts)["requests"] == 4


def test_a_plan_of_another_collection_has_no_parts() -> None:
    assert parts_of(replace(_PLAN, collection=MODIS)) == ()


def test_only_what_is_wanted_is_read() -> None:
    assert [part.bands for part in parts_of(replace(_PLAN, bands=("2", "26")))] == [("sur_refl_b02", "sur_refl_b04")]
    assert [part.collection for part in parts_of(replace(_PLAN, bands=("31",)))] == [MODIS_LST]


def test_an_unknown_band() -> None:
    with pytest.raises(ProviderError, match="'8'") as caught:
        parts_of(replace(_PLAN, bands=("1", "8")))
    assert caught.value.code == "unknown_band"


def _part(band: str, *values: float) -> Chip:
    """A row of pixels, NaN where there is none."""
    grid = replace(_PLAN.grid, height=1, width=len(values))
    data = np.array(values, np.float32).reshape(1, 1, 1, -1)
    valid = np.isfinite(data[:, 0])
    return Chip(data, grid, (band,), _PLAN.frames, "gee", "PART", None if valid.all() else valid)


@pytest.mark.parametrize(("stored", "kelvin"), [(300.0, 300.0), (15_000.0, 300.0), (1000.0, 1000.0)])
def test_numbers_above_1000_are_steps_of_a_fiftieth_kelvin(stored: float, kelvin: float) -> None:
    chip = _part("LST_1KM", stored)
    made = combine(replace(_PLAN, bands=("20",), grid=chip.grid), [chip])
    low, high = _KELVIN["20"]
    assert made.data.item() == pytest.approx(min(1.0, (kelvin - low) / (high - low)), abs=1e-6)


def test_what_one_part_lacks_is_filled_and_what_both_lack_is_not_valid() -> None:
    colour, heat = _part("sur_refl_b01", 5000.0, 5000.0, np.nan), _part("LST_1KM", 400.0, np.nan, np.nan)
    made = combine(replace(_PLAN, bands=("1", "20"), grid=colour.grid, fill_value=-1.0), [colour, heat])
    assert made.data[0, :, 0].tolist() == [[0.5, 0.5, -1.0], [1.0, -1.0, -1.0]]
    assert made.valid is not None
    assert made.valid.tolist() == [[[True, True, False]]]


def test_no_mask_where_one_part_has_every_pixel() -> None:
    colour, heat = _part("sur_refl_b01", 5000.0, 5000.0), _part("LST_1KM", 400.0, np.nan)
    assert combine(replace(_PLAN, bands=("1", "20"), grid=colour.grid), [colour, heat]).valid is None


def test_no_imagery_of_either_is_none(service: Emulator) -> None:
    with pytest.raises(ProviderError, match=f"no images found: {MODIS}"):
        provider().fetch(replace(_PLAN, frames=(Period(dt.date(2021, 1, 1), dt.date(2021, 2, 1)),)))
