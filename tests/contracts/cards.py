"""Every card, every network, every product, and the settings to try them with."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

import pytest

from rs_embed_core import (
    list_models,
)
from rs_embed_core.card import ModelCard
from rs_embed_core.registry import get_card
from rs_embed_core.specs.request import OptionValue

CARDS = [get_card(model)[0] for model in list_models()]
NETWORKS = [card for card in CARDS if card.product is None]
every_card = pytest.mark.parametrize("card", CARDS, ids=lambda card: card.id)
every_network = pytest.mark.parametrize("card", NETWORKS, ids=lambda card: card.id)
every_product = pytest.mark.parametrize("card", [card for card in CARDS if card.product], ids=lambda card: card.id)


def settings_of(card: ModelCard) -> Iterator[dict[str, OptionValue]]:
    """The defaults, every variant, and every option by itself at each of its choices or limits."""
    yield {}
    yield from ({"variant": variant} for variant in card.variants)
    for option in card.options:
        limits = (option.minimum, option.maximum)
        values = option.choices or [type(option.default)(limit) for limit in limits if limit is not None]
        for value in values or ([True, False] if option.default in (True, False) else []):
            yield {option.name: value}


def named(path: str) -> object:
    module, name = path.split(":")
    return vars(importlib.import_module(module))[name]
