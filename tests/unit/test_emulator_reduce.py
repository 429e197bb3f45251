"""The emulator's reductions against NumPy's own, on stacks of any height and with any pixels missing."""

from __future__ import annotations

import numpy as np
import pytest

from tests.emulator.pixels import Pixels
from tests.emulator.reduce import median, mosaic

SHAPE = (2, 5, 7)


def stack(rng: np.random.Generator, count: int, dtype: type, share: float) -> tuple[list[Pixels], np.ndarray]:
    """Layers of random pixels, each there with a chance of ``share``; and the same as floats with NaN."""
    layers, floats = [], np.full((count, *SHAPE), np.nan)
    for plain in floats:
        values = rng.integers(0, 65_536, SHAPE).astype(dtype)
        values[0, 0] = 65_535  # what marks a missing pixel of 16 bits
        there = rng.random(SHAPE) < share
        layers.append(Pixels(values, None if share == 1 else there))
        plain[there] = values[there]
    return layers, floats


@pytest.mark.filterwarnings("ignore:All-NaN slice encountered")
@pytest.mark.parametrize("share", [1, 0.6, 0.1])
@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 12, 15, 16, 17, 31])
def test_median_is_numpys(count, dtype, share):
    layers, floats = stack(np.random.default_rng(count), count, dtype, share)
    got = median(layers, SHAPE)
    want = np.nanmedian(floats, axis=0)
    there = ~np.isnan(want)
    assert got.mask is None or np.array_equal(got.mask, there)
    np.testing.assert_array_equal(got.values[there], want[there])


@pytest.mark.parametrize("share", [1, 0.6, 0.1])
def test_mosaic_is_the_last_that_is_there(share):
    layers, floats = stack(np.random.default_rng(5), 4, np.float32, share)
    got = mosaic(layers, SHAPE)
    want = np.full(SHAPE, np.nan)
    for plain in floats:
        want = np.where(np.isnan(plain), want, plain)
    np.testing.assert_array_equal(
        np.where(np.ones(SHAPE, bool) if got.mask is None else got.mask, got.values, np.nan), want
    )


def test_layers_of_one_number_spread_over_the_grid():
    layers = [Pixels(np.array([[[3.0]], [[4.0]]])), Pixels(np.ones(SHAPE)), Pixels(np.full((2, 1, 1), 9.0))]
    got = median(layers, SHAPE).values
    np.testing.assert_array_equal(got, np.broadcast_to(np.array([3.0, 4.0])[:, None, None], SHAPE))
