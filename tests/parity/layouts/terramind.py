"""TerraMind: the whole encoder and decoder with every modality as one flat state dict."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.parity.golden import Case, fill_sharp

OTHERS = {
    "encoder_embeddings.untok_sen2l1c@224.proj.weight": torch.zeros(8, 8),
    "encoder_embeddings.untok_sen2rgb@224.proj.weight": torch.zeros(8, 8),
    "encoder_embeddings.untok_sen1grd@224.mod_emb": torch.zeros(1, 1, 8),
    "encoder_embeddings.untok_sen1rtc@224.mod_emb": torch.zeros(1, 1, 8),
    "encoder_embeddings.untok_dem@224.pos_emb": torch.zeros(1, 4, 8),
    "encoder_embeddings.tok_sen2l2a@224.token_emb.weight": torch.zeros(8, 8),
    "encoder_embeddings.caption.token_emb.weight": torch.zeros(8, 8),
    "encoder_embeddings.coords.token_emb.weight": torch.zeros(8, 8),
    "decoder_embeddings.tok_sen2l2a@224.mod_emb": torch.zeros(1, 1, 8),
    "decoder_proj_context.weight": torch.zeros(8, 8),
    "decoder.0.norm1.weight": torch.zeros(8),
    "decoder_norm.weight": torch.zeros(8),
    "mask_token": torch.zeros(1, 1, 8),
}
"""What is in the file beside the encoder of Sentinel-2 L2A."""


def build(spec: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """See ``Layout.build``."""
    config = spec["network"]
    sizes = ((name, config[name]) for name in ("dim", "depth", "heads"))
    return (*sizes, ("gated", not config["bias"]))


def options(case: Case) -> dict[str, Any]:
    """rs-embed's configuration is ours."""
    return dict(case.spec["model_config"])


def fill_network(case: Case, network: nn.Module) -> None:
    """See ``Layout.fill_network``."""
    fill_sharp(case, network)


def write(state: Mapping[str, Tensor], path: Path) -> None:
    """See ``Layout.write``."""
    torch.save({**state, **OTHERS}, path)
