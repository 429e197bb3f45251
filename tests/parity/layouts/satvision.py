"""SatVision: the model states of a DeepSpeed training run: encoder, mask token, decoder and computed tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.parity.golden import Case, fill_sharp

PREFIX = "encoder."
OTHERS = {
    "encoder.mask_token": torch.zeros(1, 1, 8),
    "encoder.layers.0.blocks.0.attn.relative_coords_table": torch.zeros(1, 15, 15, 2),
    "encoder.layers.0.blocks.0.attn.relative_position_index": torch.zeros(64, 64, dtype=torch.int64),
    "encoder.layers.0.blocks.1.attn_mask": torch.zeros(16, 64, 64),
    "decoder.0.weight": torch.zeros(8, 8, 1, 1),
}
"""Entries of the file that the encoder does without."""


def build(spec: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """See ``Layout.build``."""
    network = spec["network"]
    return ("dim", network["embed_dim"]), ("third_stage", network["depths"][2])


def options(case: Case) -> dict[str, Any]:
    """The reference's environment setting as an option of ours."""
    return {"normalization": case.spec["norm"]}


def fill_network(case: Case, network: nn.Module) -> None:
    """See ``Layout.fill_network``."""
    fill_sharp(case, network)


def write(state: Mapping[str, Tensor], path: Path) -> None:
    """See ``Layout.write``."""
    published = {f"{PREFIX}{key}": value for key, value in state.items()}
    torch.save({"module": {**published, **OTHERS}, "global_steps": 1}, path)
