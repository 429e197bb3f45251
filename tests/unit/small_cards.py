"""Small real networks in cards: averages of patches, and one that fails as it is told to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rs_embed_core.card import ModelCard
from rs_embed_core.inputs import Input, Shape, Variant
from rs_embed_core.networks.features import Features
from rs_embed_core.option import Option
from rs_embed_core.preprocessing.chain import Chain
from rs_embed_core.preprocessing.fit import PadToSquare, Resize
from rs_embed_core.preprocessing.time import FirstFrame
from rs_embed_core.preprocessing.values import FillMissing
from rs_embed_core.registry import get_card, register_model

PATCH = 8
SIDE = 64


class _Averages(nn.Module):
    """The mean of every patch; the network's own vector is the largest pixel of every band."""

    def forward(self, image: Tensor) -> Features:
        grid = F.avg_pool2d(image.double(), PATCH).float()  # sums of coordinates stay exact
        return Features(grid, pooled_mean=image.amax(dim=(2, 3)))


class _Halves(nn.Module):
    """Cells for vectors that are not those of the grid: half as many a side, and negative."""

    def forward(self, image: Tensor) -> Features:
        grid = F.avg_pool2d(image, PATCH)
        return Features(grid, cells=-F.avg_pool2d(image, 2 * PATCH))


def halves() -> nn.Module:
    """A network whose vectors are pooled from other cells than the grid's."""
    return _Halves()


class _Failing(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self._how = how

    def forward(self, image: Tensor) -> Features:
        errors = {
            "memory": torch.OutOfMemoryError("CUDA out of memory."),
            "runtime": RuntimeError("the kernel gave up"),
            "bug": KeyError("bug"),
            "value": ValueError("the image is too small"),
        }
        if self._how in errors:
            raise errors[self._how]
        grid = image[:, :, ::PATCH, ::PATCH].clone()
        grid[0, 0, 0, 0] = float(self._how)
        return Features(grid)


class _Crowded(_Averages):
    """Has room for so many samples, and remembers what it was given."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self._room = room
        self.sizes: list[int] = []

    def forward(self, image: Tensor) -> Features:
        self.sizes.append(len(image))
        if len(image) > self._room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return super().forward(image)


def crowded(*, room: int) -> nn.Module:
    """The same on a device that runs out of memory with more than ``room`` samples."""
    return _Crowded(room)


def averages() -> nn.Module:
    """A network whose tokens are the means of the pixels they were made of."""
    return _Averages()


def failing(*, how: str) -> nn.Module:
    """A network that raises, or answers with ``nan`` or ``inf``."""
    return _Failing(how)


def averages_card(shape: Shape | None = None, chain: Chain | None = None) -> ModelCard:
    """A card of any bands whose tokens tell which pixels they were made of. It stands in for mosaiks."""
    entry = Input(
        modality="s2",
        collection="ANY",
        bands=("x", "y"),
        other_bands="any",
        shape=shape or Shape(SIDE, PATCH),
        chain=chain or Chain(FillMissing(0.0), PadToSquare(), Resize(SIDE), FirstFrame()),
    )
    card, _ = get_card("mosaiks")
    return replace(
        card, inputs=(entry,), options=(), build=None, network=f"{__name__}:averages", variants={"gaussian": Variant(2)}
    )


def crowded_card(room: int) -> ModelCard:
    """The same on a device with room for so many samples."""
    card = averages_card()
    return replace(card, network=f"{__name__}:crowded", variants={"gaussian": Variant(2, build=(("room", room),))})


def failing_card(how: str) -> ModelCard:
    """The same with a network that fails."""
    card = averages_card()
    kinds = ("memory", "runtime", "value", "bug", "nan", "inf")
    option = Option("how", how, "How it fails.", "build", choices=kinds)
    return replace(card, options=(option,), network=f"{__name__}:failing")


@contextmanager
def registered(card: ModelCard) -> Iterator[ModelCard]:
    """The card in the place of the one with its id, for a while."""
    before, _ = get_card(card.id)
    register_model(card)
    try:
        yield card
    finally:
        register_model(before)
