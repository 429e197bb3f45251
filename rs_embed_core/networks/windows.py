"""Shifted windows (forward stage): how Swin transformers cut a map of tokens, and how they attend inside a cut.

Liu et al. 2021, "Swin Transformer", arXiv:2103.14030; over frames too: "Video Swin Transformer", arXiv:2106.13230.
Torchvision and timm roll and partition the map in every block, and hold a mask for every window. Here a cut is an
index, made once per shape, and windows of equal mask lie side by side: four masks serve them all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

_APART: Final = -100.0  # added between tokens that lie together only because the map was rolled, as published
_CUTS_KEPT: Final = 64  # a network of four stages has eight for one shape


@dataclass(frozen=True, eq=False)
class Cut:
    """A map of tokens cut into W windows of N tokens.

    Attributes:
        padding: zeros that the map gets at the end of its axes, in ``functional.pad``'s order (channels included).
        tokens: int64 ``[W, N]``, the token of the padded map at each place.
        window, place: int64 ``[L]``, where each token of the map itself lies.
        spans: first and last + 1 of the windows that share a mask.
        masks: their masks ``[N, N]``.
    """

    padding: tuple[int, ...]
    tokens: Tensor
    window: Tensor
    place: Tensor
    spans: tuple[slice, ...]
    masks: tuple[Tensor, ...]

    def gather(self, rows: Tensor) -> Tensor:
        """The windows ``[W * B, N, C]`` of maps ``[B, *size, C]``."""
        if any(self.padding):
            rows = functional.pad(rows, self.padding)
        flat = rows.flatten(1, -2)  # [B, P, C]
        batch, count, _ = flat.shape
        first = count * torch.arange(batch, device=rows.device)
        index = self.tokens[:, None] + first[:, None]  # [W, B, N]
        return flat.flatten(0, 1).index_select(0, index.flatten()).view(-1, self.tokens.shape[1], flat.shape[2])

    def scatter(self, windows: Tensor, like: Tensor) -> Tensor:
        """The maps in the shape of ``like [B, *size, C]`` from windows ``[W * B, N, C]``."""
        batch, places = len(like), windows.shape[1]
        samples = torch.arange(batch, device=windows.device)
        index = (self.window * batch + samples[:, None]) * places + self.place  # [B, L]
        return windows.flatten(0, 1).index_select(0, index.flatten()).view(like.shape)

    def attend(
        self, joined: tuple[Tensor, Tensor, Tensor], biases: Sequence[Tensor], *, scale: float | None = None
    ) -> Tensor:
        """Attention inside each window.

        Args:
            joined: queries, keys and values, each ``[W * B, heads, N, d]``.
            biases: what is added to the logits in each of ``spans``, ``[heads, N, N]``.
            scale: of the products; None for ``1 / sqrt(d)``.

        Returns:
            ``[W * B, N, heads * d]``.
        """
        batch = len(joined[0]) // len(self.tokens)
        parts = []
        for span, bias in zip(self.spans, biases, strict=True):
            query, key, value = (part[batch * span.start : batch * span.stop] for part in joined)
            mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias[None], scale=scale)
            parts.append(mixed.transpose(1, 2).flatten(2))
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def clip(size: tuple[int, ...], window: tuple[int, ...], *, shifted: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The window and its shift on a map: an axis no longer than the window is one window, and is not shifted."""
    fitted = tuple(min(length, side) for length, side in zip(size, window, strict=True))
    shift = (side // 2 if shifted and length > side else 0 for length, side in zip(size, window, strict=True))
    return fitted, tuple(shift)


@lru_cache(maxsize=_CUTS_KEPT)
def cut(size: tuple[int, ...], window: tuple[int, ...], shift: tuple[int, ...], device: torch.device) -> Cut:
    """The cut of a map of ``size`` tokens, remembered for every device.

    The map is filled up to whole windows, then rolled back by ``shift``. Tokens that only rolling brought together
    do not see each other; padding is seen as any token.
    """
    added = tuple(-length % side for length, side in zip(size, window, strict=True))
    padded = tuple(length + more for length, more in zip(size, added, strict=True))
    numbers = np.arange(math.prod(padded)).reshape(padded)
    tokens = _partition(np.roll(numbers, [-step for step in shift], range(len(size))), window)  # [W, N]
    regions = _partition(_regions(padded, window, shift), window)
    apart = (regions[:, :, None] != regions[:, None, :]).reshape(len(regions), -1)
    kinds, kind = np.unique(apart, axis=0, return_inverse=True)
    tokens = tokens[np.argsort(kind, kind="stable")]
    where = np.argsort(tokens, axis=None).reshape(padded)[tuple(slice(length) for length in size)].ravel()
    ends = (0, *np.cumsum(np.bincount(kind)).tolist())
    masks = np.float32(_APART) * kinds.reshape(-1, *regions.shape[1:] * 2)
    return Cut(
        padding=(0, 0, *(side for more in reversed(added) for side in (0, more))),
        tokens=constant(tokens, device),
        window=constant(where // tokens.shape[1], device),
        place=constant(where % tokens.shape[1], device),
        spans=tuple(slice(first, end) for first, end in pairwise(ends)),
        masks=tuple(constant(mask, device) for mask in masks),
    )


def _partition(values: NDArray[np.int64], window: tuple[int, ...]) -> NDArray[np.int64]:
    """``[*size] -> [W, N]``, windows and the places in them in the order of the axes."""
    halves = [part for length, side in zip(values.shape, window, strict=True) for part in (length // side, side)]
    axes = range(len(halves))
    return values.reshape(halves).transpose(*axes[::2], *axes[1::2]).reshape(-1, math.prod(window))


def _regions(size: tuple[int, ...], window: tuple[int, ...], shift: tuple[int, ...]) -> NDArray[np.int64]:
    """A number for every place of the rolled map, equal for those that were neighbours before."""
    numbers = np.zeros(size, np.int64)
    for axis, (length, side, step) in enumerate(zip(size, window, shift, strict=True)):
        along = np.zeros(length, np.int64)
        if step:
            along[length - side : length - step] = 1
            along[length - step :] = 2
        numbers = 3 * numbers + along.reshape(-1, *[1] * (len(size) - axis - 1))
    return numbers


@lru_cache(maxsize=_CUTS_KEPT)
def offsets(window: tuple[int, ...], count: int, device: torch.device) -> Tensor:
    """The number of the offset between any two of a window's first ``count`` places, flat: int64 ``[count ** 2]``.

    It is the row of the offset in a table of all that the window has, along each axis from the most negative on.
    """
    places = np.indices(window).reshape(len(window), -1)[:, :count]
    numbers = np.zeros((count, count), np.int64)
    for along, side in zip(places, window, strict=True):
        numbers = numbers * (2 * side - 1) + (along[:, None] - along[None, :] + side - 1)
    return constant(numbers.ravel(), device)


def constant(values: NDArray[np.generic], device: torch.device) -> Tensor:
    """The values as a tensor that may outlive the call: one made in inference mode could not be trained with."""
    with torch.inference_mode(mode=False):
        return torch.from_numpy(np.ascontiguousarray(values)).to(device)


def neighbours(maps: Tensor) -> Tensor:
    """Four neighbours side by side: ``[..., H, W, C] -> [..., ceil(H / 2), ceil(W / 2), 4 C]``.

    In the order (0, 0), (1, 0), (0, 1), (1, 1) of (row, column); an odd axis gets a row or column of zeros.
    """
    height, width = maps.shape[-3:-1]
    if height % 2 or width % 2:
        maps = functional.pad(maps, (0, 0, 0, width % 2, 0, height % 2))
    *lead, height, width, channels = maps.shape
    squares = maps.reshape(*lead, height // 2, 2, width // 2, 2, channels)
    return squares.movedim(-4, -2).flatten(-3)  # [..., h, w, 2 columns, 2 rows, C]


class Remembered:
    """The last value computed from some parameters, until one of them changes.

    Where gradients are wanted, or the parameters were made in inference mode, it is computed every time.
    """

    def __init__(self) -> None:
        self._held: tuple[object, tuple[Tensor, ...]] | None = None

    def of(
        self, parameters: Sequence[nn.Parameter], about: object, compute: Callable[[], tuple[Tensor, ...]]
    ) -> tuple[Tensor, ...]:
        """The value for ``about`` (a shape, say)."""
        if torch.is_grad_enabled() or any(value.is_inference() for value in parameters):
            return compute()
        # A parameter counts the writes to it; one that moves to another device stays the same object.
        versions = [value._version for value in parameters]  # noqa: SLF001 - torch has no public name for the count
        state = about, versions, [(id(value), value.device, value.dtype) for value in parameters]
        held = self._held  # another thread may replace it meanwhile
        if held is None or held[0] != state:
            held = self._held = state, compute()
        return held[1]
