"""WildSAT: a training checkpoint with its arguments, the tower's three heads beside the backbone."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.parity.golden import Case, fill

_IMAGE_HEAD = "decoder.backbone3.0.weight"


def build(spec: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """See ``Layout.build``."""
    network = spec["network"]
    sizes = {key: tuple(value) if isinstance(value, list) else value for key, value in network["config"].items()}
    return ("backbone", spec["variant"]), ("head_dim", network["head_dim"]), *sizes.items()


def fill_network(case: Case, network: nn.Module) -> None:
    """See ``Layout.fill_network``."""
    fill(network)
    gain = case.spec["network"].get("weight_gain")
    if gain:
        with torch.no_grad():
            for value in network.parameters():
                if value.ndim == gain["ndim"]:
                    value.mul_(gain["factor"])


def write(state: Mapping[str, Tensor], path: Path) -> None:
    """See ``Layout.write``."""
    others = {f"decoder.backbone{branch}.0.weight": torch.zeros_like(state[_IMAGE_HEAD]) for branch in (1, 2)}
    training = {
        "opt": argparse.Namespace(satellite_encoder="vitb16", satellite_head="threelinearnobias", common_embed_dim=256),
        "text_state_dict": {"decoder.weight": torch.zeros(4, 4)},
        "optimizer": {"state": {}, "param_groups": [{"lr": 1e-4}]},
        "loss": [1.0, 0.5],
    }
    torch.save({**training, "satellite_state_dict": {**state, **others}}, path)
