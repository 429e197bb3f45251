"""SSL4EO-S12 backbones: a plain state dict of timm's network, with or without its classifier."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.parity.golden import Case, fill


def build(spec: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """See ``Layout.build``."""
    sizes = spec["network"].items()
    return tuple((name, tuple(value) if isinstance(value, list) else value) for name, value in sizes)


def options(case: Case) -> dict[str, Any]:
    """There are none but the variant, which a reduced case has not."""
    return {} if case.name.startswith("tiny") else {"variant": case.spec["variant"]}


def fill_network(case: Case, network: nn.Module) -> None:
    """See ``Layout.fill_network``."""
    fill(network)
    with torch.no_grad():
        for value in network.parameters():
            if value.ndim > 1:
                value.mul_(case.spec["weights_multiplier"])


def write(state: Mapping[str, Tensor], path: Path) -> None:
    """See ``Layout.write``."""
    torch.save(dict(state), path)
