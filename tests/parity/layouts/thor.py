"""THOR: all models of the training in one state dict, below a wrapper; the encoder keeps entries of its masking."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.parity.golden import Case, fill_sharp

OTHERS = {
    "encoder.pos_embed": torch.zeros(1, 4, 8),
    "encoder.ref_pos_embed": torch.zeros(1, 4, 8),
    "encoder.decoder_embed.weight": torch.zeros(8, 8),
    "encoder.decode_head.0.bias": torch.zeros(8),
    "teacher.norm.weight": torch.zeros(8),
}
"""What is in the file beside the encoder."""
_RENAMED = {"img": "image_size", "normalize": "normalization"}


def build(spec: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """See ``Layout.build``."""
    config = spec["network"]
    return (*((name, config[name]) for name in ("dim", "depth", "heads")), ("band_embed", config["band_embed_dim"]))


def options(case: Case) -> dict[str, Any]:
    """rs-embed's settings (``RS_EMBED_THOR_*`` there) are options, most of the same name."""
    return {_RENAMED.get(name, name): value for name, value in case.spec["settings"].items()}


def fill_network(case: Case, network: nn.Module) -> None:
    """See ``Layout.fill_network``."""
    fill_sharp(case, network)


def write(state: Mapping[str, Tensor], path: Path) -> None:
    """See ``Layout.write``."""
    named = {f"encoder.{key}": value for key, value in state.items()}
    torch.save({"state_dict": {**named, **OTHERS}, "epoch": 3}, path)
