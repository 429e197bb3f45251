"""CROMA: one dict of state dicts, the parts of the network; a modality has use for some of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.parity.golden import Case, fill

_PARTS = ("s1_encoder", "s1_GAP_FFN", "s2_encoder", "s2_GAP_FFN", "joint_encoder")


def build(spec: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """See ``Layout.build``."""
    config = spec["config"]
    return ("modality", spec["modality"]), ("dim", config["encoder_dim"]), ("depth", config["encoder_depth"])


def fill_network(case: Case, network: nn.Module) -> None:
    """See ``Layout.fill_network``."""
    del case
    fill(network)


def write(state: Mapping[str, Tensor], path: Path) -> None:
    """See ``Layout.write``."""
    parts: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for key, value in state.items():
        part, name = key.split(".", 1)
        parts[part][name] = value
    others = {part: {"0.weight": torch.zeros(8)} for part in _PARTS}
    torch.save({**others, **parts}, path)
