"""Encoders of small cards, and batches for them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from rs_embed_core.card import ModelCard, Selection
from rs_embed_core.checkpoints import Checkpoints
from rs_embed_core.encoder import Encoder
from rs_embed_core.plan import recipe
from rs_embed_core.prepare import example
from rs_embed_core.sample import Batch, View, join
from rs_embed_core.specs.request import Ask

QUICK = {"galileo": (("image_size", 32), ("n_frames", 2)), "olmoearth": (("image_size", 64),)}


class Small(Encoder):
    """An encoder that tells what it was made of."""

    def __init__(self, card: ModelCard, root: Path | None, **how: object) -> None:
        checkpoints = Checkpoints(root, offline=True)
        super().__init__(card, card.default_variant, checkpoints=checkpoints, **{"device": "cpu", **how})
        self.card, self.root = card, root


def encoder(card: ModelCard, root: Path | None = None, **how: object) -> Small:
    return Small(card, root, **how)


def batch_of(ask: Ask, count: int, **view: object) -> tuple[Batch, Selection]:
    """Samples that differ in their pixels."""
    one = example(ask)
    image = one.arrays["image"]
    if ask.model == "mosaiks":
        image = image[..., :64, :48]  # takes any shape
    rng = np.random.default_rng(3)
    images = [image * rng.uniform(0.5, 1.5, (1,) * image.ndim).astype(np.float32) for _ in range(count)]
    batches = [replace(one, arrays={**one.arrays, "image": image}, views=(View(**view),)) for image in images]
    return join(batches), recipe(ask).selection
