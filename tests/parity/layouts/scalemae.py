"""Scale-MAE: a plain state dict of the wrapper, so every key has ``model.``, with a final norm that is not applied."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.parity.golden import Case, fill

_PREFIX = "model."


def build(spec: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """See ``Layout.build``."""
    config = spec["network"]["config"]
    return ("dim", config["embed_dim"]), ("depth", config["depth"]), ("heads", config["num_heads"])


def fill_network(case: Case, network: nn.Module) -> None:
    """See ``Layout.fill_network``."""
    del case
    fill(network, prefix=_PREFIX)


def write(state: Mapping[str, Tensor], path: Path) -> None:
    """See ``Layout.write``."""
    dim = state["cls_token"].shape[-1]
    norm = {"norm.weight": torch.full((dim,), 5.0), "norm.bias": torch.full((dim,), 7.0)}
    torch.save({f"{_PREFIX}{key}": value for key, value in {**state, **norm}.items()}, path)
