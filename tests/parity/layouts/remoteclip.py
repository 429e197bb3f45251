"""RemoteCLIP: the whole CLIP under ``model.``, image tower and (here a little of) the text tower."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.parity.golden import Case, fill

_PREFIX = "model.visual."


class _Config(dict[str, Any]):
    """A constructor argument that hashes, as the encoder's cache of networks needs."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(repr(self))

    def __lt__(self, other: object) -> bool:
        return repr(self) < repr(other)


def build(spec: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """See ``Layout.build``."""
    network = spec["network"]
    return ("model_name", network["model_name"]), ("config", _Config(network["config"]))


def fill_network(case: Case, network: nn.Module) -> None:
    """See ``Layout.fill_network``."""
    fill(network, prefix=_PREFIX)
    gain = case.spec.get("network", {}).get("weight_gain")
    if gain:
        with torch.no_grad():
            for value in network.parameters():
                if value.ndim == gain["ndim"]:
                    value.mul_(gain["factor"])


def write(state: Mapping[str, Tensor], path: Path) -> None:
    """See ``Layout.write``."""
    tower = {f"{_PREFIX}{key}": value for key, value in state.items()}
    save_file({**tower, "model.logit_scale": torch.ones(()), "model.ln_final.weight": torch.ones(8)}, path)
