"""It looks like the Earth."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest

from rs_embed_core.chip import FetchPlan, Period
from tests.unit.synthetic.places import (
    BAVARIA,
    HLS,
    JANUARY,
    JULY,
    L1C,
    LANDSAT7,
    LANDSAT8,
    LST,
    MODIS,
    PROVIDER,
    S1,
    S1_DB,
    S2,
    S2_BANDS,
    SOME_BANDS,
    around,
    fetch,
    ndvi,
)

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
