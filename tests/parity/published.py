"""Recipe weights in the layout of the published files, so that the real loading code is what the tests run."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from rs_embed_core.card import ModelCard
from rs_embed_core.inputs import Variant
from rs_embed_core.registry import get_card
from rs_embed_core.specs.request import Ask
from tests.parity.golden import Case

SMALL = {
    "agrifm": "tiny",
    "anysat": "tiny_patch",
    "clay": "tiny_native",
    "copernicusfm": "tiny_network_s2",
    "croma": "tiny_s2",
    "dofa": "tiny_native",
    "fomo": "tiny_native",
    "galileo": "nano",
    "olmoearth": "tiny_end_to_end_v1_2",
    "presto": "tiny_network_s2",
    "panopticon": "tiny_network_s2",
    "prithvi": "tiny_single",
    "remoteclip": "tiny_vit_resize",
    "satmae": "tiny_resize",
    "satmaepp": "tiny_rgb_resize",
    "satvision": "tiny_raw",
    "scalemae": "tiny_resize",
    "ssl4eo": "tiny_vit_small",
    "terrafm": "tiny_s2",
    "terramind": "tiny_plain",
    "thor": "tiny",
    "wildsat": "tiny_vitb16_resize",
}
"""The case of each model with weights that any test can afford to publish and run."""


class Layout(Protocol):
    """What ``tests/parity/layouts/<model>.py`` has."""

    def build(self, spec: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
        """The constructor arguments of a case's reduced network."""

    def fill_network(self, case: Case, network: nn.Module) -> None:
        """Give a network the case's weights."""

    def write(self, state: Mapping[str, Tensor], path: Path) -> None:
        """Write a state dict as the authors publish theirs: wrapper keys, prefixes, entries of a decoder."""


def publish(case: Case, root: Path) -> ModelCard:
    """Write the case's weights below ``root`` as its authors publish theirs; the card that loads them.

    A case of a reduced network gets a card with that network as its only variant, for all modalities.
    """
    layout: Layout = importlib.import_module(f"tests.parity.layouts.{case.model}")  # type: ignore[assignment]
    card, _ = get_card(case.model)
    name, variant = _variant(case, card, layout)
    inputs = tuple(replace(entry, variants={}) for entry in card.inputs)
    card = replace(card, inputs=inputs, variants={name: variant}, default_variant=name)
    assert card.network is not None
    module, function = card.network.split(":")
    network: nn.Module = vars(importlib.import_module(module))[function](**dict(variant.build))
    layout.fill_network(case, network)
    assert variant.weights is not None
    path = root / variant.weights.repo / variant.weights.file
    path.parent.mkdir(parents=True, exist_ok=True)
    layout.write({key: value.contiguous() for key, value in network.state_dict().items()}, path)
    return card


def _variant(case: Case, card: ModelCard, layout: Layout) -> tuple[str, Variant]:
    spec = case.spec
    name = str(spec.get("variant") or spec.get("network", {}).get("name", "")).lower().replace("-", "_")
    name = {"real_nano": "nano", "": card.default_variant}.get(name, name)
    name = next((key for key, variant in card.variants.items() if name in variant.aliases), name)
    modality = card.select(Ask(card.id, modality=spec.get("modality"))).modality
    reduced = spec.get("size") == "tiny" or case.name.startswith("tiny")  # golden/README.md, last paragraph
    if name in card.variants and not reduced:
        return name, card.variant(name, modality)
    base = card.variant(name if name in card.variants else card.default_variant, modality)
    return name, replace(base, build=layout.build(spec), aliases=())
