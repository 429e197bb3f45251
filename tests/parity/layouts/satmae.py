"""SatMAE: the whole autoencoder in one flat safetensors file, the decoder's entries beside the encoder's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.parity.golden import Case, fill

_REFERENCE_EPS = 1e-5


def build(spec: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """See ``Layout.build``."""
    config = spec["network"]["config"]
    sizes = {"dim": config["embed_dim"], "depth": config["depth"], "heads": config["num_heads"]}
    return (*sizes.items(), ("eps", _REFERENCE_EPS))


def fill_network(case: Case, network: nn.Module) -> None:
    """See ``Layout.fill_network``."""
    del case
    fill(network)


def write(state: Mapping[str, Tensor], path: Path) -> None:
    """See ``Layout.write``."""
    decoder = ("mask_token", "decoder_embed.weight", "decoder_pos_embed", "decoder_blocks.0.norm1.bias")
    save_file({**state, **{key: torch.zeros(8) for key in decoder}}, path)
