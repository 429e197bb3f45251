"""The ``array`` provider: the caller's own pixels as a chip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rs_embed_core.chip import Chip, FetchPlan, Period
from rs_embed_core.errors import InvalidInput, NoImagery

_CHW, _TCHW = 3, 4


@dataclass(frozen=True, eq=False)
class ArrayProvider:
    """Answers every read with one array ``[T, C, H, W]`` or ``[C, H, W]`` that the caller gave.

    A ``[C, H, W]`` array is repeated for every frame asked for; ``[T, C, H, W]`` keeps its own T.
    """

    data: NDArray[np.generic]
    name: str = "array"

    def fetch(self, plan: FetchPlan) -> Chip:
        """The array on the plan's extent.

        Raises:
            InvalidInput: not 3 or 4 axes, the wrong number of bands, or no real numbers.
            NoImagery: no number at all.
        """
        data = checked(self.data, plan.bands)
        if not np.isfinite(data).any():
            raise NoImagery("every value of the array is missing.", hint="Give some that are finite and not masked.")
        frames = plan.frames
        if data.ndim == _CHW:
            data = np.broadcast_to(data, (len(frames), *data.shape)).copy()
        elif data.shape[0] != len(frames):
            frames = Period(frames[0].start, frames[-1].end).split(data.shape[0])
        grid = plan.grid.with_shape(*data.shape[2:])
        return Chip(data, grid, plan.bands, frames, self.name, plan.collection)


def checked(data: object, bands: Sequence[str]) -> NDArray[np.float32]:
    """Pixels as float32 ``[C, H, W]`` or ``[T, C, H, W]``; what a masked array masks is NaN.

    Raises:
        InvalidInput: not 3 or 4 axes, an empty axis, the wrong number of bands, or no real numbers.
    """
    array = np.asanyarray(data)  # np.asarray would forget a mask
    hint = f"Give [C, H, W] or [T, C, H, W] numbers with the {len(bands)} bands {', '.join(bands)}."
    if array.ndim not in (_CHW, _TCHW) or 0 in array.shape:
        msg = f"the array has the shape {array.shape}."
        raise InvalidInput(msg, hint=hint)
    if array.dtype.kind not in "fiu":
        msg = f"the array has the dtype {array.dtype}."
        raise InvalidInput(msg, hint=hint)
    if array.shape[-3] != len(bands):
        msg = f"the array has {array.shape[-3]} bands."
        raise InvalidInput(msg, hint=hint)
    if np.ma.is_masked(array):
        array = np.where(np.ma.getmaskarray(array), np.float32(np.nan), np.ma.getdata(array).astype(np.float32))
    return np.ascontiguousarray(array, np.float32)
