"""Presto: one flat state dict, the encoder below ``encoder.``, the decoder beside it; some cases have real weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.parity.golden import Case, fill, golden_file

PREFIX = "encoder."


def build(spec: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """See ``Layout.build``."""
    config = spec["config"]
    return (
        ("dim", config["encoder_embedding_size"]),
        ("depth", config["encoder_depth"]),
        ("heads", config["encoder_num_heads"]),
        ("mlp_ratio", config["mlp_ratio"]),
    )


def fill_network(case: Case, network: nn.Module) -> None:
    """See ``Layout.fill_network``."""
    source = case.spec["weights"]["source"]
    if source == "recipe":
        fill(network, prefix=PREFIX)
        return
    published = load_file(golden_file("presto", source))  # next to the project: no weights are committed
    network.load_state_dict({key.removeprefix(PREFIX): published[key] for key in published if key.startswith(PREFIX)})


def write(state: Mapping[str, Tensor], path: Path) -> None:
    """See ``Layout.write``."""
    encoder = {f"{PREFIX}{key}": value for key, value in state.items()}
    decoder = {
        "decoder.channel_embeddings.weight": state["channel_embed.weight"],  # the same tensor twice
        "decoder.mask_token": torch.zeros(8),
    }
    torch.save({**encoder, **decoder}, path)
