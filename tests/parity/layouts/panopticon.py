"""Panopticon: the plain state dict of the teacher, its mask token beside the encoder's entries."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.parity.golden import Case, fill


def build(spec: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """See ``Layout.build``; the ViT is narrower than a case's, which has all of its 86 million parameters."""
    return ("dim", 64), ("depth", 2), ("heads", 4), ("channel_dim", spec["config"]["attn_dim"])


def fill_network(case: Case, network: nn.Module) -> None:
    """See ``Layout.fill_network``."""
    del case
    fill(network)


def write(state: Mapping[str, Tensor], path: Path) -> None:
    """See ``Layout.write``."""
    torch.save({**state, "mask_token": torch.zeros(1, 8)}, path)
