"""The provider on a static catalogue, against a separate NumPy computation, bit for bit."""

from __future__ import annotations

import datetime as dt
import json
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from pyproj import Transformer

from rs_embed_core.chip import FetchPlan, Period
from rs_embed_core.errors import NoImagery, ProviderError
from rs_embed_core.geo import Grid
from rs_embed_core.providers.base import Provider
from rs_embed_core.providers.calls import Asking, Tally
from rs_embed_core.providers.gate import Gate, Quota
from rs_embed_core.providers.stac import StacProvider, StacSettings
from rs_embed_core.providers.stac.catalogue import StaticCatalogue
from rs_embed_core.providers.stac.faults import judge
from rs_embed_core.providers.stac.frames import Drawing
from rs_embed_core.providers.stac.item import Reading
from rs_embed_core.providers.stac.reader import Reader
from tests.unit.stac_catalogue import NAMES, OLD_VERSION, PIXEL_M, PLACE, SCENES, Scene, around, write

S2 = "COPERNICUS/S2_SR_HARMONIZED"
BANDS = ("B2", "B5", "B1", "B8", "B11", "B3")
JUNE = Period(dt.date(2022, 6, 1), dt.date(2022, 7, 1))
JULY = Period(dt.date(2022, 7, 1), dt.date(2022, 8, 1))
MAY = Period(dt.date(2022, 5, 1), dt.date(2022, 6, 1))


@pytest.fixture(scope="session")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("stac"))


@pytest.fixture(scope="session")
def provider(catalogue: Path) -> StacProvider:
    return StacProvider(StacSettings(preset="planetary-computer", path=str(catalogue)))


def scenes_of(period: Period, cloudy_pct: int | None, *, passing: tuple[int, ...] = (11,)) -> list[Scene]:
    """What Earth Engine's filters leave, by hand; ``passing`` are scenes that do not meet the region."""
    days = (period.start.isoformat(), period.end.isoformat())
    return [
        scene
        for scene in SCENES
        if days[0] <= scene.time[:10] < days[1]
        and scene.number not in (OLD_VERSION, *passing)
        and (cloudy_pct is None or scene.cloud is None or scene.cloud <= cloudy_pct)
    ]


def sampled(scene: Scene, band: str, grid: Grid, *, offset: bool = True) -> np.ndarray:
    """A scene on a grid, NaN where it has nothing: every centre projected by itself, nearest pixel."""
    a, _, c, _, e, f = grid.transform
    rows, columns = np.mgrid[: grid.height, : grid.width]
    to_file = Transformer.from_crs("EPSG:3857", scene.crs, always_xy=True)
    x, y = to_file.transform(c + a * (columns + 0.5), f + e * (rows + 0.5))
    west, north = scene.corner
    column = np.floor((x - west) / PIXEL_M[band]).astype(int)
    row = np.floor((north - y) / PIXEL_M[band]).astype(int)
    side = len(scene.bands[band])
    inside = (column >= 0) & (column < side) & (row >= 0) & (row < side)
    dn = np.where(inside, scene.bands[band][row.clip(0, side - 1), column.clip(0, side - 1)], 0).astype(float)
    lowered = np.maximum(dn - (1000 if offset and scene.baseline >= "04.00" else 0), 0)
    return np.where(dn == 0, np.nan, lowered)


def expected(
    scenes: list[Scene], grid: Grid, bands: tuple[str, ...] = BANDS, composite: str = "median", fill: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """``[C, H, W]`` and where all bands are there."""
    images = []
    for band in bands:
        stack = np.stack([sampled(scene, band, grid, offset=band != "SCL") for scene in scenes])
        if composite == "median":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # pixels with no scene at all
                images.append(np.nanmedian(stack, axis=0))
        else:
            image = np.full(stack.shape[1:], np.nan)
            for plane in stack:
                image = np.where(np.isnan(plane), image, plane)
            images.append(image)
    image = np.stack(images)
    valid = ~np.isnan(image).all(axis=0)
    return np.where(np.isnan(image), fill, image).astype(np.float32), valid


def read(provider: Provider, grid: Grid, *periods: Period, bands: tuple[str, ...] = BANDS, **plan: object):
    return provider.fetch(FetchPlan(S2, bands, grid, periods or (JUNE,), **plan))


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


# --- what cannot be read -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("collection", "words"),
    [
        ("COPERNICUS/S1_GRD_FLOAT", "terrain"),
        ("COPERNICUS/S2_HARMONIZED", "gee"),
        ("LANDSAT/LC08/C02/T1_L2", S2),
        ("MODIS/061/MOD09GA", S2),
    ],
)
def test_other_collections_are_refused(provider, collection, words):
    with pytest.raises(ProviderError, match=collection) as caught:
        provider.fetch(FetchPlan(collection, ("B2",), around(), (JUNE,)))
    assert caught.value.code == "unsupported_collection"
    assert words in caught.value.hint
    assert not caught.value.retryable


def test_unknown_bands_are_refused(provider):
    with pytest.raises(ProviderError, match="B10") as caught:
        read(provider, around(), bands=("B2", "B10"))
    assert (caught.value.code, caught.value.retryable) == ("unknown_band", False)


@pytest.mark.parametrize("place", [(13.5, 48.1), (-170.0, -48.1), (12.0, 85.0)])
def test_no_imagery_elsewhere(provider, place):
    with pytest.raises(NoImagery, match="sentinel-2-l2a") as caught:
        read(provider, around(place))
    assert not caught.value.retryable


def test_other_grids_are_refused(provider):
    utm = Grid("EPSG:32632", (10.0, 0.0, 720_000.0, 0.0, -10.0, 5_335_000.0), 9, 9)
    with pytest.raises(ProviderError, match="EPSG:32632") as caught:
        read(provider, utm)
    assert (caught.value.code, caught.value.retryable) == ("unsupported_grid", False)


def test_the_last_pixel_may_cross_the_antimeridian(provider):
    edge = Grid("EPSG:3857", (10.0, 0.0, 20_037_500.0, 0.0, -10.0, 0.0), 1, 1)
    with pytest.raises(NoImagery):
        read(provider, edge)


def test_a_catalogue_of_another_collection(catalogue):
    other = StacProvider(StacSettings(path=str(catalogue)))
    with pytest.raises(ProviderError, match="sentinel-2-c1-l2a") as caught:
        read(other, around())
    assert caught.value.code == "unknown_collection"
    assert "sentinel-2-l2a" in caught.value.hint


def test_missing_and_damaged_files(tmp_path):
    catalogue = write(tmp_path, scenes=SCENES[:1])
    provider = StacProvider(StacSettings(preset="planetary-computer", path=str(catalogue)))
    (tmp_path / SCENES[0].id / "B2.tif").unlink()
    with pytest.raises(ProviderError, match=r"B2\.tif does not exist") as caught:
        read(provider, around())
    assert (caught.value.code, caught.value.retryable) == ("bad_file", False)
    file = tmp_path / SCENES[0].id / "B3.tif"
    file.write_bytes(file.read_bytes()[:20_000])
    with pytest.raises(ProviderError, match=r"B3\.tif is damaged"):
        read(provider, around(), bands=("B3",))


def _edited(tmp_path: Path, **properties: object) -> StacProvider:
    """A catalogue of one scene whose properties were changed; None takes one away."""
    write(tmp_path, scenes=SCENES[:1])
    items = json.loads((tmp_path / "items.json").read_text())
    for name, value in properties.items():
        items["features"][0]["properties"][name.replace("__", ":")] = value
    (tmp_path / "items.json").write_text(json.dumps(items))
    return StacProvider(StacSettings(preset="planetary-computer", path=str(tmp_path / "items.json")))


@pytest.mark.parametrize(
    "properties", [{"datetime": "yesterday"}, {"s2__processing_baseline": None}, {"eo__cloud_cover": "much"}]
)
def test_items_that_cannot_be_read(tmp_path, properties):
    with pytest.raises(ProviderError, match="STAC item") as caught:
        read(_edited(tmp_path, **properties), around())
    assert (caught.value.code, caught.value.retryable) == ("bad_item", False)


def _moved(tmp_path: Path, metres: float) -> StacProvider:
    """A catalogue of one scene that says that every file lies further east than it does."""
    write(tmp_path, scenes=SCENES[:1])
    items = json.loads((tmp_path / "items.json").read_text())
    for asset in items["features"][0]["assets"].values():
        asset["proj:transform"][2] += metres
    (tmp_path / "items.json").write_text(json.dumps(items))
    return StacProvider(StacSettings(preset="planetary-computer", path=str(tmp_path / "items.json")))


def test_the_header_has_the_last_word(tmp_path):
    provider = _moved(tmp_path, 60.0)
    assert np.array_equal(read(provider, around()).data[0], expected(list(SCENES[:1]), around())[0])


def test_a_file_that_does_not_reach_is_not_opened(tmp_path):
    chip = read(_moved(tmp_path, 6_000.0), around())
    assert not chip.valid.any()
    assert chip.empty_frames == ()  # there is a scene; it shows nothing here
    assert dict(chip.facts)["requests"] == 1  # the catalogue


def test_a_catalogue_that_is_none(tmp_path):
    (tmp_path / "x.json").write_text("[1, 2]")
    for path, words in ((tmp_path / "x.json", "not a JSON object"), (tmp_path / "y.json", "No such file")):
        provider = StacProvider(StacSettings(path=str(path)))
        with pytest.raises(ProviderError, match=words) as caught:
            read(provider, around())
        assert caught.value.code == "bad_file"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"preset": "nasa"}, "earth-search"),
        ({"url": "https://a.example", "path": "b.json"}, "static"),
        ({"collection": "sentinel-2-l2a"}, "flag"),
        ({"at_once": 0}, "at least 1"),
        ({"max_scenes": 0}, "at least 1"),
        ({"timeout_s": 0.0}, "above 0"),
    ],
)
def test_settings_are_checked(settings, words):
    with pytest.raises(ProviderError, match="stac settings") as caught:
        StacSettings(**settings)
    assert (caught.value.code, caught.value.retryable) == ("invalid_settings", False)
    assert words in caught.value.hint
