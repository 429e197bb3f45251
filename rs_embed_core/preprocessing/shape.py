"""Prepare stage: change the height and width of an image (resample, pad, crop).

Every function takes ``[..., H, W]`` with row 0 north and treats the leading axes as a batch.
One resampler covers every kernel that the models were trained with. It reproduces PyTorch
(``aten/src/ATen/native/UpSample.h``, ``cpu/UpSampleKernel.cpp``) and Pillow (``src/libImaging/Resample.c``);
neither is needed at run time.
"""

from functools import lru_cache
from typing import Literal, NamedTuple, TypedDict, Unpack

import numpy as np
from numpy.typing import DTypeLike, NDArray

type KernelName = Literal["nearest", "bilinear", "bicubic"]
type Floats = NDArray[np.floating]

# Output pixels per matrix product. A kernel touches few inputs, so a block of outputs reads a narrow band of
# the axis. 16 was the fastest of 8..224 for 65 -> 64 and 410 -> 224; one dense product took 2 and 4 times it.
_BLOCK = 16
# Multiplications up to which OpenBLAS keeps to one thread (interface/gemm.c: SMP_THRESHOLD_MIN * 4). Requests
# run in parallel already: threads inside one image cost a factor of 4 to 8 with three processes on two cores.
_SERIAL_PRODUCT = 4 * 65536
# Pillow keeps coefficients as integers scaled by 2**PRECISION_BITS, PRECISION_BITS = 32 - 8 - 2 (Resample.c).
_EIGHT_BIT_UNIT = 2.0**22


class Resampling(TypedDict, total=False):
    """Keyword arguments of `resample`, for functions that hand them on."""

    kernel: KernelName
    antialias: bool
    cubic_a: float
    eight_bit: bool


class _Kernel(NamedTuple):
    """What decides the weights besides the two lengths."""

    name: KernelName
    antialias: bool
    cubic_a: float
    eight_bit: bool


class _Block(NamedTuple):
    """The weights of up to `_BLOCK` neighbouring outputs over the band of inputs they read."""

    writes: slice
    reads: slice
    weights: Floats  # [outputs, inputs]


class _Pass(NamedTuple):
    """Resampling of one axis."""

    n_out: int
    cost: int  # multiplications per line
    lines: int  # lines per matrix product
    blocks: tuple[_Block, ...]


def resample(  # noqa: PLR0913 - the six are one resampler's settings; `Resampling` passes them on as one value
    image: NDArray[np.float32],
    size: tuple[int, int],
    *,
    kernel: KernelName = "bilinear",
    antialias: bool = False,
    cubic_a: float = -0.75,
    eight_bit: bool = False,
) -> NDArray[np.float32]:
    """The image resized to `size`, pixel areas aligned (``align_corners=False``).

    Equals ``torch.nn.functional.interpolate(mode=kernel, antialias=antialias)`` and, with `eight_bit`, every
    pixel of Pillow's ``Image.resize``. Fill missing pixels before: NaN spreads to the neighbourhood.

    Args:
        image: ``[..., H, W]``; whole numbers 0..255 if `eight_bit`.
        size: Height and width of the result. If they are the input's, the input itself is returned.
        kernel: Interpolating function.
        antialias: Widen the kernel by the scale when shrinking, as Pillow always does.
        cubic_a: Keys' parameter of "bicubic": -0.75 in PyTorch, -0.5 in Pillow and in PyTorch with antialias.
        eight_bit: Compute as Pillow on uint8: width first, rounded and clamped to 0..255 after each pass.
            Pillow 13 takes the height first where that shrinks more; up to 12, and here, never.

    Raises:
        ValueError: A size below one, "nearest" with antialias, or `eight_bit` without antialias.
    """
    if tuple(size) == image.shape[-2:]:
        return image
    if kernel == "nearest":
        if antialias or eight_bit:
            raise ValueError("kernel 'nearest' has no antialiased or 8-bit form; use 'bilinear' or 'bicubic'")
        return _nearest(image, size)
    if eight_bit and not antialias:
        raise ValueError("eight_bit reproduces Pillow, which always antialiases; pass antialias=True")
    planes = np.asarray(image, np.float64 if eight_bit else np.float32).reshape(-1, *image.shape[-2:])
    planes = _two_passes(planes, size, _Kernel(kernel, antialias, cubic_a, eight_bit))
    return planes.reshape(*image.shape[:-2], *size).astype(np.float32, copy=False)


def resize_shorter_side(image: NDArray[np.float32], size: int, **how: Unpack[Resampling]) -> NDArray[np.float32]:
    """The image resized so that its shorter side is `size`, the aspect kept (torchvision ``Resize(int)``).

    The long side is cut to whole pixels, ``int(size * long / short)``
    (``torchvision/transforms/functional.py``, ``_compute_resized_image_output_size``).
    """
    height, width = image.shape[-2:]
    short = min(height, width)
    return resample(image, (int(size * height / short), int(size * width / short)), **how)


def centre_crop(image: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """The central ``[..., size, size]`` view of the image (torchvision ``CenterCrop``).

    Halves round to even: ``int(round((H - size) / 2.0))`` in ``torchvision/transforms/functional.py``.

    Raises:
        ValueError: The image is smaller than the crop; torchvision would add black borders.
    """
    height, width = image.shape[-2:]
    if min(height, width) < size:
        raise ValueError(f"cannot crop {size} x {size} from {height} x {width} pixels; resize or pad first")
    top, left = round((height - size) / 2), round((width - size) / 2)
    return image[..., top : top + size, left : left + size]


def pad_to_square(image: NDArray[np.float32]) -> tuple[NDArray[np.float32], tuple[int, int]]:
    """The image centred in a square of its longer side, and the (top, left) pixel where it starts.

    The border is mirrored, or repeats the edge where the padding is at least as long as the axis. An odd
    pixel goes to the bottom or right. Source: golden/dofa/spec.md, "input_prep=resize".
    """
    height, width = image.shape[-2:]
    side = max(height, width)
    if height == width:
        return image, (0, 0)
    top, left = (side - height) // 2, (side - width) // 2
    mode: Literal["edge", "reflect"] = "edge" if side >= 2 * min(height, width) else "reflect"
    border = [(top, side - height - top), (left, side - width - left)]
    return np.pad(image, [(0, 0)] * (image.ndim - 2) + border, mode=mode), (top, left)


def pad_edge(image: NDArray[np.float32], h: int, w: int) -> NDArray[np.float32]:
    """The image grown to at least h x w pixels by repeating its last row and column."""
    below, right = max(h - image.shape[-2], 0), max(w - image.shape[-1], 0)
    if not (below or right):
        return image
    return np.pad(image, [(0, 0)] * (image.ndim - 2) + [(0, below), (0, right)], mode="edge")


def _nearest(image: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """The image with each output pixel copied from one input pixel."""
    rows = _nearest_pixels(image.shape[-2], size[0])
    columns = _nearest_pixels(image.shape[-1], size[1])
    return image[..., rows[:, np.newaxis], columns]


@lru_cache(maxsize=256)
def _nearest_pixels(n_in: int, n_out: int) -> NDArray[np.intp]:
    """Index of the input that each output copies; in float32, for PyTorch's rounding decides ties."""
    _check_lengths(n_in, n_out)
    scale = np.float32(n_in) / np.float32(n_out)
    pixels = np.floor(np.arange(n_out, dtype=np.float32) * scale).astype(np.intp)
    return np.minimum(pixels, n_in - 1)


def _two_passes(planes: Floats, size: tuple[int, int], kernel: _Kernel) -> Floats:
    """[N, H, W] -> [N, *size]; of the two orders Pillow's on 8 bit, else the cheaper."""
    height, width = planes.shape[-2:]
    rows, columns = _axis_pass(height, size[0], kernel), _axis_pass(width, size[1], kernel)
    if kernel.eight_bit:
        return _round_to_grey(_along_rows(_round_to_grey(_along_columns(planes, columns)), rows))
    # a multiplication along columns counts double: measured, its narrow product takes twice the time
    columns_first = 2 * columns.cost * height + rows.cost * size[1]
    if columns_first <= rows.cost * width + 2 * columns.cost * size[0]:
        return _along_rows(_along_columns(planes, columns), rows)
    return _along_columns(_along_rows(planes, rows), columns)


def _along_columns(planes: Floats, axis: _Pass) -> Floats:
    """[N, H, W] -> [N, H, n_out]."""
    if planes.shape[-1] == axis.n_out:
        return planes
    lines = planes.reshape(-1, planes.shape[-1])
    out = np.empty((len(lines), axis.n_out), planes.dtype)
    for start in range(0, len(lines), axis.lines):
        read, write = lines[start : start + axis.lines], out[start : start + axis.lines]
        for block in axis.blocks:
            np.matmul(read[:, block.reads], block.weights.T, out=write[:, block.writes])
    return out.reshape(*planes.shape[:-1], axis.n_out)


def _along_rows(planes: Floats, axis: _Pass) -> Floats:
    """[N, H, W] -> [N, n_out, W]."""
    if planes.shape[-2] == axis.n_out:
        return planes
    out = np.empty((planes.shape[0], axis.n_out, planes.shape[2]), planes.dtype)
    for start in range(0, planes.shape[2], axis.lines):
        read, write = planes[..., start : start + axis.lines], out[..., start : start + axis.lines]
        for block in axis.blocks:
            np.matmul(block.weights, read[:, block.reads], out=write[:, block.writes])
    return out


def _round_to_grey(planes: Floats) -> Floats:
    """The planes rounded half up and clamped to 0..255."""
    grey = np.floor(planes + 0.5)
    return np.clip(grey, 0.0, 255.0, out=grey)


def _check_lengths(n_in: int, n_out: int) -> None:
    """Raises unless both lengths are at least one pixel."""
    if min(n_in, n_out) < 1:
        raise ValueError(f"cannot resample an axis of {n_in} pixels to {n_out}; both must be at least 1")


@lru_cache(maxsize=256)
def _axis_pass(n_in: int, n_out: int, kernel: _Kernel) -> _Pass:
    """The weights of one axis, as a banded matrix cut into blocks of outputs."""
    _check_lengths(n_in, n_out)
    taps = _wide_taps if kernel.antialias else _narrow_taps
    inputs, weights = taps(n_in, n_out, kernel)
    blocks = []
    for start in range(0, n_out, _BLOCK):
        writes = slice(start, min(start + _BLOCK, n_out))
        band, values = inputs[writes], weights[writes]
        reads = slice(int(band.min()), int(band.max()) + 1)
        matrix = np.zeros((len(band), reads.stop - reads.start), weights.dtype)
        # add.at, not assignment: taps beyond the border were moved onto the last pixel and add up there
        np.add.at(matrix, (np.arange(len(band))[:, np.newaxis], band - reads.start), values)
        matrix.flags.writeable = False
        blocks.append(_Block(writes, reads, matrix))
    sizes = [block.weights.size for block in blocks]
    return _Pass(n_out, sum(sizes), max(1, _SERIAL_PRODUCT // max(sizes)), tuple(blocks))


def _narrow_taps(n_in: int, n_out: int, kernel: _Kernel) -> tuple[NDArray[np.intp], Floats]:
    """Inputs and weights [n_out, taps], fixed kernel (UpSample.h, ``area_pixel_compute_source_index``)."""
    # positions in float32 like PyTorch: at pixel 400 its rounding moves a weight by 3e-5
    scale, centre = np.float32(n_in) / np.float32(n_out), np.arange(n_out) + 0.5
    if kernel.name == "bilinear":
        position = np.maximum(scale * centre.astype(np.float32) - np.float32(0.5), np.float32(0))
        offsets = np.arange(0, 2)
    else:  # here PyTorch's binaries fuse multiplication and subtraction into one rounding (2.15 on AVX-512)
        position = (scale.astype(np.float64) * centre - 0.5).astype(np.float32)
        offsets = np.arange(-1, 3)
    first = np.floor(position)
    distance = (position - first)[:, np.newaxis].astype(np.float64) - offsets
    inputs = first[:, np.newaxis].astype(np.intp) + offsets
    return np.clip(inputs, 0, n_in - 1), _kernel_value(distance, kernel).astype(np.float32)


def _wide_taps(n_in: int, n_out: int, kernel: _Kernel) -> tuple[NDArray[np.intp], Floats]:
    """Inputs and weights [n_out, taps], kernel as wide as the scale (Resample.c, ``precompute_coeffs``)."""
    dtype: DTypeLike = np.float64 if kernel.eight_bit else np.float32  # Pillow's and PyTorch's precision
    scale = np.asarray(n_in, dtype) / np.asarray(n_out, dtype)
    widening = np.maximum(scale, 1)
    support = widening * (1 if kernel.name == "bilinear" else 2)
    centre = (scale * (np.arange(n_out, dtype=dtype) + 0.5))[:, np.newaxis]
    first = np.maximum((centre - support + 0.5).astype(np.intp), 0)
    last = np.minimum((centre + support + 0.5).astype(np.intp), n_in)
    inputs = first + np.arange(int((last - first).max()))
    weights = _kernel_value((inputs.astype(dtype) - centre + 0.5) * (1 / widening), kernel)
    weights = np.where(inputs < last, weights, 0)
    weights /= np.cumsum(weights, axis=1)[:, -1:]  # cumsum adds from left to right as the originals do
    if kernel.eight_bit:  # halves away from zero; as fractions again they and their products are exact in float64
        weights = np.trunc(weights * _EIGHT_BIT_UNIT + np.copysign(0.5, weights)) / _EIGHT_BIT_UNIT
    return np.minimum(inputs, n_in - 1), weights


def _kernel_value(distance: Floats, kernel: _Kernel) -> Floats:
    """The kernel at a distance in (widened) pixels: triangle, or Keys' cubic convolution (1981, eq. 4)."""
    x: Floats = np.abs(distance)
    if kernel.name == "bilinear":
        return np.maximum(1 - x, 0)
    a = kernel.cubic_a
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0))
