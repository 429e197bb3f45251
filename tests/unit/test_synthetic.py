from __future__ import annotations

import datetime as dt
import hashlib
import re
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rs_embed_core.chip import Chip, FetchPlan, Period
from rs_embed_core.errors import NoImagery, ProviderError
from rs_embed_core.geo import WEB_MERCATOR, Grid, bounds_of, to_mercator
from rs_embed_core.providers.base import Provider
from rs_embed_core.providers.synthetic import SyntheticProvider
from rs_embed_core.specs.spatial import PointBuffer

S2 = "COPERNICUS/S2_SR_HARMONIZED"
L1C = "COPERNICUS/S2_HARMONIZED"
S1 = "COPERNICUS/S1_GRD_FLOAT"
S1_DB = "COPERNICUS/S1_GRD"
LANDSAT8 = "LANDSAT/LC08/C02/T1_L2"
LANDSAT7 = "LANDSAT/LE07/C02/T1_L2"
HLS = "NASA/HLS/HLSL30/v002"
MODIS = "MODIS/061/MOD09GA"
LST = "MODIS/061/MOD21A1D"
S2_BANDS = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B11", "B12")
JULY, JANUARY = (
    Period(dt.date(2022, 7, 1), dt.date(2022, 8, 1)),
    Period(dt.date(2022, 1, 1), dt.date(2022, 2, 1)),
)
SOME_BANDS = {
    S2: ("B2", "B4", "B8", "B12"),
    L1C: ("B1", "B10"),
    S1: ("VV", "VH"),
    S1_DB: ("VH",),
    LANDSAT8: ("SR_B4", "SR_B5"),
    HLS: ("B5",),
    MODIS: ("sur_refl_b02",),
    LST: ("LST_1KM",),
}
BAVARIA = (11.5, 48.2)
PROVIDER = SyntheticProvider()


def lattice(column: int, row: int, height: int, width: int, scale_m: float = 10.0) -> Grid:
    transform = (scale_m, 0.0, column * scale_m, 0.0, -scale_m, -row * scale_m)
    return Grid(WEB_MERCATOR, transform, height, width)


def around(place: tuple[float, float], pixels: int = 65, scale_m: float = 10.0) -> Grid:
    x, y = to_mercator(*place)
    return lattice(round(x / scale_m), round(-y / scale_m), pixels, pixels, scale_m)


def fetch(grid: Grid, *frames: Period, collection: str = S2, bands: tuple[str, ...] | None = None) -> Chip:
    return PROVIDER.fetch(FetchPlan(collection, bands or SOME_BANDS[collection], grid, frames or (JULY,)))


def ndvi(grid: Grid, period: Period) -> np.ndarray:
    red, nir = fetch(grid, period, bands=("B4", "B8")).data[0]
    return (nir - red) / (nir + red)


# --- the same place always gives the same pixels -----------------------------------------------------------


@st.composite
def windows(draw: st.DrawFn) -> tuple[Grid, Grid, tuple[slice, slice]]:
    scale_m = draw(st.sampled_from([3.0, 4.77731, 10.0, 20.0, 30.0, 60.0, 250.0, 1000.0]))
    reach = int(1.9e7 / scale_m)
    column, row = draw(st.integers(-reach, reach)), draw(st.integers(-reach, reach))
    height, width = draw(st.integers(1, 140)), draw(st.integers(1, 140))
    top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    inner = draw(st.integers(1, height - top)), draw(st.integers(1, width - left))
    return (
        lattice(column, row, height, width, scale_m),
        lattice(column + left, row + top, *inner, scale_m),
        (slice(top, top + inner[0]), slice(left, left + inner[1])),
    )


@settings(max_examples=150, deadline=None)
@given(case=windows(), collection=st.sampled_from(sorted(SOME_BANDS)), month=st.integers(1, 12))
def test_a_pixel_does_not_depend_on_the_window(case, collection, month):
    whole, part, inside = case
    period = Period(dt.date(2021, month, 1), dt.date(2021, month, 25))
    expected = fetch(whole, period, collection=collection).data[..., inside[0], inside[1]]
    assert np.array_equal(fetch(part, period, collection=collection).data, expected)


@pytest.mark.parametrize("collection", [S2, S1])
def test_a_pixel_of_a_large_window_is_that_of_a_small_one(collection):
    whole = fetch(lattice(130_000, -610_000, 700, 1300), JANUARY, collection=collection)
    part = fetch(lattice(131_100, -609_500, 65, 65), JANUARY, collection=collection)
    assert np.array_equal(part.data, whole.data[..., 500:565, 1100:1165])


def test_a_pixel_does_not_depend_on_the_other_bands_or_frames():
    grid = around(BAVARIA)
    all_bands = fetch(grid, JANUARY, JULY, bands=S2_BANDS)
    for frame, period in enumerate((JANUARY, JULY)):
        for band in ("B12", "B4"):
            alone = fetch(grid, period, bands=(band,))
            assert np.array_equal(alone.data[0, 0], all_bands.data[frame, S2_BANDS.index(band)])
    assert np.array_equal(
        fetch(grid, collection=S1, bands=("VH", "VV")).data[0], fetch(grid, collection=S1).data[0, ::-1]
    )


@pytest.mark.parametrize(
    ("collection", "digest"),
    [
        (S2, "5b64558350cdb96e"),
        (S1, "9aab7a09e63741d2"),
        (S1_DB, "b48624d1157ae631"),
        (LANDSAT8, "841244711c845b25"),
        (LST, "f15f002b6e1ae2c5"),
    ],
)
def test_imagery_is_the_same_in_every_process_and_on_every_machine(collection, digest):
    # computed once; a change here changes every benchmark and golden picture that uses synthetic imagery
    chip = fetch(around(BAVARIA, 40, 30.0), JANUARY, JULY, collection=collection)
    assert hashlib.blake2b(chip.data.astype("<f4").tobytes(), digest_size=8).hexdigest() == digest


def test_threads_do_not_disturb_each_other():
    grids = [around((8.0 + 0.3 * i, 50.0)) for i in range(24)]
    alone = [fetch(grid, JANUARY, JULY).data for grid in grids]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda grid: fetch(grid, JANUARY, JULY).data, grids))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


@pytest.mark.parametrize("place", [(12_000, -60_000), (30_000, -50_000), (12_345, -65_000)])
@pytest.mark.parametrize("factor", [2, 3, 6])
def test_the_ground_is_the_same_at_every_scale(place, factor):
    column, row = place
    coarse = fetch(lattice(column, row, 200, 200, 10.0 * factor), bands=("B8",)).data[0, 0]
    fine = fetch(lattice(column * factor, row * factor, 200 * factor, 200 * factor), bands=("B8",)).data[0, 0]
    means = [array.reshape(20, side, 20, side).mean(axis=(1, 3)) for array, side in ((coarse, 10), (fine, 10 * factor))]
    assert np.abs(means[0] - means[1]).mean() < 80
    assert np.corrcoef(means[0].ravel(), means[1].ravel())[0, 1] > 0.95


def test_pixels_off_the_lattice_are_those_of_the_nearest():
    on = lattice(1000, -5000, 20, 30)
    off = Grid(WEB_MERCATOR, (10.0, 0.0, 10_003.0, 0.0, -10.0, 49_996.0), 20, 30)
    assert np.array_equal(fetch(off).data, fetch(on).data)


# --- it looks like the Earth -------------------------------------------------------------------------------

PLACES = [(11.5, 48.2), (25.0, 62.5), (-60.2, -12.0), (31.2, 25.5), (-71.0, -38.0), (100.0, 80.0)]
EVERY_BAND = [
    (S2, S2_BANDS, 1, 10_000),
    ("COPERNICUS/S2_SR", S2_BANDS, 1, 10_000),
    (L1C, (*S2_BANDS, "B10"), 1, 10_000),
    ("COPERNICUS/S2", ("B4",), 1, 10_000),
    (LANDSAT8, tuple(f"SR_B{i}" for i in range(1, 8)), 7273, 43_636),  # reflectance 0..1
    ("LANDSAT/LC09/C02/T1_L2", ("SR_B5",), 7273, 43_636),
    (LANDSAT7, ("SR_B1", "SR_B2", "SR_B3", "SR_B4", "SR_B5", "SR_B7"), 7273, 43_636),
    (HLS, tuple(f"B{i}" for i in range(1, 8)), 0.0, 1.0),
    ("NASA/HLS/HLSS30/v002", S2_BANDS, 0.0, 1.0),
    (MODIS, tuple(f"sur_refl_b0{i}" for i in range(1, 8)), 1, 10_000),
    (LST, ("LST_1KM",), 210 / 0.02, 330 / 0.02),
    (S1, ("VV", "VH"), 10**-4.5, 10**0.5),
    (S1_DB, ("VV", "VH"), -45, 5),
]


@pytest.mark.parametrize(("collection", "bands", "low", "high"), EVERY_BAND)
@pytest.mark.parametrize("period", [JULY, JANUARY])
def test_values_are_plausible(collection, bands, low, high, period):
    for place in PLACES:
        chip = fetch(around(place, 100, 60.0), period, collection=collection, bands=bands)
        assert chip.data.dtype == np.float32
        assert chip.data.shape == (1, len(bands), 100, 100)
        assert np.isfinite(chip.data).all()
        assert chip.data.min() >= low
        assert chip.data.max() <= high
        assert chip.valid is None


@pytest.mark.parametrize(
    ("collection", "composite", "step"),
    [
        (S2, "median", 0.5),
        (S2, "mosaic", 1.0),
        (LANDSAT8, "median", 1.0),
        (MODIS, "median", 1.0),
        (LST, "median", 1.0),
    ],
)
def test_numbers_are_whole_or_half_as_the_sensor_writes_them(collection, composite, step):
    plan = FetchPlan(collection, SOME_BANDS[collection], around(BAVARIA), (JULY,), composite=composite)
    steps = PROVIDER.fetch(plan).data / step
    assert np.array_equal(steps, np.rint(steps))
    assert (np.rint(steps) % 2 == 1).any()


def test_water_forest_and_radar_tell_apart():
    grid = around(BAVARIA, 900)
    green = ndvi(grid, JULY)
    swir = fetch(grid, bands=("B12",)).data[0, 0]
    vv, vh = fetch(grid, collection=S1_DB, bands=("VV", "VH")).data[0]
    water, forest = swir < 30, (green > 0.75) & (swir < 900)
    assert water.mean() > 0.01
    assert forest.mean() > 0.05
    assert green[water].max() < 0
    assert green[forest].min() > 0.5
    assert np.median(vv[water]) < -18 < -12 < np.median(vv[forest])
    assert np.median(vh[water]) < -24 < -18 < np.median(vh[forest])


@pytest.mark.parametrize(("lat", "summer", "winter"), [(47.0, JULY, JANUARY), (-38.0, JANUARY, JULY)])
def test_plants_are_green_in_the_summer_of_their_hemisphere(lat, summer, winter):
    grid = around((20.0, lat), 300, 30.0)
    green, dull = ndvi(grid, summer), ndvi(grid, winter)
    plants = green > 0.6
    assert plants.mean() > 0.2
    assert green[plants].mean() > dull[plants].mean() + 0.2


def test_evergreens_stay_green_and_the_tropics_have_no_winter():
    north = around((20.0, 40.0), 600, 30.0)
    evergreen = ndvi(north, JANUARY) > 0.75
    assert evergreen.mean() > 0.05
    assert ndvi(north, JULY)[evergreen].min() > 0.6
    tropics = around((20.0, 2.0), 300, 30.0)
    assert abs(ndvi(tropics, JULY).mean() - ndvi(tropics, JANUARY).mean()) < 0.05


def test_snow_lies_in_northern_winters_only():
    grid = around((25.0, 64.0), 200, 30.0)
    winter, summer = (fetch(grid, period, bands=("B3", "B11")).data[0] for period in (JANUARY, JULY))
    snow = [(green - swir) / (green + swir) > 0.4 for green, swir in (winter, summer)]
    open_ground = summer[0] > 600
    assert snow[0][open_ground].mean() > 0.9
    assert snow[1][open_ground].mean() < 0.02


def test_crops_lie_in_parcels_of_one_colour():
    chip = fetch(around(BAVARIA, 512), Period(dt.date(2022, 4, 1), dt.date(2022, 5, 1)), bands=("B11",))
    steps = np.abs(np.diff(chip.data[0, 0], axis=1))
    assert np.median(steps) < 120  # neighbours mostly agree
    assert (steps > 500).mean() > 0.005  # and sometimes there is an edge


def test_decibels_are_those_of_linear_power():
    power = fetch(around(BAVARIA), collection=S1, bands=("VV", "VH")).data
    decibels = fetch(around(BAVARIA), collection=S1_DB, bands=("VV", "VH")).data
    np.testing.assert_allclose(decibels, 10 * np.log10(power), atol=1e-3)


def test_linear_says_nothing_that_the_collection_does_not():
    plans = [FetchPlan(S1_DB, ("VV",), around(BAVARIA), (JULY,), linear=linear) for linear in (True, False)]
    assert np.array_equal(*(PROVIDER.fetch(plan).data for plan in plans))


def test_speckle_fades_in_composites_of_many_scenes():
    grid = around(BAVARIA, 200)
    week, year = (
        Period(dt.date(2022, 7, 1), dt.date(2022, 7, 8)),
        Period(dt.date(2022, 1, 1), dt.date(2023, 1, 1)),
    )
    rough, calm = (np.diff(fetch(grid, p, collection=S1_DB).data[0, 0]) for p in (week, year))
    assert np.abs(rough).mean() > 3 * np.abs(calm).mean()


def test_different_periods_give_different_frames():
    years = [Period(dt.date(year, 7, 1), dt.date(year, 8, 1)) for year in (2019, 2020, 2021)]
    data = fetch(around(BAVARIA), *years, JULY).data
    assert len({frame.tobytes() for frame in data}) == 4


# --- frames and acquisitions -------------------------------------------------------------------------------

BEFORE = Period(dt.date(2012, 1, 1), dt.date(2013, 1, 1))


def test_frames_before_the_sensor_are_empty():
    plan = FetchPlan(S2, ("B4", "B8"), around(BAVARIA), (BEFORE, JULY), fill_value=-9999.0)
    chip = PROVIDER.fetch(plan)
    assert chip.empty_frames == (0,)
    assert (chip.data[0] == -9999).all()
    assert (chip.data[1] > 0).all()
    assert chip.valid is not None
    assert not chip.valid[0].any()
    assert chip.valid[1].all()
    assert {item.frame for item in chip.acquisitions} == {1}


@pytest.mark.parametrize(
    ("collection", "first"),
    [
        (S2, dt.date(2015, 6, 23)),
        (S1, dt.date(2014, 10, 3)),
        (LANDSAT8, dt.date(2013, 4, 11)),
        (MODIS, dt.date(2000, 2, 24)),
        (LST, dt.date(2000, 2, 24)),
    ],
)
def test_a_sensor_has_nothing_before_its_first_day(collection, first):
    grid, day = around(BAVARIA), dt.timedelta(days=1)
    with pytest.raises(NoImagery) as caught:
        fetch(grid, Period(first - 30 * day, first), collection=collection)
    assert caught.value.code == "no_imagery"
    assert not caught.value.retryable
    assert all(part in str(caught.value) for part in (collection, f"{first - 30 * day}..{first}", f"between {first}"))
    chip = fetch(grid, Period(first - 30 * day, first + day), collection=collection)
    assert not chip.empty_frames
    assert [item.time[:10] for item in chip.acquisitions] == [first.isoformat()]


@pytest.mark.parametrize(
    ("collection", "period"),
    [
        (S2, Period(dt.date(2101, 1, 1), dt.date(2102, 1, 1))),
        (LANDSAT7, Period(dt.date(2024, 6, 1), dt.date(2024, 9, 1))),
        (S2, Period(dt.date(2022, 6, 1), dt.date(2022, 6, 1))),
    ],
)
def test_nothing_after_a_mission_or_in_no_time(collection, period):
    with pytest.raises(NoImagery):
        fetch(around(BAVARIA), period, collection=collection, bands=("RED",))


periods = st.builds(
    lambda start, days: Period(start, start + dt.timedelta(days=days)),
    st.dates(dt.date(2016, 1, 1), dt.date(2030, 1, 1)),
    st.integers(1, 400),
)


@settings(deadline=None)
@given(
    frames=st.lists(periods, min_size=1, max_size=4),
    lon=st.floats(-179, 179),
    lat=st.floats(-80, 80),
    collection=st.sampled_from(sorted(SOME_BANDS)),
)
def test_acquisitions_lie_in_their_periods_and_in_order(frames, lon, lat, collection):
    chip = fetch(around((lon, lat), 1), *frames, collection=collection)
    times = [item.time for item in chip.acquisitions]
    assert times == sorted(times)
    for index, period in enumerate(frames):
        mine = [item for item in chip.acquisitions if item.frame == index]
        assert 1 <= len(mine) <= 12
        assert all(period.start.isoformat() <= item.time[:10] < period.end.isoformat() for item in mine)
        assert len({item.id for item in mine}) == len(mine)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", text) for text in times)


@pytest.mark.parametrize(("collection", "days"), [(S2, 5), (S1, 12), (LANDSAT8, 16), (MODIS, 1)])
def test_satellites_come_back_on_time(collection, days):
    period = Period(dt.date(2022, 6, 1), dt.date(2022, 6, 1) + dt.timedelta(days=6 * days))
    chip = fetch(around(BAVARIA), period, collection=collection)
    dates = [dt.date.fromisoformat(item.time[:10]) for item in chip.acquisitions]
    assert [(b - a).days for a, b in pairwise(dates)] == [days] * 5


def test_radar_passes_follow_the_orbit_asked_for():
    plans = [FetchPlan(S1, ("VV",), around(BAVARIA), (JULY,), orbit=o) for o in ("ASCENDING", "DESCENDING")]
    hours = [{item.time[11:13] for item in PROVIDER.fetch(plan).acquisitions} for plan in plans]
    assert hours == [{"17"}, {"05"}]  # 18:00 and 06:00 local solar time
    assert PROVIDER.fetch(plans[0]).facts == (("s1_iw_applied", True), ("s1_iw_relaxed", False))


def test_ids_look_like_those_of_the_collection():
    names = {c: fetch(around(BAVARIA), collection=c).acquisitions[0].id for c in (S2, S1, LANDSAT8, MODIS, HLS)}
    assert re.fullmatch(r"202207\d\dT\d{6}_202207\d\dT\d{6}_T32U[A-Z]{2}", names[S2])
    assert re.fullmatch(r"S1A_IW_GRDH_1SDV_202207\d\dT\d{6}_\w+", names[S1])
    assert re.fullmatch(r"LC08_\d{6}_202207\d\d", names[LANDSAT8])
    assert re.fullmatch(r"2022_07_\d\d", names[MODIS])
    assert re.fullmatch(r"T32U[A-Z]{2}_202207\d\dT\d{6}", names[HLS])


# --- the provider ------------------------------------------------------------------------------------------


def test_it_is_a_provider_and_says_what_it_drew():
    assert isinstance(PROVIDER, Provider)
    grid = Grid.on_lattice(bounds_of(PointBuffer(*BAVARIA, 320.0)), 10.0)
    chip = fetch(grid, JULY)
    assert (chip.provider, chip.collection, chip.bands) == (PROVIDER.name, S2, SOME_BANDS[S2])
    assert PROVIDER.name == "synthetic"
    assert chip.grid == grid
    assert chip.frames == (JULY,)
    assert chip.empty_frames == chip.facts == ()


def test_band_aliases_name_the_same_pixels():
    plain, aliased = ("B2", "B8A", "B11"), ("BLUE", "NIR_NARROW", "SWIR_1")
    chip = fetch(around(BAVARIA), bands=aliased)
    assert chip.bands == aliased
    assert np.array_equal(chip.data, fetch(around(BAVARIA), bands=plain).data)


def test_an_unknown_band_lists_the_known_ones():
    with pytest.raises(ProviderError, match="'B13'") as caught:
        fetch(around(BAVARIA), bands=("B4", "B13"))
    assert caught.value.code == "unknown_band"
    assert not caught.value.retryable
    assert caught.value.hint is not None
    assert all(band in caught.value.hint for band in S2_BANDS)
    with pytest.raises(ProviderError, match="'B10'"):  # L1C has it, L2A does not
        fetch(around(BAVARIA), bands=("B10",))


def test_an_unknown_collection_lists_the_known_ones():
    with pytest.raises(ProviderError, match="'COPERNICUS/S3'") as caught:
        fetch(around(BAVARIA), collection="COPERNICUS/S3", bands=("B1",))
    assert caught.value.code == "unknown_collection"
    assert caught.value.hint is not None
    assert S2 in caught.value.hint


@pytest.mark.parametrize(
    "grid",
    [
        Grid("EPSG:4326", (1e-4, 0.0, 11.0, 0.0, -1e-4, 48.0), 4, 4),
        Grid(WEB_MERCATOR, (10.0, 1.0, 0.0, 0.0, -10.0, 0.0), 4, 4),
        Grid(WEB_MERCATOR, (10.0, 0.0, 0.0, 0.0, 10.0, 0.0), 4, 4),
    ],
)
def test_only_north_up_mercator_grids_are_drawn(grid):
    with pytest.raises(ProviderError, match="north-up") as caught:
        fetch(grid)
    assert caught.value.code == "unsupported_grid"


def test_delay_stands_in_for_latency():
    plan = FetchPlan(S2, ("B4",), around(BAVARIA, 1), (JULY,))
    before = time.monotonic()
    slow = SyntheticProvider(delay_s=0.05).fetch(plan)
    assert time.monotonic() - before >= 0.05
    assert np.array_equal(slow.data, PROVIDER.fetch(plan).data)
