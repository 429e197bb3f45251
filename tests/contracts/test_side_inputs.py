"""Side inputs and frames, by hand."""

from __future__ import annotations

import dataclasses
import datetime as dt

import numpy as np
import pytest

from rs_embed_core.chip import Period
from rs_embed_core.errors import InvalidInput
from rs_embed_core.preprocessing.fit import (
    NoteShorterSide,
)
from rs_embed_core.preprocessing.side_inputs import (
    BandKeys,
    CentreLatLon,
    CentreLonLat,
    CentreOnCircles,
    DayNumber,
    DayOfYear,
    Months,
    PatchArea,
    PixelOffsets,
    PixelSize,
    Timestamps,
    Wavelengths,
    WeekAndHour,
    YearAndDay,
)
from rs_embed_core.preprocessing.time import Frames, SingleFrame, stride_count
from tests.contracts.step_samples import NAN, sample_of, scene_of


def test_wavelengths_follow_the_bands():
    side = Wavelengths("wavelengths_um", (("B3", 0.56), ("B4", 0.665)))
    out = side(scene_of())
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out, np.float32([0.665, 0.56]))
    with pytest.raises(InvalidInput, match="B9"):
        side(scene_of(bands=("B9",)))


def test_a_band_may_be_called_by_its_wavelength():
    side = Wavelengths("chn_ids", (("B4", 664.6), ("VV", -1)), nanometres=True)
    out = side(scene_of(bands=("B4", "443nm", "VV", "2202.4nm")))
    np.testing.assert_array_equal(out, np.float32([664.6, 443, -1, 2202.4]))
    for band in ("0.665um", "nm", "-5nm", "0nm", "665"):
        with pytest.raises(InvalidInput, match=f"known for {band}"):
            side(scene_of(bands=("B4", band)))
    with pytest.raises(InvalidInput, match="665nm"):
        Wavelengths("um", (("B4", 0.665),))(scene_of(bands=("665nm",)))


def test_another_number_of_a_band_is_called_what_it_is():
    side = Wavelengths("bandwidths_nm", (("B4", 30),), what="bandwidth")
    with pytest.raises(InvalidInput, match="no bandwidth is known for B3"):
        side(scene_of())


def test_the_scale_and_the_shorter_side_are_single_numbers():
    scale = PixelSize("scale_m")(scene_of())
    assert (scale.dtype, scale.shape, scale.item()) == (np.float32, (), 10.0)
    for height, width in ((20, 30), (30, 20)):
        noted = NoteShorterSide("side")(sample_of(np.zeros((1, 2, height, width), np.float32))).arrays
        assert (noted["side"].dtype, noted["side"].shape, noted["side"].item()) == (np.float32, (), 20.0)
        assert noted.keys() == {"image", "side"}


def test_keys_follow_the_bands():
    side = BandKeys("spectral_keys", (("B3", 8), ("B4", 9)))
    out = side(scene_of())
    assert out.dtype == np.int64
    assert out.tolist() == [9, 8]
    with pytest.raises(InvalidInput, match="B99"):
        side(scene_of(bands=("B99",)))


def test_months_are_those_of_the_middle_of_each_frame():
    side = Months("months")
    frames = (("2022-01-01", "2022-02-01"), ("2022-01-20", "2022-02-20"), ("2022-12-31", "2023-01-01"))
    out = side(scene_of(*frames))
    assert out.dtype == np.int64
    assert out.tolist() == [0, 1, 11]  # 16 January, 4 February, 31 December
    assert side(scene_of(*frames, month=7)).tolist() == [6, 6, 6]
    assert side(scene_of(*frames, month=0)).tolist() == [0, 1, 11]


def test_dates_are_those_of_the_middle_of_each_frame():
    frames = (("2020-12-30", "2021-01-02"), ("2020-12-01", "2020-12-03"), ("2021-03-01", "2021-03-02"))
    out = YearAndDay("temporal_coords")(scene_of(*frames))
    assert out.dtype == np.float32
    assert out.tolist() == [[2020, 366], [2020, 337], [2021, 60]]  # 31 and 2 December of a leap year, 1 March


def test_days_of_the_year_count_from_zero():
    side = DayOfYear("s2_dates")
    summer = Period(dt.date(2022, 6, 1), dt.date(2022, 9, 1)).split(8)
    out = side(scene_of(*((part.start.isoformat(), part.end.isoformat()) for part in summer)))
    assert out.dtype == np.int64
    assert out.tolist() == [156, 168, 179, 191, 202, 214, 225, 237]  # golden/anysat/spec.md
    ends = (("2020-12-30", "2021-01-02"), ("2020-12-30", "2020-12-31"), ("2021-01-01", "2021-01-02"))
    assert side(scene_of(*ends)).tolist() == [364, 364, 0]  # the 366th and 365th day of a leap year, 1 January


@pytest.mark.parametrize(("scale_m", "pixels"), [(5.3, 1), (10, 1), (20, 2), (47, 4), (60, 6), (1000, 6)])
def test_a_patch_has_as_many_pixels_as_its_length_says(scale_m, pixels):
    out = PixelOffsets("offsets_m", 10, (1, 2, 3, 4, 6))(dataclasses.replace(scene_of(), scale_m=scale_m))
    assert out.dtype == np.float32
    assert out.tolist() == [10 * i for i in range(pixels)]


def test_a_series_is_dated_by_its_starts_and_a_single_frame_by_its_middle():
    side, june = Timestamps("timestamps"), ("2022-06-01", "2022-07-01")
    out = side(scene_of(june))
    assert out.dtype == np.int64
    assert out.tolist() == [[16, 5, 2022]]
    assert side(scene_of(june, temporal_mode="multi")).tolist() == [[1, 5, 2022]]
    assert side(scene_of(june, ("2022-12-31", "2023-01-30"))).tolist() == [[1, 5, 2022], [31, 11, 2022]]
    left = dataclasses.replace(scene_of(june), asked=4)  # the other three were empty
    assert side(left).tolist() == [[1, 5, 2022]]


def test_weeks_are_iso_weeks_of_52_and_a_composite_has_no_hour():
    side = WeekAndHour("time")
    angle = 2 * np.pi / 52
    for start, end, week in (("2022-06-01", "2022-09-01", 28), ("2021-01-01", "2021-01-02", 53)):
        out = side(scene_of((start, end)))
        assert out.dtype == np.float32
        np.testing.assert_allclose(out, [np.sin(week * angle), np.cos(week * angle), 0, 1], rtol=1e-6)


def test_days_since_1970_and_the_area_of_a_patch_are_single_numbers():
    scene = scene_of(("2022-06-14", "2022-06-17"), ("2023-01-01", "2023-01-02"), pixels=16)
    for out, expected in ((DayNumber("day")(scene), 19158), (PatchArea("km2", "pixels")(scene), 0.0256)):
        assert (out.dtype, out.shape, out.item()) == (np.float32, (), np.float32(expected))  # 15 June 2022


def test_a_place_may_be_unknown():
    scene = scene_of()
    out = CentreLonLat("lonlat")(scene)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out, np.float32([11.5, 48.1]))
    np.testing.assert_array_equal(CentreLonLat("lonlat")(dataclasses.replace(scene, place=None)), [NAN, NAN])


def test_the_place_has_the_latitude_first():
    plain = CentreLatLon("location_coords")(scene_of())
    assert plain.dtype == np.float32
    np.testing.assert_array_equal(plain, np.float32([48.1, 11.5]))
    circles = CentreOnCircles("latlon")(scene_of())
    assert circles.dtype == np.float32
    lat, lon = np.radians([48.1, 11.5])
    np.testing.assert_allclose(circles, [np.sin(lat), np.cos(lat), np.sin(lon), np.cos(lon)], rtol=1e-6)


@pytest.mark.parametrize(("days", "count"), [(1, 1), (30, 1), (31, 2), (92, 4), (360, 12), (361, 12), (4000, 12)])
def test_bins_of_thirty_days(days, count):
    window = Period(dt.date(2022, 6, 1), dt.date(2022, 6, 1) + dt.timedelta(days))
    assert stride_count(window, days=30, at_most=12) == count
    assert len(Frames(lambda window, options: count, at_most=12).periods(window, {})) == count
    assert SingleFrame().periods(window, {}) == (window,)


def test_equal_parts_of_a_window():
    summer = Period(dt.date(2022, 6, 1), dt.date(2022, 9, 1))
    assert [part.days for part in summer.split(4)] == [23, 23, 23, 23]
    assert [part.days for part in summer.split(3)] == [30, 31, 31]  # bounds 0, 30, 61, 92
    short = Period(dt.date(2022, 6, 1), dt.date(2022, 6, 3))
    assert [part.start.day for part in short.split(4)] == [1, 1, 2, 2]  # no part is shorter than a day
    assert {part.days for part in short.split(4)} == {1}
    assert summer.middle == dt.date(2022, 7, 17)
    assert short.to_dict() == {"start": "2022-06-01", "end": "2022-06-03"}
