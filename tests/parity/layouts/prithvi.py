"""Prithvi: the whole MAE as one flat state dict, its encoder below ``encoder.`` with the codes of four frames."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.parity.golden import Case, fill

PREFIX = "encoder."
_OPTIONS = {"RS_EMBED_PRITHVI_PREP": "prep"}


def build(spec: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """See ``Layout.build``."""
    config = spec["network"]["config"]
    return (
        ("dim", config["embed_dim"]),
        ("depth", config["depth"]),
        ("heads", config["num_heads"]),
        ("patch_size", config["patch_size"][1]),
        ("image_size", config["img_size"]),
    )


def options(case: Case) -> dict[str, Any]:
    """The reference's environment settings as options of ours."""
    return {_OPTIONS[name]: value for name, value in case.spec.get("env", {}).items()}


def fill_network(case: Case, network: nn.Module) -> None:
    """See ``Layout.fill_network``."""
    del case
    fill(network, prefix=PREFIX)


def write(state: Mapping[str, Tensor], path: Path) -> None:
    """See ``Layout.write``."""
    encoder = {f"{PREFIX}{key}": value for key, value in state.items()}
    extra = {
        "encoder.pos_embed": torch.zeros(1, 1 + 4 * 14 * 14, 8),
        "decoder.decoder_pos_embed": torch.zeros(1, 1 + 4 * 14 * 14, 8),
        "decoder.mask_token": torch.zeros(1, 1, 8),
    }
    torch.save({**encoder, **extra}, path)
