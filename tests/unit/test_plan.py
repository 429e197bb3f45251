from __future__ import annotations

import datetime as dt
import pickle
from dataclasses import replace

import pytest

from rs_embed_core import BBox, FetchSpec, PointBuffer, SensorSpec, TemporalSpec
from rs_embed_core.chip import FetchPlan, Period
from rs_embed_core.errors import InvalidInput, InvalidRequest, RoiTooLarge, UnknownOption, Unsupported
from rs_embed_core.geo import FULL_INSET, Grid
from rs_embed_core.plan import MAX_CHIP_VALUES, Plan, plan, recipe
from rs_embed_core.registry import get_card, register_model
from rs_embed_core.specs.request import Ask, OptionValue

PLACE = PointBuffer(11.5, 48.1, 1280)
SUMMER = TemporalSpec.range("2022-06-01", "2022-09-01")
S2 = "COPERNICUS/S2_SR_HARMONIZED"


def planned(model: str = "mosaiks", spatial: PointBuffer | BBox = PLACE, **ask: object) -> Plan:
    return plan(Ask(model, **{"temporal": SUMMER, **ask}).at(spatial))


def options(**values: OptionValue) -> dict[str, object]:
    return {"model_config": tuple(values.items())}


def test_a_plan_by_hand():
    out = planned()
    assert out.selection.encoder == "mosaiks-gaussian"
    assert out.window == Period(dt.date(2022, 6, 1), dt.date(2022, 9, 1))
    assert out.roi == FULL_INSET
    assert out.spatial == PLACE
    assert out.notices == ()
    assert out.centre == pytest.approx((11.5, 48.1))
    read = out.fetch
    assert read.collection == S2
    assert read.bands == ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12")
    assert (read.grid.height, read.grid.width, read.grid.transform[0]) == (257, 257, 10)
    assert read.frames == (out.window,)
    assert (read.composite, read.cloudy_pct, read.fill_value) == ("median", 30, 0)
    assert read.pixels == 257 * 257 * 10


def test_without_a_window_the_default_is_used_and_said():
    out = planned(temporal=None)
    assert out.window == Period(dt.date(2022, 6, 1), dt.date(2022, 9, 1))
    assert [notice.code for notice in out.notices] == ["default_window"]
    assert "2022-06-01 to 2022-09-01" in out.notices[0].text
    assert out.fetch == planned().fetch


def test_a_year_is_a_window():
    assert planned(temporal=TemporalSpec.year(2021)).window == Period(dt.date(2021, 1, 1), dt.date(2022, 1, 1))


def test_a_rectangle_reads_its_square():
    out = planned(spatial=BBox(11.5, 48.1, 11.516, 48.105))
    assert out.roi == (0.266023, 0.733977, 0.0, 1.0)
    assert abs(out.fetch.grid.height - out.fetch.grid.width) <= 1
    assert out.centre == pytest.approx((11.508, 48.1025), abs=1e-6)


@pytest.mark.parametrize(
    ("config", "days"),
    [
        ({}, [23, 23, 23, 23]),
        ({"temporal_mode": "single"}, [92]),
        ({"n_frames": 3}, [30, 31, 31]),
        ({"n_frames": 24}, [3, 4, 4, 4, 4, 4] * 4),  # bounds 92 i // 24
    ],
)
def test_frames_of_a_series(config, days):
    assert [frame.days for frame in planned("galileo", **options(**config)).fetch.frames] == days


def test_a_read_names_no_model_so_models_share_it():
    mosaiks, galileo = planned("mosaiks").fetch, planned("galileo", **options(temporal_mode="single")).fetch
    assert mosaiks == galileo
    assert hash(mosaiks) == hash(galileo)
    assert mosaiks.key == galileo.key


def test_every_part_of_a_read_is_in_its_key():
    read = planned().fetch
    day = dt.timedelta(1)
    changes: dict[str, object] = {
        "collection": "COPERNICUS/S2_HARMONIZED",
        "bands": read.bands[::-1],
        "grid": replace(read.grid, height=256),
        "frames": (Period(read.frames[0].start, read.frames[0].end + day),),
        "composite": "mosaic",
        "cloudy_pct": None,
        "fill_value": -1.0,
        "orbit": "ASCENDING",
        "linear": False,
        "require_iw": False,
        "relax_iw": False,
        "scenes": False,
    }
    assert changes.keys() == FetchPlan.__dataclass_fields__.keys()
    keys = [replace(read, **{name: value}).key for name, value in changes.items()]
    assert len({read.key, *keys}) == 1 + len(changes)
    assert pickle.loads(pickle.dumps(read)).key == read.key  # noqa: S301 - our own bytes


@pytest.mark.parametrize("fetch", [FetchSpec(), FetchSpec(scale_m=10, fill_value=0), FetchSpec(cloudy_pct=30)])
def test_equal_reads_have_equal_keys(fetch):
    assert planned(fetch=fetch).fetch == planned().fetch
    assert planned(fetch=fetch).fetch.key == planned().fetch.key


def test_fetch_changes_the_imagery_lightly():
    read = planned(fetch=FetchSpec(scale_m=20, cloudy_pct=0, fill_value=-1, composite="mosaic")).fetch
    assert (read.cloudy_pct, read.fill_value, read.composite) == (0, -1, "mosaic")
    assert (read.grid.height, read.grid.transform[0]) == (129, 20)
    assert read.bands == planned().fetch.bands


def test_sensor_replaces_the_imagery():
    sensor = SensorSpec(
        "COPERNICUS/S1_GRD", ("VV", "VH"), 20, None, -50, "mosaic", None, "ASCENDING", False, False, False
    )
    read = planned(sensor=sensor).fetch
    assert (read.collection, read.bands, read.cloudy_pct, read.fill_value) == (
        "COPERNICUS/S1_GRD",
        ("VV", "VH"),
        None,
        -50,
    )
    assert (read.composite, read.orbit, read.linear, read.require_iw, read.relax_iw) == (
        "mosaic", "ASCENDING", False, False, False,
    )  # fmt: skip
    assert read.grid.transform[0] == 20


def test_bands_that_the_network_cannot_take_are_refused_before_anything_is_read():
    with pytest.raises(InvalidInput, match="exactly B4, B3, B2"):
        planned("remoteclip", sensor=SensorSpec(S2, ("B2", "B3", "B4")))
    with pytest.raises(InvalidInput, match="no band B8A"):
        planned("dofa", sensor=SensorSpec(S2, ("B2", "B8A")))
    assert planned("dofa", sensor=SensorSpec(S2, ("B12", "B2"))).fetch.bands == ("B12", "B2")
    assert planned("mosaiks", sensor=SensorSpec("ANY", ("X",))).fetch.bands == ("X",)


def test_too_many_values_are_refused_with_the_limit():
    with pytest.raises(RoiTooLarge, match=str(MAX_CHIP_VALUES)) as caught:
        planned(spatial=PointBuffer(11.5, 48.1, 30_000))
    assert caught.value.context == {"values": 360_000_000, "limit": MAX_CHIP_VALUES}
    assert planned(spatial=PointBuffer(11.5, 48.1, 20_000)).fetch.pixels < MAX_CHIP_VALUES
    assert planned(spatial=PointBuffer(11.5, 48.1, 30_000), fetch=FetchSpec(scale_m=20)).fetch.pixels > 0
    with pytest.raises(RoiTooLarge, match="4 frames"):
        planned("galileo", spatial=PointBuffer(11.5, 48.1, 20_000))


def test_a_place_beyond_the_projection_is_refused():
    with pytest.raises(InvalidRequest, match="EPSG:3857"):
        planned(spatial=BBox(0, 86, 1, 88))


def test_the_caller_s_own_grid_has_a_centre_too():
    own = planned()
    grid = Grid("EPSG:4326", (0.1, 0, 11, 0, -0.1, 48), 10, 20)
    assert replace(own, spatial=None, fetch=replace(own.fetch, grid=grid)).centre == pytest.approx((12, 47.5))
    nowhere = replace(grid, crs="")
    assert replace(own, spatial=None, fetch=replace(own.fetch, grid=nowhere)).centre is None


def test_plans_are_small_values():
    out = planned("galileo", temporal=None, **options(n_frames=3))
    assert pickle.loads(pickle.dumps(out)) == out  # noqa: S301 - our own bytes
    assert hash(out) == hash(planned("galileo", temporal=None, **options(n_frames=3)))
    assert len(pickle.dumps(out)) < 4000


def test_a_recipe_is_remembered_until_a_card_changes():
    ask = Ask("mosaiks")
    before = recipe(ask)
    assert recipe(Ask("mosaiks")) is before
    card, _ = get_card("mosaiks")
    try:
        register_model(replace(card, title="Another"))
        assert recipe(ask).card.title == "Another"
    finally:
        register_model(card)
    assert recipe(ask).card is card


def test_an_alias_may_imply_a_modality():
    card, alias = get_card("remoteclip_s2rgb")
    assert recipe(Ask("remoteclip_s2rgb")).card is card
    rgb_only = replace(alias, modality="rgb", variant="rn50")
    assert card.select(Ask("remoteclip"), rgb_only).variant == "rn50"
    with pytest.raises(Unsupported, match="stands for variant rn50"):
        card.select(Ask("remoteclip", model_config=(("variant", "vit_b_32"),)), rgb_only)


@pytest.mark.parametrize("asked", [None, "s1", "sentinel-1"])
@pytest.mark.parametrize("said", ["s1", "S1", "sentinel1"])
def test_a_sensor_may_say_the_modality(asked, said):
    sensor = SensorSpec("COPERNICUS/S1_GRD", ("VV", "VH"), modality=said)
    assert recipe(Ask("croma", sensor=sensor, modality=asked)).selection.modality == "s1"


def test_a_sensor_of_another_modality_is_refused():
    sensor = SensorSpec("COPERNICUS/S1_GRD", ("VV", "VH"), modality="s1")
    with pytest.raises(InvalidRequest, match=r"'s2'.*'s1'"):
        recipe(Ask("croma", sensor=sensor, modality="s2"))
    with pytest.raises(UnknownOption, match="no modality 's1'"):
        recipe(Ask("mosaiks", sensor=sensor))


@pytest.mark.parametrize("scale_m", [10, 20, 240])
def test_a_scale_that_makes_whole_patches_is_read(scale_m):
    assert planned("anysat", fetch=FetchSpec(scale_m=scale_m)).fetch.grid.pixel_m == scale_m


@pytest.mark.parametrize("scale_m", [15, 50, 250])
def test_a_scale_that_the_network_cannot_take_is_refused(scale_m):
    with pytest.raises(InvalidInput, match=f"anysat cannot read pixels of {scale_m} m") as caught:
        planned("anysat", fetch=FetchSpec(scale_m=scale_m))
    assert "one of 10, 20, 30" in str(caught.value.hint)
