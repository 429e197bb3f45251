"""Recipe weights in the layout of the published files, so that the real loading code is what the tests run."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rs_embed_core.card import ModelCard, Variant
from rs_embed_core.registry import get_card
from tests.parity.golden import Case, fill, golden_file


def publish(case: Case, root: Path) -> ModelCard:
    """Write the case's weights below ``root`` as its authors publish theirs; the card that loads them.

    A case of a reduced network gets a card with that network as its only variant.
    """
    card, _ = get_card(case.model)
    name, variant = _variant(case, card)
    card = replace(card, variants={name: variant}, default_variant=name)
    module, function = card.network.split(":")
    network: nn.Module = vars(importlib.import_module(module))[function](**dict(variant.build))
    _fill(case, network)
    state = {key: value.contiguous() for key, value in network.state_dict().items()}
    assert variant.weights is not None
    path = root / variant.weights.repo / variant.weights.file
    path.parent.mkdir(parents=True, exist_ok=True)
    _WRITERS[case.model](state, path)
    return card


def _variant(case: Case, card: ModelCard) -> tuple[str, Variant]:
    spec = case.spec
    name = str(spec.get("variant") or spec["network"]["name"]).lower().replace("-", "_")
    name = {"real_nano": "nano"}.get(name, name)
    if name in card.variants:
        return name, card.variants[name]
    base = card.variants[card.default_variant]
    return name, replace(base, build=_BUILDS[case.model](spec), aliases=())


def _galileo_build(spec: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    config = spec["config"]
    return ("dim", config["embedding_size"]), ("depth", config["depth"]), ("heads", config["num_heads"])


def _dofa_build(spec: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    config = spec["network"]["config"]
    return ("dim", config["embed_dim"]), ("depth", config["depth"]), ("heads", config["num_heads"])


class _Config(dict[str, Any]):
    """A constructor argument that hashes, as the encoder's cache of networks needs."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(repr(self))

    def __lt__(self, other: object) -> bool:
        return repr(self) < repr(other)


def _clip_build(spec: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    network = spec["network"]
    return ("model_name", network["model_name"]), ("config", _Config(network["config"]))


_BUILDS = {"galileo": _galileo_build, "dofa": _dofa_build, "remoteclip": _clip_build}


def _fill(case: Case, network: nn.Module) -> None:
    if case.spec.get("weights", {}).get("source") == "nano.safetensors":
        network.load_state_dict(load_file(golden_file("galileo", "nano.safetensors")), strict=True)
        return
    fill(network, prefix="model.visual." if case.model == "remoteclip" else "")
    gain = case.spec.get("network", {}).get("weight_gain")
    if gain:
        with torch.no_grad():
            for value in network.parameters():
                if value.ndim == gain["ndim"]:
                    value.mul_(gain["factor"])


def _write_galileo(state: dict[str, Tensor], path: Path) -> None:
    torch.save(state, path)


def _write_dofa(state: dict[str, Tensor], path: Path) -> None:
    """An MAE checkpoint: wrapped, with the decoder's entries beside the encoder's."""
    extra = {"mask_token": torch.zeros(1, 1, 8), "decoder_embed.weight": torch.zeros(8, 8)}
    torch.save({"model": {**state, **extra}, "epoch": 100}, path)


def _write_remoteclip(state: dict[str, Tensor], path: Path) -> None:
    """The whole CLIP under ``model.``: image tower and (here a little of) the text tower."""
    tower = {f"model.visual.{key}": value for key, value in state.items()}
    save_file({**tower, "model.logit_scale": torch.ones(()), "model.ln_final.weight": torch.ones(8)}, path)


_WRITERS = {"galileo": _write_galileo, "dofa": _write_dofa, "remoteclip": _write_remoteclip}
