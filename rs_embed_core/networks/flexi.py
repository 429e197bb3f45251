"""Patch kernels for any patch size (forward stage), as FlexiViT has them (arXiv:2212.08013), and what is kept of them.

A kernel is stored at one size and resized to the patch size that is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def resize_kernel(kernel: Tensor, size: int) -> Tensor:
    """The kernel ``[..., s, s]`` for patches of another size, ``[..., size, size]``.

    It answers to a resized image as the original does to the image: FlexiViT's PI-resize, the pseudo-inverse of the
    bicubic, antialiased image resize.
    """
    old = kernel.shape[-1]
    if size == old:
        return kernel
    flat: Tensor = kernel.flatten(-2) @ _matrix(old, size, kernel.device).to(kernel.dtype)
    return flat.view(*kernel.shape[:-2], size, size)


@lru_cache(maxsize=16)
def _matrix(old: int, new: int, device: torch.device) -> Tensor:
    """The matrix ``[old * old, new * new]`` that resizes a flat kernel.

    It depends on no weight, so one copy serves every model in the process. Float64, as a pseudo-inverse loses digits.
    """
    # A tensor made in inference mode could never be used in training again, and this one outlives the call.
    with torch.inference_mode(mode=False), torch.no_grad():
        units = torch.eye(old * old, dtype=torch.float64, device="cpu").view(old * old, 1, old, old)
        resized = functional.interpolate(units, size=(new, new), mode="bicubic", align_corners=False, antialias=True)
        inverse: Tensor = torch.linalg.pinv(resized.view(old * old, new * new))  # [new * new, old * old]
        return inverse.T.to(device=device, dtype=torch.float32).contiguous()


class Kept:
    """A few tensors (or tuples of them) that follow from weights alone, made again where a weight changed or moved.

    While a weight is trained nothing is kept: what is derived from it is then a part of the graph. It holds no lock:
    threads that meet a new key at once each make the tensor, and one of the two is kept.

    Args:
        at_most: tensors kept; the oldest goes first.
    """

    def __init__(self, at_most: int) -> None:
        self._at_most = at_most
        self._kept: dict[Hashable, tuple[Hashable, Any, Sequence[Tensor]]] = {}  # Any: whatever derive() makes

    def __reduce__(self) -> tuple[type[Kept], tuple[int]]:
        """A copy, or one in another process, starts empty: its weights are others."""
        return Kept, (self._at_most,)

    def get[T](self, key: Hashable, weights: Sequence[Tensor], derive: Callable[[], T]) -> T:
        """What ``derive()`` makes of ``weights`` and ``key``."""
        if torch.is_grad_enabled() and any(weight.requires_grad for weight in weights):
            return derive()
        state = tuple(map(_state, weights))
        known = self._kept.get(key)
        if known is not None and known[0] == state:
            kept: T = known[1]
            return kept
        with torch.inference_mode(mode=False), torch.no_grad(), _in_full(weights[0].device):  # it outlives the call
            made = derive()
        others = [item for item in self._kept.items() if item[0] != key]
        item = state, made, weights  # held, so that no other tensor takes the id of one of them
        self._kept = dict([*others, (key, item)][-self._at_most :])
        return made


def _state(weight: Tensor) -> Hashable:
    """What is another where the weight was replaced, changed in place, moved or cast."""
    changes = None if weight.is_inference() else weight._version  # noqa: SLF001 - torch's count of changes in place
    return id(weight), changes, weight.device, weight.dtype


def _in_full(device: torch.device) -> AbstractContextManager[object]:
    """Without autocast, where the device knows it."""
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)
