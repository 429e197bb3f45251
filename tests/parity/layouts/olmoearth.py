"""OlmoEarth: the whole pretraining model as one flat state dict, its encoder below ``encoder.``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.parity.golden import Case, fill

PREFIX = "encoder."


def build(spec: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """See ``Layout.build``."""
    config = spec["config"]
    (features,) = config["patch_embed_hidden_sizes"] or (0,)
    return (
        ("dim", config["embedding_size"]),
        ("depth", config["depth"]),
        ("heads", config["num_heads"]),
        ("pixel_features", features),
        ("rotary", config["position_encoding"] == "rope_3d_mixed"),
    )


def fill_network(case: Case, network: nn.Module) -> None:
    """See ``Layout.fill_network``."""
    del case
    fill(network)


def write(state: Mapping[str, Tensor], path: Path) -> None:
    """See ``Layout.write``."""
    content = {f"{PREFIX}{key}": value for key, value in state.items()}
    content |= {f"target_encoder.{key}": torch.zeros(1) for key in state}
    content |= {
        "encoder.composite_encodings.pos_embed": torch.zeros(12, 8),
        "decoder.composite_encodings.pos_embed": torch.zeros(12, 8),
        "decoder.mask_token": torch.zeros(8),
    }
    torch.save(content, path)
