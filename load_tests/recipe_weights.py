"""Deterministic weights in the published layout, for models whose real weights are not at hand.

They make a network compute what it would compute, at its true size and speed; the numbers mean nothing.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import torch

from rs_embed_core.registry import get_card
from tests.parity.golden import fill


def write(model: str, variant: str, root: Path) -> Path:
    """Write a checkpoint of a model variant below ``root``; the file."""
    card, _ = get_card(model)
    chosen = card.variants[variant]
    if chosen.weights is None:
        raise ValueError(f"{model} {variant} has no weights")
    module, function = card.network.split(":")
    network = vars(importlib.import_module(module))[function](**dict(chosen.build))
    fill(network)
    path = root / chosen.weights.repo / chosen.weights.file
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), path)
    return path
