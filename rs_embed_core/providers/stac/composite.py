"""Stage fetch, STAC: many scenes become one image, as Earth Engine reduces them.

A stack is int32 ``[N, P]``: scenes in time order, pixels of the grid row by row; ``MISSING`` where a scene has
nothing. Integers with one number set aside sort faster than floats with NaN and never warn.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs_embed_core.specs.sensor import Composite

MISSING = np.int32(np.iinfo(np.int32).max)
MASKED_CLASSES = (0, 1, 3, 8, 9, 10)  # of SCL: no data, defective, shadow, cloud (2), cirrus; 11 is snow (stac.md, 4.2)
_BLOCK = 8192  # pixels sorted at once: they stay in the processor's cache


def harmonised(numbers: NDArray[np.integer[Any]], offset: int) -> NDArray[np.int32]:
    """A scene's numbers as in the harmonised collection: 0 is missing, others lose the offset and end at 0."""
    return np.where(numbers == 0, MISSING, np.maximum(numbers.astype(np.int32) - np.int32(offset), 0))


def reduced(stack: NDArray[np.int32], composite: Composite) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """One image ``[P]`` of a stack, and where it has anything. The stack is overwritten."""
    if composite == "mosaic":
        return _mosaic(stack)
    return _median(stack)


def _mosaic(stack: NDArray[np.int32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The newest of each pixel."""
    image = stack[0]
    for newer in stack[1:]:
        np.copyto(image, newer, where=newer != MISSING)
    return image.astype(np.float32), image != MISSING


def _median(stack: NDArray[np.int32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The middle one of each pixel, or the mean of the middle two."""
    scenes, pixels = stack.shape
    image = np.empty(pixels, np.float32)
    counts = np.count_nonzero(stack != MISSING, axis=0)
    for start in range(0, pixels, _BLOCK):
        block = stack[:, start : start + _BLOCK]
        sort_scenes(block)
        count = counts[start : start + _BLOCK]
        low, high = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, scenes - 1)
        places = np.arange(count.size)
        # Both are below 2**16, so that their sum and its half are exact in float32.
        image[start : start + _BLOCK] = (block[low, places].astype(np.float32) + block[high, places]) / 2
    return image, counts > 0


def sort_scenes(stack: NDArray[np.int32]) -> None:
    """Sort every pixel's scenes in place, ``MISSING`` last.

    Batcher's odd-even merge sort: the same comparisons for all pixels, each on whole rows. Ten times as fast as
    ``np.sort`` along this axis for the usual 2 to 8 scenes, 1.5 times for 20, half as fast for 60.
    """
    scenes = len(stack)
    sorted_run = 1
    while sorted_run < scenes:
        step = sorted_run
        while step >= 1:
            for first in range(step % sorted_run, scenes - step, 2 * step):
                for low in range(first, min(first + step, scenes - step)):
                    if low // (2 * sorted_run) == (low + step) // (2 * sorted_run):
                        _order(stack[low], stack[low + step])
            step //= 2
        sorted_run *= 2


def _order(low: NDArray[np.int32], high: NDArray[np.int32]) -> None:
    """Put the smaller of each pair first."""
    smaller = np.minimum(low, high)
    np.maximum(low, high, out=high)
    low[:] = smaller
