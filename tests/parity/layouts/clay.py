"""Clay: a Lightning checkpoint, the encoder below ``model.encoder.`` beside a decoder and a teacher."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.parity.golden import Case, fill

_PREFIX = "model.encoder."


def build(spec: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """See ``Layout.build``."""
    return tuple(spec["network"]["config"].items())


def fill_network(case: Case, network: nn.Module) -> None:
    """See ``Layout.fill_network``."""
    del case
    fill(network)


def write(state: Mapping[str, Tensor], path: Path) -> None:
    """See ``Layout.write``."""
    encoder = {f"{_PREFIX}{key}": value for key, value in state.items()}
    extra = {"model.decoder.mask_patch": torch.zeros(1, 1, 8), "model.teacher.cls_token": torch.zeros(1, 1, 8)}
    torch.save({"state_dict": {**encoder, **extra}, "epoch": 100, "global_step": 1}, path)
