"""FoMo: a state dict of the whole training module, wrapped, with the prefixes of both wrappers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.parity.golden import Case, fill

_NORMALIZATION = "RS_EMBED_FOMO_NORM"


def build(spec: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """See ``Layout.build``."""
    config = spec["network"]["config"]
    return (
        ("dim", config["dim"]),
        ("depth", config["depth"]),
        ("heads", config["heads"]),
        ("mlp_dim", config["mlp_dim"]),
        ("classes", config["num_classes"]),
    )


def options(case: Case) -> dict[str, Any]:
    """The case's setting of the reference (an environment variable) as an option of ours."""
    environment = case.spec.get("env", {})
    return {"normalization": environment[_NORMALIZATION]} if _NORMALIZATION in environment else {}


def fill_network(case: Case, network: nn.Module) -> None:
    """See ``Layout.fill_network``."""
    del case
    fill(network)


def write(state: Mapping[str, Tensor], path: Path) -> None:
    """See ``Layout.write``."""
    torch.save({"state_dict": {f"module.model.{key}": value for key, value in state.items()}, "epoch": 80}, path)
