"""Stage fetch, Earth Engine: the NPY body of ``computePixels`` to an array, and its missing pixels."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

# Missing pixels are asked for as this value, so that one request brings pixels and validity. No band of any
# collection holds it: digital numbers and power are not negative, dB, kelvin and metres never get so far.
MISSING = -9999


class BadReplyError(ValueError):
    """The service's answer is not what was asked for."""


def field_names(frames: int, bands: Sequence[str]) -> list[str]:
    """Names of the fields of a reply, in its order: ``toBands`` puts the frame's number before the band."""
    return [f"{frame}_{band}" for frame in range(frames) for band in bands]


def decode(body: bytes, names: Sequence[str], out: NDArray[np.float32]) -> None:
    """Write a reply into ``out``, float32 ``[T, C, H, W]``; its fields are the T x C planes in order.

    Raises:
        BadReplyError: it is no NPY file, or has other bands, another type or another shape.
    """
    height, width = out.shape[2:]
    wanted = np.dtype([(name, "<f4") for name in names])
    stream = io.BytesIO(body)
    try:
        version = npy.read_magic(stream)
        header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran_order, dtype = header(stream, max_header_size=1_000_000)  # 1024 names are long, and no secret
    except ValueError as error:
        raise BadReplyError(f"not an NPY body: {body[:60]!r} ({error})") from error
    if shape != (height, width) or dtype != wanted or fortran_order:
        raise BadReplyError(f"asked for {height} x {width} of {wanted}, got {shape} of {dtype}")
    if len(body) - stream.tell() != height * width * wanted.itemsize:
        raise BadReplyError(f"{len(body)} bytes are too few or too many for {shape} of {len(names)} bands")
    pixels = np.frombuffer(body, wanted, offset=stream.tell()).reshape(height, width)
    for index, name in enumerate(names):
        out[divmod(index, out.shape[1])] = pixels[name]


def fill(data: NDArray[np.float32], fill_value: float) -> NDArray[np.bool_] | None:
    """Write the fill value where a band is missing or not finite; True where a pixel has any band ``[T, H, W]``.

    Each band is filled by itself, as in the reference. None if every pixel has some band.
    """
    missing = data == MISSING
    missing |= ~np.isfinite(data)
    if not missing.any():
        return None
    data[missing] = fill_value
    valid: NDArray[np.bool_] = ~missing.all(axis=1)
    return None if valid.all() else valid
