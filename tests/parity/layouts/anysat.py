"""AnySat: the state dict of a training run, with the projectors of all sensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.parity.golden import Case, fill_sharp

OTHERS = {
    "projector_aerial.patch_embed.weight": torch.zeros(8, 4, 10, 10),
    "projector_aerial-flair.mlp.0.weight": torch.zeros(8, 8),
    "projector_spot.mlp.4.bias": torch.zeros(8),
    "projector_naip.patch_embed.weight": torch.zeros(8, 4, 8, 8),
    "projector_s1.pad_parameter": torch.zeros(()),
    "projector_s1-asc.patch_embed.attention_heads.Q": torch.zeros(16, 8),
    "projector_alos.patch_embed.inconv.0.weight": torch.zeros(8, 3),
    "projector_l7.patch_embed.inconv.0.weight": torch.zeros(8, 6),
    "projector_l8.patch_embed.inconv.0.weight": torch.zeros(8, 11),
    "projector_modis.patch_embed.out_norm.bias": torch.zeros(8),
}
"""One entry of each projector in the file besides that of Sentinel-2."""


def build(spec: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """See ``Layout.build``."""
    return tuple((name, spec["network"][name]) for name in ("dim", "depth", "heads"))


def fill_network(case: Case, network: nn.Module) -> None:
    """See ``Layout.fill_network``."""
    fill_sharp(case, network)


def write(state: Mapping[str, Tensor], path: Path) -> None:
    """See ``Layout.write``."""
    torch.save({"state_dict": {**state, **OTHERS}, "epoch": 1, "global_step": 1}, path)
