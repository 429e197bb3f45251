"""What steps make of values, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from rs_embed_core.errors import InvalidInput
from rs_embed_core.preprocessing.finished import BlankMissing, PoolPixels
from rs_embed_core.preprocessing.reject import RejectBelow, RejectDecibels, RejectNormalized
from rs_embed_core.preprocessing.sar import DivideByPercentile, LogPower, ToDecibels
from rs_embed_core.preprocessing.time import RepeatSingle
from rs_embed_core.preprocessing.values import (
    Clip,
    Divide,
    FillMissing,
    FillNaN,
    MaskMissing,
    Multiply,
    ReplaceNonFinite,
    Rescale,
    Standardize,
    StandardizeFrames,
    StandardizeSeries,
    StretchDeviations,
    StretchFrames,
    StretchTogether,
    Truncate,
    UnlessWithin,
)
from rs_embed_core.sample import Sample, View
from tests.contracts.step_samples import NAN, sample_of, values_of


def test_values_by_hand():
    assert values_of(Clip(0, 10_000), -1, 5, 10_001) == [0, 5, 10_000]
    assert values_of(Multiply(255), 0, 1, 2) == [0, 255, 510]
    assert values_of(Divide(10_000), 0, 5_000, 3) == [0, 0.5, float(np.float32(3) / np.float32(10_000))]
    assert values_of(Truncate(), 0.9, 1.5, 254.999) == [0, 1, 254]
    assert values_of(StretchFrames(1e-6), 2, 4, 10) == [0, 0.25, 1]
    assert values_of(StretchFrames(100), 2, 4, 10) == [0, float(np.float32(2) / 100), float(np.float32(8) / 100)]


def test_frames_are_standardised_one_by_one():
    image = np.array([[[[1, 2]], [[7, 7]]], [[[3, 6]], [[NAN, 5]]]], np.float32)  # [2, 2, 1, 2]
    whole = StandardizeFrames()(sample_of(image[:1])).image
    np.testing.assert_array_equal(whole[0], [[[-1, 1]], [[0, 0]]])
    holes = StandardizeFrames()(sample_of(image, valid=np.array([[[True, True]], [[False, True]]]))).image
    np.testing.assert_array_equal(holes[0], whole[0])
    np.testing.assert_array_equal(holes[1], [[[-3, 0]], [[NAN, 0]]])  # 3 is missing, and no number: neither counts


def test_a_series_is_standardised_band_by_band():
    image = np.array([[[[1, 2]], [[7, 7]]], [[[3, 6]], [[7, 7]]]], np.float32)  # [2, 2, 1, 2]
    after = StandardizeSeries(1e-6)(sample_of(image)).image
    np.testing.assert_allclose(after[:, 0, 0], np.array([[-2, -1], [0, 3]]) / np.sqrt(14 / 4), rtol=1e-6)  # mean 3
    assert not after[:, 1].any()
    np.testing.assert_array_equal(StandardizeSeries(10)(sample_of(image)).image[:, 0, 0] * 10, [[-2, -1], [0, 3]])


def test_a_step_is_left_out_where_values_are_in_range():
    step = UnlessWithin(-0.5, 1.5, Multiply(2))
    assert values_of(step, -0.5, 1.5) == [-0.5, 1.5]
    assert values_of(step, -1, 1) == [-2, 2]
    assert values_of(step, 0, 2) == [0, 4]


def test_a_single_frame_stands_for_a_series():
    one, two = (sample_of(np.arange(n, dtype=np.float32).reshape(n, 1, 1, 1)) for n in (1, 2))
    after = RepeatSingle(3)(one)
    assert after.image.shape == (3, 1, 1, 1)
    assert [notice.code for notice in after.notices] == ["single_frame"]
    assert RepeatSingle(3)(two) is two


def test_bands_are_stretched_together():
    image = np.array([[[[2, 4]], [[6, 10]]], [[[3, 3]], [[3, 3]]]], np.float32)  # [2, 2, 1, 2]
    after = StretchTogether(1e-6)(sample_of(image)).image
    assert after[0].tolist() == [[[0, 0.25]], [[0.5, 1]]]
    assert after[1].tolist() == [[[0, 0]], [[0, 0]]]
    assert not StretchTogether(8)(sample_of(image)).image.any()  # a span of 8 is no more than the floor
    assert StretchTogether(7)(sample_of(image)).image.max() == 1


def test_bands_are_stretched_by_their_deviations():
    image = np.array([[[[1, 2, 3, 6]], [[7, 7, 7, 7]]]], np.float32)  # [1, 2, 1, 4]
    after = StretchDeviations(2)(sample_of(image)).image[0]
    spread = 4 * np.sqrt((4 + 1 + 0 + 9) / 3)  # mean 3, n - 1
    np.testing.assert_allclose(after[0, 0], np.array([-2, -1, 0, 3]) / spread + 0.5, rtol=1e-6)
    np.testing.assert_array_equal(after[1], 0.5)
    holes = np.array([[[[1, 2, 99, 3, np.nan]], [[4, 4, 99, 4, np.inf]]]], np.float32)
    after = StretchDeviations(2)(sample_of(holes, valid=np.array([[[True, True, False, True, True]]]))).image[0]
    np.testing.assert_allclose(after[0, 0, [0, 1, 3]], [0.25, 0.5, 0.75], rtol=1e-6)  # of 1, 2 and 3: std 1
    np.testing.assert_array_equal(after[1, 0, [0, 1, 3]], 0.5)


def test_missing_pixels_and_values_that_are_no_numbers_get_the_fill():
    image = np.array([[[[1, 2, 3, 4]], [[5, np.nan, 7, np.inf]]]], np.float32)  # [1, 2, 1, 4]
    valid = np.array([[[True, True, False, True]]])
    after = FillMissing(9.0)(sample_of(image, valid=valid))
    assert after.valid is None
    np.testing.assert_array_equal(after.image[0], [[[1, 2, 9, 4]], [[5, 9, 9, 9]]])


def test_missing_values_are_marked_for_a_network_that_does_without_them():
    image = np.array([[[[1, 2, 3, 4]], [[5, np.nan, 7, np.inf]]]], np.float32)  # [1, 2, 1, 4]
    valid = np.array([[[True, True, False, True]]])
    after = MaskMissing("missing", 9.0)(sample_of(image, valid=valid))
    assert after.valid is None
    np.testing.assert_array_equal(after.image[0], [[[1, 2, 9, 4]], [[5, 9, 9, 9]]])
    np.testing.assert_array_equal(after.arrays["missing"][0, :, 0], [[0, 0, 1, 0], [0, 1, 1, 1]])
    whole = MaskMissing("missing")(sample_of(np.ones_like(image), valid=np.ones_like(valid)))
    assert whole.valid is None
    assert whole.arrays.keys() == {"image"}  # nothing is missing: samples like it share a batch


def test_values_that_are_no_numbers_get_values_of_their_own():
    image = np.array([[[[NAN, np.inf, -np.inf, 4]], [[5, 6, 7, 8]]]], np.float32)  # [1, 2, 1, 4]
    sample = sample_of(image, valid=np.array([[[True, True, True, False]]]))
    after = ReplaceNonFinite(nan=3.0, above=1.0, below=-1.0)(sample)
    assert after.valid is None
    np.testing.assert_array_equal(after.image[0], [[[3, 1, -1, 4]], [[5, 6, 7, 8]]])  # what is missing keeps its fill
    filled = FillNaN(9.0)(sample)
    np.testing.assert_array_equal(filled.image[0, 0, 0], [9, np.inf, -np.inf, 4])
    assert filled.valid is sample.valid
    assert FillNaN(9.0, only_series=True)(sample).image is image
    pair = FillNaN(9.0, only_series=True)(sample_of(np.concatenate([image, image]))).image
    np.testing.assert_array_equal(pair[:, 0, 0], [[9, np.inf, -np.inf, 4]] * 2)


def test_a_finished_product_has_nan_where_there_is_no_embedding():
    valid = np.array([[[True, False]]])
    image = np.array([[[[1, 2]], [[3, 4]]]], np.float32)  # [1, 2, 1, 2]
    after = BlankMissing(-9999.0)(sample_of(image, valid=valid)).image
    np.testing.assert_array_equal(after[0], [[[1, NAN]], [[3, NAN]]])
    np.testing.assert_array_equal(BlankMissing(3.0)(sample_of(image)).image[0], [[[1, 2]], [[NAN, 4]]])
    assert BlankMissing(-9999.0)(sample_of(image)).image is image


def test_pixels_are_pooled_with_or_without_those_that_are_missing():
    image = np.array([[[1, 4, NAN]], [[NAN, NAN, NAN]], [[1, 2, 6]]], np.float32)  # [3, 1, 3]
    for pooling, ignore, spread in (("mean", [2.5, NAN, 3], [NAN, NAN, 3]), ("max", [4, NAN, 6], [NAN, NAN, 6])):
        sample = sample_of(image, view=View(pooling=pooling))
        np.testing.assert_array_equal(PoolPixels("ignore")(sample).image, np.float32(ignore))
        np.testing.assert_array_equal(PoolPixels("spread")(sample).image, np.float32(spread))
    grid = sample_of(image, view=View("grid"))
    assert PoolPixels("ignore")(grid).image is image


def test_statistics_go_by_name_not_by_place():
    step = Standardize(mean=(("B3", 10.0), ("B4", 20.0), ("B8", 0.0)), std=(("B4", 2.0), ("B3", 5.0), ("B8", 1.0)))
    image = np.full((1, 2, 1, 1), 30, np.float32)
    assert step(Sample({"image": image}, ("B4", "B3"))).image.ravel().tolist() == [5, 4]
    assert step(Sample({"image": image}, ("B3", "B4"))).image.ravel().tolist() == [4, 5]


def test_values_that_look_normalised_are_refused():
    step = RejectNormalized(2.0)
    for numbers in ([0, 0.4, 1.0], [0, 0, 2], [0, 0, 0]):
        with pytest.raises(InvalidInput, match="raw sensor values"):
            values_of(step, *numbers)
    assert values_of(step, 0, 1, 2.5) == [0, 1, 2.5]
    assert values_of(step, -1, 1, 2) == [-1, 1, 2]
    with pytest.raises(InvalidInput, match="raw sensor values"):
        values_of(RejectNormalized(2.0, lowest=None), -1, 1, 2)


def test_missing_pixels_do_not_look_normalised():
    image = np.float32([[[[0, 0, 3000, NAN]]]])
    for there, refused in (([0, 0, 0, 0], False), ([0, 0, 0, 1], False), ([1, 1, 0, 0], True), ([1, 0, 1, 1], False)):
        sample = Sample({"image": image}, ("B4",), np.array([[there]], np.bool_))
        if refused:
            with pytest.raises(InvalidInput, match="already normalised"):
                RejectNormalized(2.0)(sample)
        else:
            assert RejectNormalized(2.0)(sample) is sample


def test_pixels_that_are_no_raw_numbers_are_refused():
    step = RejectBelow(1)
    for numbers in ([-12, -17, 0.5], [0.1, 0.4, 0.9, 0, 0], [-30] * 10 + [300]):
        with pytest.raises(InvalidInput, match="are below 1") as caught:
            values_of(step, *numbers)
        assert "value_low" in caught.value.hint
    for numbers in ([0, 0, 0], [1, 2, 0], [16_000, 15_000], [-30] * 9 + [300], []):  # dark water, cloud
        assert values_of(step, *numbers) == np.float32(numbers).tolist()


def test_a_range_becomes_zero_to_one():
    assert values_of(Rescale(-25, 25), -30, -25, -12.5, 0, 3) == [0, 0, 0.5, 1, 1]
    assert values_of(Rescale(0, 255), 0, 51, 255) == pytest.approx([0, 0.2, 1])


def test_radar_in_decibels_is_refused():
    step = RejectDecibels()
    for numbers in ([-12, -17, 3], [-12, 0, 0, 0]):
        with pytest.raises(InvalidInput, match="decibels"):
            values_of(step, *numbers)
    for numbers in ([0.1, 0.02, -0.001], [-1, 1, 0, 0], [0, 0, 0], []):
        assert values_of(step, *numbers) == np.float32(numbers).tolist()
    with np.errstate(invalid="raise"):
        assert np.isnan(values_of(step, float("nan"), 1)[0])


def test_radar_power_becomes_decibels_and_decibels_stay():
    assert values_of(ToDecibels(1e-10), 10, 0.1, 0, -0.5) == pytest.approx([10, -10, -100, -100])
    assert values_of(ToDecibels(1e-3), 0) == pytest.approx([-30])
    assert values_of(ToDecibels(1e-10), -12, -17, 3, 0) == [-12, -17, 3, 0]
    assert np.isnan(values_of(ToDecibels(1e-10), float("nan"), 1)[0])


def test_radar_power_by_hand():
    assert values_of(LogPower(), -1, 0, np.e - 1) == [0, 0, 1]
    image = np.array([[[[0, 1]], [[2, 3]]], [[[0, 0]], [[0, 0]]]], np.float32)  # [2, 2, 1, 2]
    after = DivideByPercentile(50)(sample_of(image)).image
    np.testing.assert_array_equal(after[0], np.float32([[[0, 1]], [[2, 3]]]) / np.float32(1.5))  # both bands together
    np.testing.assert_array_equal(after[1], np.zeros((2, 1, 2)))  # nothing to divide by
