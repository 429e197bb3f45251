"""True of every step and side input; and the numbers of each, by hand."""

from __future__ import annotations

import dataclasses
import datetime as dt
import importlib
import inspect
import pickle
import pkgutil

import numpy as np
import pytest

import rs_embed_core.preprocessing
from rs_embed_core.chip import Period
from rs_embed_core.errors import InvalidInput, RoiTooLarge
from rs_embed_core.preprocessing.chain import Chain, Step
from rs_embed_core.preprocessing.finished import BlankMissing, PoolPixels
from rs_embed_core.preprocessing.fit import (
    CentreCrop,
    CropToSquare,
    NoteShorterSide,
    PadToMultiple,
    PadToSquare,
    PadToSquareAndBack,
    RefuseLarger,
    Resize,
    Resize8Bit,
    ResizeShorterSide8Bit,
    ShrinkTo,
)
from rs_embed_core.preprocessing.sar import DivideByPercentile, LogPower, RejectDecibels, ToDecibels
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
    Scene,
    Timestamps,
    Wavelengths,
    WeekAndHour,
    YearAndDay,
)
from rs_embed_core.preprocessing.snap import NoteGroundCover, SnapToPatches, StretchUnsnapped
from rs_embed_core.preprocessing.time import FirstFrame, Frames, RepeatSingle, SingleFrame, stride_count
from rs_embed_core.preprocessing.values import (
    Clip,
    Divide,
    FillMissing,
    FillNaN,
    MaskMissing,
    Multiply,
    RejectNormalized,
    ReplaceNonFinite,
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

BANDS = ("B4", "B3")
STEPS: dict[Step, tuple[int, ...]] = {  # a step, and the shape that it makes of [2, 2, 20, 30]
    FillMissing(0.0): (2, 2, 20, 30),
    FillNaN(0.0): (2, 2, 20, 30),
    FillNaN(0.0, only_series=True): (2, 2, 20, 30),
    ReplaceNonFinite(nan=0.0, above=1.0, below=0.0): (2, 2, 20, 30),
    MaskMissing("missing"): (2, 2, 20, 30),
    Clip(0, 10_000): (2, 2, 20, 30),
    Multiply(1e-4): (2, 2, 20, 30),
    Divide(10_000): (2, 2, 20, 30),
    Truncate(): (2, 2, 20, 30),
    UnlessWithin(-0.1, 1.5, Divide(100)): (2, 2, 20, 30),
    Standardize(mean=(("B3", 1.5), ("B4", 2.5)), std=(("B3", 2.0), ("B4", 4.0))): (2, 2, 20, 30),
    RejectNormalized(2.0): (2, 2, 20, 30),
    StandardizeFrames(): (2, 2, 20, 30),
    StandardizeSeries(1e-6): (2, 2, 20, 30),
    StretchFrames(1e-6): (2, 2, 20, 30),
    StretchTogether(1e-6): (2, 2, 20, 30),
    StretchDeviations(2): (2, 2, 20, 30),
    PadToSquare(): (2, 2, 30, 30),
    PadToSquareAndBack(): (2, 2, 30, 30),
    CropToSquare(): (2, 2, 20, 20),
    PadToMultiple(16, 0.0): (2, 2, 32, 32),
    Resize(16): (2, 2, 16, 16),
    Resize(48, kernel="bicubic", antialias=True, cubic_a=-0.5): (2, 2, 48, 48),
    RefuseLarger(30): (2, 2, 20, 30),
    ShrinkTo(15): (2, 2, 10, 15),
    ShrinkTo(64): (2, 2, 20, 30),
    ResizeShorterSide8Bit(10): (2, 2, 10, 15),
    Resize8Bit(24): (2, 2, 24, 24),
    NoteShorterSide("shorter_side_px"): (2, 2, 20, 30),
    CentreCrop(8): (2, 2, 8, 8),
    SnapToPatches((80,), "crop", 0.0, 10, 384, 3000): (2, 2, 16, 16),
    SnapToPatches((80, 160), "pad", 0.0, 10, 384, 3000): (2, 2, 32, 32),
    StretchUnsnapped(48): (2, 2, 48, 48),
    NoteGroundCover("ground_cover_m", (80, 160)): (2, 2, 20, 30),
    FirstFrame(): (2, 20, 30),
    RepeatSingle(8): (2, 2, 20, 30),
    BlankMissing(-9999.0): (2, 2, 20, 30),
    PoolPixels("ignore"): (2, 2),
    PoolPixels("spread"): (2, 2),
    RejectDecibels(): (2, 2, 20, 30),
    LogPower(): (2, 2, 20, 30),
    ToDecibels(1e-10): (2, 2, 20, 30),
    DivideByPercentile(99): (2, 2, 20, 30),
}
NAMES = {type(step).__name__: type(step) for step in STEPS}
every_step = pytest.mark.parametrize(("step", "shape"), list(STEPS.items()), ids=map(repr, STEPS))


def _sample(image: np.ndarray | None = None, **more: object) -> Sample:
    if image is None:
        image = np.random.default_rng(0).integers(0, 256, (2, 2, 20, 30)).astype(np.float32)
    return Sample({"image": image}, BANDS, **more)


def _values(step: Step, *numbers: float) -> list[float]:
    """What a step makes of a row of pixels, the same in both bands."""
    image = np.array(numbers, np.float32)[None, None, None, :].repeat(2, axis=1)
    return step(_sample(image)).image[0, 0, 0].tolist()


def test_every_step_is_here():
    modules = pkgutil.iter_modules(rs_embed_core.preprocessing.__path__)
    homes = [importlib.import_module(f"rs_embed_core.preprocessing.{module.name}") for module in modules]
    classes = {kind for home in homes for kind in vars(home).values() if inspect.isclass(kind)} - {Chain, Step}
    calls = [kind for kind in classes if "__call__" in vars(kind)]
    found = {kind.__name__ for kind in calls if "sample" in inspect.signature(kind.__call__).parameters}
    assert found == NAMES.keys()


@every_step
def test_a_step_is_pure(step, shape):
    sample = _sample()
    image = sample.image
    before = image.copy()
    image.flags.writeable = False
    after = step(sample)
    assert after.image.shape == shape
    assert after.image.dtype == np.float32
    assert after.bands == sample.bands
    assert sample.image is image
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(step(sample).image, after.image)


@every_step
def test_a_step_is_a_readable_value(step, shape):
    assert pickle.loads(pickle.dumps(step)) == step  # noqa: S301 - our own bytes
    assert hash(dataclasses.replace(step)) == hash(step)
    assert eval(repr(step), NAMES) == step  # noqa: S307 - our own text: meta reports it
    with pytest.raises(dataclasses.FrozenInstanceError):
        step.size = 3


@every_step
def test_frames_and_bands_do_not_touch_each_other(step, shape):
    if isinstance(step, StandardizeSeries | RepeatSingle):
        pytest.skip("it looks at the series as a whole")
    whole = step(_sample()).image
    keeps_frames = not isinstance(step, FirstFrame)
    for frame in range(len(whole) if keeps_frames else 1):
        part = step(_sample(_sample().image[frame : frame + 1])).image
        np.testing.assert_allclose(part, whole[frame : frame + 1] if keeps_frames else whole, rtol=1e-6)


def test_values_by_hand():
    assert _values(Clip(0, 10_000), -1, 5, 10_001) == [0, 5, 10_000]
    assert _values(Multiply(255), 0, 1, 2) == [0, 255, 510]
    assert _values(Divide(10_000), 0, 5_000, 3) == [0, 0.5, float(np.float32(3) / np.float32(10_000))]
    assert _values(Truncate(), 0.9, 1.5, 254.999) == [0, 1, 254]
    assert _values(StretchFrames(1e-6), 2, 4, 10) == [0, 0.25, 1]
    assert _values(StretchFrames(100), 2, 4, 10) == [0, float(np.float32(2) / 100), float(np.float32(8) / 100)]


def test_frames_are_standardised_one_by_one():
    image = np.array([[[[1, 2]], [[7, 7]]], [[[3, 6]], [[NAN, 5]]]], np.float32)  # [2, 2, 1, 2]
    whole = StandardizeFrames()(_sample(image[:1])).image
    np.testing.assert_array_equal(whole[0], [[[-1, 1]], [[0, 0]]])
    holes = StandardizeFrames()(_sample(image, valid=np.array([[[True, True]], [[False, True]]]))).image
    np.testing.assert_array_equal(holes[0], whole[0])
    np.testing.assert_array_equal(holes[1], [[[-3, 0]], [[NAN, 0]]])  # 3 is missing, and no number: neither counts


def test_a_series_is_standardised_band_by_band():
    image = np.array([[[[1, 2]], [[7, 7]]], [[[3, 6]], [[7, 7]]]], np.float32)  # [2, 2, 1, 2]
    after = StandardizeSeries(1e-6)(_sample(image)).image
    np.testing.assert_allclose(after[:, 0, 0], np.array([[-2, -1], [0, 3]]) / np.sqrt(14 / 4), rtol=1e-6)  # mean 3
    assert not after[:, 1].any()
    np.testing.assert_array_equal(StandardizeSeries(10)(_sample(image)).image[:, 0, 0] * 10, [[-2, -1], [0, 3]])


def test_a_step_is_left_out_where_values_are_in_range():
    step = UnlessWithin(-0.5, 1.5, Multiply(2))
    assert _values(step, -0.5, 1.5) == [-0.5, 1.5]
    assert _values(step, -1, 1) == [-2, 2]
    assert _values(step, 0, 2) == [0, 4]


def test_a_single_frame_stands_for_a_series():
    one, two = (_sample(np.arange(n, dtype=np.float32).reshape(n, 1, 1, 1)) for n in (1, 2))
    after = RepeatSingle(3)(one)
    assert after.image.shape == (3, 1, 1, 1)
    assert [notice.code for notice in after.notices] == ["single_frame"]
    assert RepeatSingle(3)(two) is two


def test_bands_are_stretched_together():
    image = np.array([[[[2, 4]], [[6, 10]]], [[[3, 3]], [[3, 3]]]], np.float32)  # [2, 2, 1, 2]
    after = StretchTogether(1e-6)(_sample(image)).image
    assert after[0].tolist() == [[[0, 0.25]], [[0.5, 1]]]
    assert after[1].tolist() == [[[0, 0]], [[0, 0]]]
    assert not StretchTogether(8)(_sample(image)).image.any()  # a span of 8 is no more than the floor
    assert StretchTogether(7)(_sample(image)).image.max() == 1


def test_bands_are_stretched_by_their_deviations():
    image = np.array([[[[1, 2, 3, 6]], [[7, 7, 7, 7]]]], np.float32)  # [1, 2, 1, 4]
    after = StretchDeviations(2)(_sample(image)).image[0]
    spread = 4 * np.sqrt((4 + 1 + 0 + 9) / 3)  # mean 3, n - 1
    np.testing.assert_allclose(after[0, 0], np.array([-2, -1, 0, 3]) / spread + 0.5, rtol=1e-6)
    np.testing.assert_array_equal(after[1], 0.5)
    holes = np.array([[[[1, 2, 99, 3, np.nan]], [[4, 4, 99, 4, np.inf]]]], np.float32)
    after = StretchDeviations(2)(_sample(holes, valid=np.array([[[True, True, False, True, True]]]))).image[0]
    np.testing.assert_allclose(after[0, 0, [0, 1, 3]], [0.25, 0.5, 0.75], rtol=1e-6)  # of 1, 2 and 3: std 1
    np.testing.assert_array_equal(after[1, 0, [0, 1, 3]], 0.5)


def test_missing_pixels_and_values_that_are_no_numbers_get_the_fill():
    image = np.array([[[[1, 2, 3, 4]], [[5, np.nan, 7, np.inf]]]], np.float32)  # [1, 2, 1, 4]
    valid = np.array([[[True, True, False, True]]])
    after = FillMissing(9.0)(_sample(image, valid=valid))
    assert after.valid is None
    np.testing.assert_array_equal(after.image[0], [[[1, 2, 9, 4]], [[5, 9, 9, 9]]])


def test_missing_values_are_marked_for_a_network_that_does_without_them():
    image = np.array([[[[1, 2, 3, 4]], [[5, np.nan, 7, np.inf]]]], np.float32)  # [1, 2, 1, 4]
    valid = np.array([[[True, True, False, True]]])
    after = MaskMissing("missing", 9.0)(_sample(image, valid=valid))
    assert after.valid is None
    np.testing.assert_array_equal(after.image[0], [[[1, 2, 9, 4]], [[5, 9, 9, 9]]])
    np.testing.assert_array_equal(after.arrays["missing"][0, :, 0], [[0, 0, 1, 0], [0, 1, 1, 1]])
    whole = MaskMissing("missing")(_sample(np.ones_like(image), valid=np.ones_like(valid)))
    assert whole.valid is None
    assert whole.arrays.keys() == {"image"}  # nothing is missing: samples like it share a batch


NAN = float("nan")


def test_values_that_are_no_numbers_get_values_of_their_own():
    image = np.array([[[[NAN, np.inf, -np.inf, 4]], [[5, 6, 7, 8]]]], np.float32)  # [1, 2, 1, 4]
    sample = _sample(image, valid=np.array([[[True, True, True, False]]]))
    after = ReplaceNonFinite(nan=3.0, above=1.0, below=-1.0)(sample)
    assert after.valid is None
    np.testing.assert_array_equal(after.image[0], [[[3, 1, -1, 4]], [[5, 6, 7, 8]]])  # what is missing keeps its fill
    filled = FillNaN(9.0)(sample)
    np.testing.assert_array_equal(filled.image[0, 0, 0], [9, np.inf, -np.inf, 4])
    assert filled.valid is sample.valid
    assert FillNaN(9.0, only_series=True)(sample).image is image
    pair = FillNaN(9.0, only_series=True)(_sample(np.concatenate([image, image]))).image
    np.testing.assert_array_equal(pair[:, 0, 0], [[9, np.inf, -np.inf, 4]] * 2)


def test_a_finished_product_has_nan_where_there_is_no_embedding():
    valid = np.array([[[True, False]]])
    image = np.array([[[[1, 2]], [[3, 4]]]], np.float32)  # [1, 2, 1, 2]
    after = BlankMissing(-9999.0)(_sample(image, valid=valid)).image
    np.testing.assert_array_equal(after[0], [[[1, NAN]], [[3, NAN]]])
    np.testing.assert_array_equal(BlankMissing(3.0)(_sample(image)).image[0], [[[1, 2]], [[NAN, 4]]])
    assert BlankMissing(-9999.0)(_sample(image)).image is image


def test_pixels_are_pooled_with_or_without_those_that_are_missing():
    image = np.array([[[1, 4, NAN]], [[NAN, NAN, NAN]], [[1, 2, 6]]], np.float32)  # [3, 1, 3]
    for pooling, ignore, spread in (("mean", [2.5, NAN, 3], [NAN, NAN, 3]), ("max", [4, NAN, 6], [NAN, NAN, 6])):
        sample = _sample(image, view=View(pooling=pooling))
        np.testing.assert_array_equal(PoolPixels("ignore")(sample).image, np.float32(ignore))
        np.testing.assert_array_equal(PoolPixels("spread")(sample).image, np.float32(spread))
    grid = _sample(image, view=View("grid"))
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
            _values(step, *numbers)
    assert _values(step, 0, 1, 2.5) == [0, 1, 2.5]
    assert _values(step, -1, 1, 2) == [-1, 1, 2]


def test_radar_in_decibels_is_refused():
    step = RejectDecibels()
    for numbers in ([-12, -17, 3], [-12, 0, 0, 0]):
        with pytest.raises(InvalidInput, match="decibels"):
            _values(step, *numbers)
    for numbers in ([0.1, 0.02, -0.001], [-1, 1, 0, 0], [0, 0, 0], []):
        assert _values(step, *numbers) == np.float32(numbers).tolist()
    with np.errstate(invalid="raise"):
        assert np.isnan(_values(step, float("nan"), 1)[0])


def test_radar_power_becomes_decibels_and_decibels_stay():
    assert _values(ToDecibels(1e-10), 10, 0.1, 0, -0.5) == pytest.approx([10, -10, -100, -100])
    assert _values(ToDecibels(1e-3), 0) == pytest.approx([-30])
    assert _values(ToDecibels(1e-10), -12, -17, 3, 0) == [-12, -17, 3, 0]
    assert np.isnan(_values(ToDecibels(1e-10), float("nan"), 1)[0])


def test_radar_power_by_hand():
    assert _values(LogPower(), -1, 0, np.e - 1) == [0, 0, 1]
    image = np.array([[[[0, 1]], [[2, 3]]], [[[0, 0]], [[0, 0]]]], np.float32)  # [2, 2, 1, 2]
    after = DivideByPercentile(50)(_sample(image)).image
    np.testing.assert_array_equal(after[0], np.float32([[[0, 1]], [[2, 3]]]) / np.float32(1.5))  # both bands together
    np.testing.assert_array_equal(after[1], np.zeros((2, 1, 2)))  # nothing to divide by


def test_an_image_too_large_to_be_taken_as_it_is():
    for image in (np.zeros((1, 2, 31, 5)), np.zeros((1, 2, 5, 31))):
        with pytest.raises(RoiTooLarge, match="At most 30 a side"):
            RefuseLarger(30)(_sample(image.astype(np.float32)))


def test_shapes_by_hand():
    row = np.arange(4, dtype=np.float32).reshape(1, 1, 1, 4).repeat(2, axis=1)
    assert PadToSquare()(_sample(row)).image[0, 0].tolist() == [[0, 1, 2, 3]] * 4  # too thin to reflect
    assert Resize(2)(_sample(row)).image[0, 0].tolist() == [[0.5, 2.5]] * 2  # midway between two pixels
    assert PadToMultiple(3, 9.0)(_sample(row)).image[0, 0].tolist() == [[0, 1, 2, 3, 9, 9]] + [[9] * 6] * 2
    assert CropToSquare()(_sample(row)).image[0, 0].tolist() == [[1]]  # of four, the odd one goes at the right
    assert CropToSquare()(_sample(np.swapaxes(row, 2, 3)[:, :, :3])).image[0, 0].tolist() == [[1]]
    assert CentreCrop(1)(_sample(row)).image[0, 0].tolist() == [[2]]  # 1.5 rounds to even
    assert ShrinkTo(2)(_sample(row)).image.shape == (1, 2, 1, 2)  # at least one row
    tall = ShrinkTo(10)(_sample(np.zeros((1, 2, 40, 30), np.float32)))
    assert tall.image.shape == (1, 2, 10, 8)  # 7.5 rounds to even
    grey = ResizeShorterSide8Bit(8)(_sample(np.full((1, 2, 20, 30), 77, np.float32)))
    assert np.unique(grey.image).tolist() == [77]
    stretched = Resize8Bit(8)(_sample(np.full((1, 2, 20, 30), 77, np.float32)))
    assert stretched.image.shape == (1, 2, 8, 8)
    assert np.unique(stretched.image).tolist() == [77]


@pytest.mark.parametrize(
    "step",
    [
        PadToSquare(),
        PadToSquareAndBack(),
        CropToSquare(),
        PadToMultiple(10, 0.0),
        Resize(20),
        ShrinkTo(20),
        ShrinkTo(30),
    ],
)
def test_what_fits_already_is_not_copied(step):
    image = np.zeros((1, 2, 20, 20), np.float32)
    assert step(_sample(image)).image is image


def test_padding_is_cut_off_again_unless_an_inset_is_asked_for():
    image = np.zeros((1, 2, 4, 8), np.float32)
    padded = PadToSquareAndBack()(_sample(image))
    assert padded.view == View(head=False, inset=(0.25, 0.75, 0.0, 1.0))
    np.testing.assert_array_equal(padded.image, PadToSquare()(_sample(image)).image)
    asked = View("grid", inset=(0.1, 0.2, 0.3, 0.4))
    assert PadToSquareAndBack()(_sample(image, view=asked)).view is asked
    assert PadToSquareAndBack()(_sample(image[..., :4])).view == View()


def test_a_chain_runs_its_steps_in_order():
    chain = Chain(Clip(0, 10), Multiply(2))
    assert chain.text == "Clip(low=0, high=10) -> Multiply(factor=2)"
    assert _values(chain, -1, 4, 20) == [0, 8, 20]
    assert _values(Chain(Multiply(2), Clip(0, 10)), -1, 4, 20) == [0, 8, 10]
    assert chain.digest != Chain(Multiply(2), Clip(0, 10)).digest
    assert chain == Chain(Clip(0, 10), Multiply(2))
    assert len(chain.digest) == 16


# --- side inputs and frames --------------------------------------------------------------------------------


def _scene(*frames: tuple[str, str], bands: tuple[str, ...] = BANDS, **options: int) -> Scene:
    periods = tuple(Period(dt.date.fromisoformat(a), dt.date.fromisoformat(b)) for a, b in frames)
    return Scene(bands, periods, (11.5, 48.1), 10.0, options)


def test_wavelengths_follow_the_bands():
    side = Wavelengths("wavelengths_um", (("B3", 0.56), ("B4", 0.665)))
    out = side(_scene())
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out, np.float32([0.665, 0.56]))
    with pytest.raises(InvalidInput, match="B9"):
        side(_scene(bands=("B9",)))


def test_a_band_may_be_called_by_its_wavelength():
    side = Wavelengths("chn_ids", (("B4", 664.6), ("VV", -1)), nanometres=True)
    out = side(_scene(bands=("B4", "443nm", "VV", "2202.4nm")))
    np.testing.assert_array_equal(out, np.float32([664.6, 443, -1, 2202.4]))
    for band in ("0.665um", "nm", "-5nm", "0nm", "665"):
        with pytest.raises(InvalidInput, match=f"known for {band}"):
            side(_scene(bands=("B4", band)))
    with pytest.raises(InvalidInput, match="665nm"):
        Wavelengths("um", (("B4", 0.665),))(_scene(bands=("665nm",)))


def test_another_number_of_a_band_is_called_what_it_is():
    side = Wavelengths("bandwidths_nm", (("B4", 30),), what="bandwidth")
    with pytest.raises(InvalidInput, match="no bandwidth is known for B3"):
        side(_scene())


def test_the_scale_and_the_shorter_side_are_single_numbers():
    scale = PixelSize("scale_m")(_scene())
    assert (scale.dtype, scale.shape, scale.item()) == (np.float32, (), 10.0)
    for height, width in ((20, 30), (30, 20)):
        noted = NoteShorterSide("side")(_sample(np.zeros((1, 2, height, width), np.float32))).arrays
        assert (noted["side"].dtype, noted["side"].shape, noted["side"].item()) == (np.float32, (), 20.0)
        assert noted.keys() == {"image", "side"}


def test_keys_follow_the_bands():
    side = BandKeys("spectral_keys", (("B3", 8), ("B4", 9)))
    out = side(_scene())
    assert out.dtype == np.int64
    assert out.tolist() == [9, 8]
    with pytest.raises(InvalidInput, match="B99"):
        side(_scene(bands=("B99",)))


def test_months_are_those_of_the_middle_of_each_frame():
    side = Months("months")
    frames = (("2022-01-01", "2022-02-01"), ("2022-01-20", "2022-02-20"), ("2022-12-31", "2023-01-01"))
    out = side(_scene(*frames))
    assert out.dtype == np.int64
    assert out.tolist() == [0, 1, 11]  # 16 January, 4 February, 31 December
    assert side(_scene(*frames, month=7)).tolist() == [6, 6, 6]
    assert side(_scene(*frames, month=0)).tolist() == [0, 1, 11]


def test_dates_are_those_of_the_middle_of_each_frame():
    frames = (("2020-12-30", "2021-01-02"), ("2020-12-01", "2020-12-03"), ("2021-03-01", "2021-03-02"))
    out = YearAndDay("temporal_coords")(_scene(*frames))
    assert out.dtype == np.float32
    assert out.tolist() == [[2020, 366], [2020, 337], [2021, 60]]  # 31 and 2 December of a leap year, 1 March


def test_days_of_the_year_count_from_zero():
    side = DayOfYear("s2_dates")
    summer = Period(dt.date(2022, 6, 1), dt.date(2022, 9, 1)).split(8)
    out = side(_scene(*((part.start.isoformat(), part.end.isoformat()) for part in summer)))
    assert out.dtype == np.int64
    assert out.tolist() == [156, 168, 179, 191, 202, 214, 225, 237]  # golden/anysat/spec.md
    ends = (("2020-12-30", "2021-01-02"), ("2020-12-30", "2020-12-31"), ("2021-01-01", "2021-01-02"))
    assert side(_scene(*ends)).tolist() == [364, 364, 0]  # the 366th and 365th day of a leap year, 1 January


@pytest.mark.parametrize(("scale_m", "pixels"), [(5.3, 1), (10, 1), (20, 2), (47, 4), (60, 6), (1000, 6)])
def test_a_patch_has_as_many_pixels_as_its_length_says(scale_m, pixels):
    out = PixelOffsets("offsets_m", 10, (1, 2, 3, 4, 6))(dataclasses.replace(_scene(), scale_m=scale_m))
    assert out.dtype == np.float32
    assert out.tolist() == [10 * i for i in range(pixels)]


def test_a_series_is_dated_by_its_starts_and_a_single_frame_by_its_middle():
    side, june = Timestamps("timestamps"), ("2022-06-01", "2022-07-01")
    out = side(_scene(june))
    assert out.dtype == np.int64
    assert out.tolist() == [[16, 5, 2022]]
    assert side(_scene(june, temporal_mode="multi")).tolist() == [[1, 5, 2022]]
    assert side(_scene(june, ("2022-12-31", "2023-01-30"))).tolist() == [[1, 5, 2022], [31, 11, 2022]]
    left = dataclasses.replace(_scene(june), asked=4)  # the other three were empty
    assert side(left).tolist() == [[1, 5, 2022]]


def test_weeks_are_iso_weeks_of_52_and_a_composite_has_no_hour():
    side = WeekAndHour("time")
    angle = 2 * np.pi / 52
    for start, end, week in (("2022-06-01", "2022-09-01", 28), ("2021-01-01", "2021-01-02", 53)):
        out = side(_scene((start, end)))
        assert out.dtype == np.float32
        np.testing.assert_allclose(out, [np.sin(week * angle), np.cos(week * angle), 0, 1], rtol=1e-6)


def test_days_since_1970_and_the_area_of_a_patch_are_single_numbers():
    scene = _scene(("2022-06-14", "2022-06-17"), ("2023-01-01", "2023-01-02"), pixels=16)
    for out, expected in ((DayNumber("day")(scene), 19158), (PatchArea("km2", "pixels")(scene), 0.0256)):
        assert (out.dtype, out.shape, out.item()) == (np.float32, (), np.float32(expected))  # 15 June 2022


def test_a_place_may_be_unknown():
    scene = _scene()
    out = CentreLonLat("lonlat")(scene)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out, np.float32([11.5, 48.1]))
    np.testing.assert_array_equal(CentreLonLat("lonlat")(dataclasses.replace(scene, place=None)), [NAN, NAN])


def test_the_place_has_the_latitude_first():
    plain = CentreLatLon("location_coords")(_scene())
    assert plain.dtype == np.float32
    np.testing.assert_array_equal(plain, np.float32([48.1, 11.5]))
    circles = CentreOnCircles("latlon")(_scene())
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
