from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional as F

from rs_embed_core.preprocessing.shape import (
    KernelName,
    Resampling,
    centre_crop,
    pad_edge,
    pad_to_square,
    resample,
    resize_shorter_side,
)


@pytest.fixture(autouse=True, scope="module")
def several_threads() -> Iterator[None]:
    """With one thread torch takes another kernel for some sizes, which rounds coordinates differently."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


PILLOW = Resampling(kernel="bicubic", antialias=True, cubic_a=-0.5, eight_bit=True)
# shape [C, H, W] -> size: the models' own, both directions, one axis only, extreme aspects, one pixel.
SIZES = [
    ((10, 65, 65), (64, 64)),
    ((9, 410, 410), (224, 224)),
    ((3, 160, 160), (224, 224)),
    ((2, 600, 448), (448, 448)),
    ((2, 448, 600), (448, 448)),
    ((2, 37, 53), (224, 96)),
    ((1, 1000, 700), (50, 224)),
    ((2, 1001, 333), (333, 1001)),
    ((4, 1, 7), (3, 3)),
    ((3, 17, 17), (1, 1)),
    ((1, 3, 5), (64, 65)),
]


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def grey(*shape: int) -> np.ndarray:
    """Whole numbers 0..255, with runs of black and white so that bicubic overshoots and is clamped."""
    values = np.random.default_rng(1).integers(-128, 384, shape)
    return np.clip(values, 0, 255).astype(np.float32)


def pillow(image: np.ndarray, *sizes: tuple[int, int], kernel: int = Image.Resampling.BICUBIC) -> np.ndarray:
    """[C, H, W] resized by Pillow to each size in turn."""
    out = []
    for plane in image.astype(np.uint8):
        picture = Image.fromarray(plane)
        for height, width in sizes:
            picture = picture.resize((width, height), kernel)
        out.append(np.asarray(picture))
    return np.stack(out).astype(np.float32)


def worst(ours: np.ndarray, theirs: np.ndarray, image: np.ndarray) -> float:
    """Largest difference as a share of the input's range."""
    return float(np.abs(ours - theirs).max() / np.ptp(image))


@pytest.mark.parametrize(("shape", "size"), SIZES)
@pytest.mark.parametrize(
    ("kernel", "antialias", "cubic_a"),
    [
        ("nearest", False, -0.75),
        ("bilinear", False, -0.75),
        ("bilinear", True, -0.75),
        ("bicubic", False, -0.75),
        ("bicubic", True, -0.5),
    ],
)
def test_resample_equals_torch(shape, size, kernel: KernelName, antialias, cubic_a):
    image = noise(*shape)
    corners = {} if kernel == "nearest" else {"align_corners": False}
    theirs = F.interpolate(torch.from_numpy(image)[None], size, mode=kernel, antialias=antialias, **corners)
    ours = resample(image, size, kernel=kernel, antialias=antialias, cubic_a=cubic_a)
    assert ours.dtype == np.float32
    assert ours.shape == (shape[0], *size)
    assert worst(ours, theirs[0].numpy(), image) <= 1e-6


@pytest.mark.parametrize(("shape", "size"), SIZES)
@pytest.mark.parametrize("kernel", ["bilinear", "bicubic"])
def test_eight_bit_equals_pillow_width_first(shape, size, kernel: KernelName):
    # In two steps, for Pillow 13 takes the height first where it shrinks more; up to 12 one step is the same.
    image = grey(*shape)
    ours = resample(image, size, kernel=kernel, antialias=True, cubic_a=-0.5, eight_bit=True)
    theirs = pillow(image, (shape[1], size[1]), size, kernel=Image.Resampling[kernel.upper()])
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("shape", "size"), [((3, 160, 160), (224, 224)), ((3, 410, 410), (224, 224)), ((3, 160, 300), (224, 224))]
)
def test_eight_bit_equals_pillow_in_one_step(shape, size):
    image = grey(*shape)
    np.testing.assert_array_equal(resample(image, size, **PILLOW), pillow(image, size))


@given(st.tuples(*[st.integers(1, 60)] * 4))
def test_eight_bit_equals_pillow_at_any_size(lengths):
    height, width, h, w = lengths
    image = grey(1, height, width)
    np.testing.assert_array_equal(resample(image, (h, w), **PILLOW), pillow(image, (height, w), (h, w)))


def test_eight_bit_leaves_its_input_alone():
    image = grey(3, 20, 30)
    before = image.copy()
    resample(image, (20, 15), **PILLOW)
    resample(image, (10, 30), **PILLOW)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("kernel", ["nearest", "bilinear", "bicubic"])
def test_same_size_is_the_same_object(kernel: KernelName):
    image = noise(3, 20, 30)
    assert resample(image, (20, 30), kernel=kernel) is image


@pytest.mark.parametrize("lead", [(), (4,), (2, 3), (0,)])
@pytest.mark.parametrize("kernel", ["nearest", "bilinear"])
def test_leading_axes_are_a_batch(lead, kernel: KernelName):
    image = noise(*lead, 20, 30)
    out = resample(image, (7, 45), kernel=kernel)
    assert out.shape == (*lead, 7, 45)
    for index in np.ndindex(*lead):
        np.testing.assert_allclose(out[index], resample(image[index], (7, 45), kernel=kernel), atol=1e-6)


def test_a_cut_of_a_larger_array_resamples_like_its_copy():
    cut = noise(3, 90, 120)[:, 10:75, 7:72]
    np.testing.assert_array_equal(resample(cut, (64, 64)), resample(cut.copy(), (64, 64)))


def test_wide_images_take_several_products():
    image = noise(1, 700, 3000)  # more columns than one single-threaded product of rows may have
    theirs = F.interpolate(torch.from_numpy(image)[None], (96, 2000), mode="bilinear", align_corners=False)
    assert worst(resample(image, (96, 2000)), theirs[0].numpy(), image) <= 1e-6


def test_bilinear_by_hand():
    # Output centres at 1, 3 (halving) lie midway between two pixels.
    np.testing.assert_array_equal(resample(np.array([[0, 2, 4, 8]], np.float32), (1, 2)), [[1, 6]])


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from(["nearest", "bilinear", "bicubic"]),
    st.booleans(),
)
def test_a_constant_stays_constant(n_in, n_out, kernel: KernelName, antialias):
    image = np.full((2, n_in, 9), 3.25, np.float32)
    out = resample(image, (n_out, 11), kernel=kernel, antialias=antialias and kernel != "nearest")
    np.testing.assert_allclose(out, 3.25, rtol=1e-6)


@pytest.mark.parametrize(
    ("size", "how", "message"),
    [
        ((0, 5), {}, "at least 1"),
        ((0, 5), {"kernel": "nearest"}, "at least 1"),
        ((5, 5), {"kernel": "nearest", "antialias": True}, "nearest"),
        ((5, 5), {"kernel": "bicubic", "eight_bit": True}, "antialias=True"),
    ],
)
def test_what_cannot_be_resampled_is_refused(size, how, message):
    with pytest.raises(ValueError, match=message):
        resample(noise(1, 8, 8), size, **how)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((3, 160, 160), (224, 224)),
        ((3, 300, 250), (268, 224)),  # 224 * 300 / 250 = 268.8
        ((3, 250, 301), (224, 269)),  # 269.696
        ((3, 224, 500), (224, 500)),
    ],
)
def test_shorter_side(shape, expected):
    assert resize_shorter_side(noise(*shape), 224).shape[1:] == expected


def test_shorter_side_takes_the_kernel():
    image = grey(3, 200, 160)
    np.testing.assert_array_equal(resize_shorter_side(image, 224, **PILLOW), pillow(image, (200, 224), (280, 224)))


@pytest.mark.parametrize(
    ("shape", "top", "left"),
    [
        ((224, 224), 0, 0),
        ((225, 224), 0, 0),  # 0.5 rounds to even
        ((227, 226), 2, 1),  # 1.5 rounds to even, up
        ((229, 234), 2, 5),  # 2.5 rounds to even, down
    ],
)
def test_centre_crop_rounds_like_torchvision(shape, top, left):
    rows, columns = np.indices(shape, np.float32)
    out = centre_crop(np.stack([rows, columns]), 224)
    assert out.shape == (2, 224, 224)
    assert out[:, 0, 0].tolist() == [top, left]


def test_centre_crop_refuses_a_small_image():
    with pytest.raises(ValueError, match="resize or pad"):
        centre_crop(noise(1, 224, 223), 224)


def test_square_padding_is_centred_and_mirrored():
    image = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    out, offset = pad_to_square(image)
    assert offset == (0, 0)  # one missing row: below
    np.testing.assert_array_equal(out[0], [[0, 1, 2], [3, 4, 5], [0, 1, 2]])


def test_square_padding_repeats_the_edge_when_too_thin():
    image = np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.float32)  # two rows to add to two
    out, offset = pad_to_square(image)
    assert offset == (1, 0)
    np.testing.assert_array_equal(out, [[1, 2, 3, 4], [1, 2, 3, 4], [5, 6, 7, 8], [5, 6, 7, 8]])


@given(st.integers(1, 20), st.integers(1, 20))
def test_square_padding_keeps_the_image(height, width):
    image = noise(2, 3, height, width)
    out, (top, left) = pad_to_square(image)
    side = max(height, width)
    assert out.shape == (2, 3, side, side)
    assert (top, left) == ((side - height) // 2, (side - width) // 2)
    np.testing.assert_array_equal(out[..., top : top + height, left : left + width], image)
    assert (out is image) == (height == width)


def test_edge_padding():
    image = np.array([[1, 2], [3, 4]], np.float32)
    np.testing.assert_array_equal(pad_edge(image, 3, 4), [[1, 2, 2, 2], [3, 4, 4, 4], [3, 4, 4, 4]])
    np.testing.assert_array_equal(pad_edge(image, 1, 3), [[1, 2, 2], [3, 4, 4]])
    assert pad_edge(image, 2, 1) is image
