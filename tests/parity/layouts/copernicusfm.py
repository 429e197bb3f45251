"""Copernicus-FM: a plain state dict, without the last norm."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.parity.golden import Case, fill


def build(spec: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """See ``Layout.build``."""
    config = spec["config"]
    return (
        ("dim", config["embed_dim"]),
        ("depth", config["depth"]),
        ("heads", config["num_heads"]),
        ("code_dim", config["hyper_dim"]),
        ("patch_size", config["patch_size"]),
        ("image_size", config["img_size"]),
    )


def fill_network(case: Case, network: nn.Module) -> None:
    """See ``Layout.fill_network``."""
    del case
    fill(network)


def write(state: Mapping[str, Tensor], path: Path) -> None:
    """See ``Layout.write``."""
    torch.save({key: value for key, value in state.items() if not key.startswith("fc_norm.")}, path)
