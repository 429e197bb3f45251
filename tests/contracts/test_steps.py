"""True of every step."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pickle
import pkgutil

import numpy as np
import pytest

import rs_embed_core.preprocessing
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
from rs_embed_core.preprocessing.reject import RejectBelow, RejectDecibels, RejectNormalized
from rs_embed_core.preprocessing.sar import DivideByPercentile, LogPower, ToDecibels
from rs_embed_core.preprocessing.snap import NoteGroundCover, SnapToPatches, StretchUnsnapped
from rs_embed_core.preprocessing.time import FirstFrame, RepeatSingle
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
from tests.contracts.step_samples import sample_of, values_of

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
    RejectBelow(1): (2, 2, 20, 30),
    Rescale(-25, 30): (2, 2, 20, 30),
    RejectNormalized(2.0, lowest=None): (2, 2, 20, 30),
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


def test_every_step_is_here():
    modules = pkgutil.iter_modules(rs_embed_core.preprocessing.__path__)
    homes = [importlib.import_module(f"rs_embed_core.preprocessing.{module.name}") for module in modules]
    classes = {kind for home in homes for kind in vars(home).values() if inspect.isclass(kind)} - {Chain, Step}
    calls = [kind for kind in classes if "__call__" in vars(kind)]
    found = {kind.__name__ for kind in calls if "sample" in inspect.signature(kind.__call__).parameters}
    assert found == NAMES.keys()


@every_step
def test_a_step_is_pure(step, shape):
    sample = sample_of()
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
    whole = step(sample_of()).image
    keeps_frames = not isinstance(step, FirstFrame)
    for frame in range(len(whole) if keeps_frames else 1):
        part = step(sample_of(sample_of().image[frame : frame + 1])).image
        np.testing.assert_allclose(part, whole[frame : frame + 1] if keeps_frames else whole, rtol=1e-6)


def test_a_chain_runs_its_steps_in_order():
    chain = Chain(Clip(0, 10), Multiply(2))
    assert chain.text == "Clip(low=0, high=10) -> Multiply(factor=2)"
    assert values_of(chain, -1, 4, 20) == [0, 8, 20]
    assert values_of(Chain(Multiply(2), Clip(0, 10)), -1, 4, 20) == [0, 8, 10]
    assert chain.digest != Chain(Multiply(2), Clip(0, 10)).digest
    assert chain == Chain(Clip(0, 10), Multiply(2))
    assert len(chain.digest) == 16
