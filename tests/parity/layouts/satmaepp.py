"""SatMAE++: the whole autoencoder; for Sentinel-2 inside the checkpoint of a training run."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.parity.golden import Case, fill

_EPS = {"rgb": 1e-5, "s2_10b": 1e-6}
_DECODER = ("mask_token", "decoder_embed.weight", "proj_up_conv.bias")


def build(spec: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """See ``Layout.build``."""
    config = spec["network"]["config"]
    modality = spec["modality"] or "rgb"
    sizes = {"dim": config["embed_dim"], "depth": config["depth"], "heads": config["num_heads"]}
    if modality == "s2_10b":
        sizes["channel_dim"] = config["channel_embed"]
    return (("modality", modality), *sizes.items(), ("eps", _EPS[modality]))


def fill_network(case: Case, network: nn.Module) -> None:
    """See ``Layout.fill_network``."""
    del case
    fill(network)


def write(state: Mapping[str, Tensor], path: Path) -> None:
    """See ``Layout.write``."""
    whole = {**state, **{key: torch.zeros(8) for key in _DECODER}}
    if path.suffix == ".bin":  # rgb
        torch.save({**whole, "up_block.up_norm.bias": torch.zeros(8)}, path)
        return
    optimizer = {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]}
    run = {"optimizer": optimizer, "epoch": 49, "scaler": {"scale": 65536.0}, "args": Namespace(model="mae", blr=1e-4)}
    torch.save({"model": {**whole, "up_block2.up_norm.bias": torch.zeros(8)}, **run}, path)
