"""The provider on a static catalogue, against a separate NumPy computation, bit for bit."""

from __future__ import annotations

import datetime as dt
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from rs_embed_core.chip import FetchPlan, Period
from rs_embed_core.errors import NoImagery
from rs_embed_core.providers.calls import Asking, Tally
from rs_embed_core.providers.gate import Gate, Quota
from rs_embed_core.providers.stac import StacProvider, StacSettings
from rs_embed_core.providers.stac.catalogue import StaticCatalogue
from rs_embed_core.providers.stac.faults import judge
from rs_embed_core.providers.stac.frames import Drawing
from rs_embed_core.providers.stac.item import Reading
from rs_embed_core.providers.stac.reader import Reader
from tests.unit.stac.rule import BANDS, JULY, JUNE, MAY, S2, expected, read, sampled, scenes_of
from tests.unit.stac.written import NAMES, PLACE, SCENES, Scene, around, write

# --- equal to the rule -------------------------------------------------------------------------------------


GRIDS = {
    "middle": around(),
    "wide": around(pixels=40, width=131),
    "coarse": around(pixels=60, scale_m=30.0),
    "fine": around(pixels=50, scale_m=3.0),
    "odd scale": around(pixels=33, scale_m=4.77731),
    "one pixel": around(pixels=1),
    "corner": around((PLACE[0] - 0.03, PLACE[1] + 0.02), pixels=90),
}


@pytest.mark.parametrize("composite", ["median", "mosaic"])
@pytest.mark.parametrize("place", GRIDS)
def test_equal_to_numpy(provider, place, composite):
    grid = GRIDS[place]
    chip = read(provider, grid, composite=composite)
    image, valid = expected(scenes_of(JUNE, 30), grid, composite=composite)
    assert np.array_equal(chip.data[0], image)
    assert np.array_equal(np.ones_like(valid) if chip.valid is None else chip.valid[0], valid)


def test_frames_and_their_scenes(provider):
    grid = GRIDS["middle"]
    chip = read(provider, grid, MAY, JUNE, JULY, fill_value=-1.0)
    assert chip.empty_frames == (0,)
    assert (chip.data[0] == -1.0).all()
    assert not chip.valid[0].any()
    for frame, period in ((1, JUNE), (2, JULY)):
        scenes = scenes_of(period, 30)
        image, valid = expected(scenes, grid, fill=-1.0)
        assert np.array_equal(chip.data[frame], image)
        assert np.array_equal(chip.valid[frame], valid)
        assert [seen.id for seen in chip.acquisitions if seen.frame == frame] == [scene.id for scene in scenes]
    assert chip.acquisitions[0].time == "2022-06-01T10:10:31Z"


@pytest.mark.parametrize(
    ("cloudy_pct", "numbers"), [(30, [1, 2, 4, 6, 7]), (29, [1, 2, 6, 7]), (None, [1, 2, 4, 5, 6, 7])]
)
def test_the_cloud_filter_is_inclusive(provider, cloudy_pct, numbers):
    scenes = scenes_of(JUNE, cloudy_pct)
    assert [scene.number for scene in scenes] == numbers
    chip = read(provider, around(), cloudy_pct=cloudy_pct)
    assert [seen.id for seen in chip.acquisitions] == [scene.id for scene in scenes]


def test_days_are_half_open(provider):
    one_day = Period(dt.date(2022, 6, 30), dt.date(2022, 7, 1))
    assert [seen.time for seen in read(provider, around(), one_day).acquisitions] == ["2022-06-30T23:59:59Z"]


def test_a_scene_counts_if_its_footprint_meets_the_region(provider):
    """Scene 11 is seen only in a strip at the tile's west."""
    september = Period(dt.date(2022, 9, 1), dt.date(2022, 9, 2))
    with pytest.raises(NoImagery, match="2022-09-01"):
        read(provider, around(), september)
    strip = around((PLACE[0] - 0.0318, PLACE[1]), pixels=30)
    chip = read(provider, strip, september)
    image, valid = expected(scenes_of(september, 30, passing=()), strip)
    assert 0 < valid.mean() < 1
    assert np.array_equal(chip.data[0], image)


def test_fill_is_per_band_and_valid_needs_any_band(provider):
    only = Period(dt.date(2022, 7, 1), dt.date(2022, 7, 2))
    chip = read(provider, around(), only, fill_value=7.0)
    image, valid = expected([SCENES[7]], around(), fill=7.0)
    assert np.array_equal(chip.data[0], image)
    assert np.array_equal(np.ones_like(valid) if chip.valid is None else chip.valid[0], valid)
    assert (image[:, valid] == 7.0).any()


def test_values_below_the_offset_end_at_zero_and_stay_valid(provider):
    only = Period(dt.date(2022, 7, 1), dt.date(2022, 7, 2))
    chip = read(provider, around(), only, bands=("B2",))
    dark = sampled(SCENES[7], "B2", around()) == 0.0
    assert dark.any()
    assert (chip.data[0, 0][dark] == 0.0).all()
    assert chip.valid[0][dark].all()


@pytest.mark.parametrize("most_values", [1, 5 * 10 * 3, 5 * 10 * 10 * 2, 2**26])
def test_strips_and_groups_change_nothing(catalogue, most_values):
    reading = Reading(NAMES["planetary-computer"], "baseline")
    asking = Asking(judge, Gate(Quota(), name="files"), Tally())
    items = StaticCatalogue(str(catalogue), "sentinel-2-l2a", reading).search(
        (11.9, 48.0, 12.1, 48.2), JUNE, 30, asking
    )
    plan = FetchPlan(S2, BANDS, around(pixels=10), (JUNE, MAY))
    with ThreadPoolExecutor(2) as threads:
        drawing = Drawing(Reader(), threads, asking, most_values=most_values)
        data, valid = drawing.frames(plan, BANDS, [items, []])
    image, seen = expected(scenes_of(JUNE, 30, passing=()), around(pixels=10))
    assert np.array_equal(data, [image, np.zeros_like(image)])
    assert np.array_equal(valid, [seen, np.zeros_like(seen)])


# --- names, classes, clouds --------------------------------------------------------------------------------


def test_aliases_and_order_of_bands(provider):
    chip = read(provider, around(), bands=("SWIR1", "BLUE", "B8"))
    assert chip.bands == ("SWIR1", "BLUE", "B8")
    assert np.array_equal(chip.data[0], expected(scenes_of(JUNE, 30), around(), ("B11", "B2", "B8"))[0])


def test_classes_keep_their_numbers(provider):
    chip = read(provider, around(), bands=("SCL",), composite="mosaic")
    assert np.array_equal(chip.data[0], expected(scenes_of(JUNE, 30), around(), ("SCL",), "mosaic")[0])


def test_clouds_are_masked_on_request(catalogue):
    masking = StacProvider(StacSettings(preset="planetary-computer", path=str(catalogue), mask_clouds=True))
    grid = around()
    chip = read(masking, grid, bands=("B2",))
    stack = []
    for scene in scenes_of(JUNE, 30):
        classes = np.nan_to_num(sampled(scene, "SCL", grid, offset=False))
        stack.append(np.where(np.isin(classes, [2, 4, 5, 6, 7, 11]), sampled(scene, "B2", grid), np.nan))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        image = np.nanmedian(np.stack(stack), axis=0)
    assert np.array_equal(chip.data[0, 0], np.nan_to_num(image).astype(np.float32))
    assert np.array_equal(chip.valid[0], ~np.isnan(image))
    assert dict(chip.facts)["clouds_masked"] is True


def test_collection_1_always_carries_the_offset(tmp_path):
    scene = Scene(20, 32, "2022-06-05T10:10:31Z", 0.0, baseline="05.00")
    catalogue = write(tmp_path, "earth-search", (scene,))
    chip = read(StacProvider(StacSettings(path=str(catalogue))), around())
    assert np.array_equal(chip.data[0], expected([scene], around())[0])
    assert dict(chip.facts)["offset_rule"] == "always"


def test_fewer_scenes_on_request(catalogue):
    few = StacProvider(StacSettings(preset="planetary-computer", path=str(catalogue), max_scenes=2))
    chip = read(few, around())
    assert [seen.id for seen in chip.acquisitions] == [SCENES[5].id, SCENES[6].id]  # 0 and 1 % cloud
    assert np.array_equal(chip.data[0], expected([SCENES[5], SCENES[6]], around())[0])
    assert dict(chip.facts)["stac_items_left_out"] == 3


def test_facts_say_what_was_read(provider, catalogue):
    facts = dict(read(provider, around()).facts)
    assert facts["stac_collection"] == "sentinel-2-l2a"
    assert facts["stac_catalogue"] == str(catalogue)
    assert facts["stac_items"] == 5
    assert facts["offset_rule"] == "baseline"
    assert facts["clouds_masked"] is False
    assert facts["requests"] == 5 * len(BANDS)  # the catalogue itself was read before
    assert facts["retries"] == 0
    assert facts["bytes"] > 0


def test_one_file_of_items_gives_the_same(provider, catalogue):
    one_file = StacProvider(StacSettings(preset="planetary-computer", path=str(catalogue.parent / "items.json")))
    assert np.array_equal(read(one_file, around()).data, read(provider, around()).data)
