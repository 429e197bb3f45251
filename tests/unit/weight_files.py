"""Weights of a small network, as files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from rs_embed_core.weights import HubFile
from tests.parity.published import SMALL

WEIGHTS = HubFile("org/model", "encoder.pt", revision="main")
PUBLISHED = SMALL | {"remoteclip": "tiny_rn_resize"}


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))


def state(value: float = 1.0) -> dict[str, Tensor]:
    return {key: torch.full_like(tensor, value) for key, tensor in network().state_dict().items()}


def put(root: Path, content: object, weights: HubFile = WEIGHTS) -> Path:
    path = root / weights.repo / weights.file
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file(content, path)
    else:
        torch.save(content, path)
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def values(module: nn.Module) -> set[float]:
    return {float(value) for tensor in module.state_dict().values() for value in tensor.flatten()}
