"""NPY bodies: what is accepted, what is refused, and what counts as missing."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest

from rs_embed_core.providers.gee.decode import MISSING, BadReplyError, decode, field_names, fill

_NAMES = field_names(2, ("B4", "B8A"))


def _body(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, pixels)
    return stream.getvalue()


def _pixels(names: list[str], dtype: str = "<f4", shape: tuple[int, int] = (3, 5)) -> np.ndarray:
    pixels = np.zeros(shape, [(name, dtype) for name in names])
    for index, name in enumerate(names):
        pixels[name] = index * 100 + np.arange(math.prod(shape)).reshape(shape)
    return pixels


def test_names_are_those_of_to_bands() -> None:
    assert _NAMES == ["0_B4", "0_B8A", "1_B4", "1_B8A"]


def test_fields_become_frames_and_channels() -> None:
    out = np.full((2, 2, 3, 5), np.nan, np.float32)
    decode(_body(_pixels(_NAMES)), _NAMES, out)
    ramp = np.arange(15, dtype=np.float32).reshape(3, 5)
    np.testing.assert_array_equal(out, [[ramp, ramp + 100], [ramp + 200, ramp + 300]])


def test_a_tile_is_written_into_its_place_only() -> None:
    whole = np.zeros((2, 2, 9, 9), np.float32)
    decode(_body(_pixels(_NAMES)), _NAMES, whole[:, :, 2:5, 4:9])
    assert np.count_nonzero(whole) == 4 * 15 - 1  # the first pixel of the first field is 0
    assert whole[1, 1, 4, 8] == 314


@pytest.mark.parametrize("short", [[*_NAMES[:-1]], [*_NAMES, "2_B4"], [*_NAMES[:3], "1_B9"], _NAMES[::-1]])
def test_other_bands_are_refused(short: list[str]) -> None:
    with pytest.raises(BadReplyError, match="asked for 3 x 5"):
        decode(_body(_pixels(short)), _NAMES, np.empty((2, 2, 3, 5), np.float32))


def test_another_type_is_refused() -> None:
    with pytest.raises(BadReplyError, match="<f8"):
        decode(_body(_pixels(_NAMES, "<f8")), _NAMES, np.empty((2, 2, 3, 5), np.float32))


def test_another_shape_is_refused() -> None:
    with pytest.raises(BadReplyError, match=r"got \(5, 3\)"):
        decode(_body(_pixels(_NAMES, shape=(5, 3))), _NAMES, np.empty((2, 2, 3, 5), np.float32))


@pytest.mark.parametrize("cut", [-1, 200, 7, 0])
def test_a_body_cut_short_is_refused(cut: int) -> None:
    with pytest.raises(BadReplyError):
        decode(_body(_pixels(_NAMES))[:cut], _NAMES, np.empty((2, 2, 3, 5), np.float32))


def test_a_page_is_refused() -> None:
    with pytest.raises(BadReplyError, match="not an NPY body: b'<!DOCTYPE"):
        decode(
            b"<!DOCTYPE html><title>Welcome to the hotel network</title>", _NAMES, np.empty((2, 2, 3, 5), np.float32)
        )


def test_a_thousand_bands_have_a_long_header_and_are_read() -> None:
    names = field_names(16, [f"a_rather_long_band_name_{i:02d}" for i in range(64)])
    out = np.empty((16, 64, 1, 2), np.float32)
    decode(_body(_pixels(names, shape=(1, 2))), names, out)
    assert out[15, 63].tolist() == [[102_300, 102_301]]


def test_each_band_is_filled_by_itself_and_a_pixel_is_valid_that_has_any() -> None:
    data = np.ones((1, 2, 2, 2), np.float32)
    data[0, 0, 0, 0] = MISSING
    data[0, :, 1, 1] = MISSING
    valid = fill(data, -1.0)
    assert valid is not None
    assert valid.tolist() == [[[True, True], [True, False]]]
    assert data.tolist() == [[[[-1, 1], [1, -1]], [[1, 1], [1, -1]]]]


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_missing(odd: float) -> None:
    data = np.full((1, 1, 1, 2), 7, np.float32)
    data[0, 0, 0, 1] = odd
    valid = fill(data, 0.0)
    assert valid is not None
    assert valid.tolist() == [[[True, False]]]
    assert data.tolist() == [[[[7, 0]]]]


def test_no_mask_where_nothing_is_missing() -> None:
    assert fill(np.zeros((1, 1, 2, 2), np.float32), 0.0) is None


def test_the_fill_value_may_be_nan() -> None:
    data = np.full((1, 1, 1, 1), MISSING, np.float32)
    valid = fill(data, math.nan)
    assert valid is not None
    assert not valid.any()
    assert np.isnan(data).all()
