"""Galileo: a plain state dict; the nano case has the real weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.parity.golden import Case, fill, golden_file


def build(spec: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """See ``Layout.build``."""
    config = spec["config"]
    return ("dim", config["embedding_size"]), ("depth", config["depth"]), ("heads", config["num_heads"])


def fill_network(case: Case, network: nn.Module) -> None:
    """See ``Layout.fill_network``."""
    if case.spec.get("weights", {}).get("source") == "nano.safetensors":
        network.load_state_dict(load_file(golden_file("galileo", "nano.safetensors")), strict=True)
    else:
        fill(network)


def write(state: Mapping[str, Tensor], path: Path) -> None:
    """See ``Layout.write``."""
    torch.save(dict(state), path)
