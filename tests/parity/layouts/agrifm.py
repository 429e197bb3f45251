"""AgriFM: the state dict of a distributed training run: the encoder, the embeddings of three sensors, a decoder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.parity.golden import Case, fill_sharp

OTHERS = {
    "module.HLSL30_patch_emd.proj.weight": torch.zeros(8, 6, 4, 2, 2),
    "module.Modis_patch_emd.proj.bias": torch.zeros(8),
    "module.decoder.conv.weight": torch.zeros(8, 8),
    "module.backbone.layers.0.blocks.0.attn.relative_position_index": torch.zeros(392, 392, dtype=torch.int64),
}
"""Entries of the file that the encoder does without."""


def build(spec: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """See ``Layout.build``."""
    network = spec["network"]
    return ("dim", network["embed_dim"]), ("depth", network["depths"][2])


def fill_network(case: Case, network: nn.Module) -> None:
    """See ``Layout.fill_network``."""
    fill_sharp(case, network)


def write(state: Mapping[str, Tensor], path: Path) -> None:
    """See ``Layout.write``."""
    published = {f"module.{'S2_' * key.startswith('patch_emd.')}{key}": value for key, value in state.items()}
    torch.save({"state_dict": {**published, **OTHERS}, "meta": {"epoch": 1}}, path)
