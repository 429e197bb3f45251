"""Stage route: finds the cards, resolves names and aliases, lists and describes. Loads neither torch nor Ray."""

from __future__ import annotations

import difflib
import importlib
import itertools
import pkgutil
from collections.abc import Iterable
from functools import cache

import rs_embed_core.models
from rs_embed_core.card import Alias, ModelCard
from rs_embed_core.errors import InvalidRequest, JSONValue, UnknownModel
from rs_embed_core.inputs import Input, Variant

_added: dict[str, ModelCard] = {}
_changes = itertools.count(1)
_generation = [0]


@cache
def _published() -> dict[str, ModelCard]:
    """Cards by id: every module of ``rs_embed_core.models`` has one as ``CARD``."""
    modules = pkgutil.iter_modules(rs_embed_core.models.__path__)
    found = [importlib.import_module(f"rs_embed_core.models.{module.name}").CARD for module in modules]
    return {card.id: card for card in found}


def _cards() -> dict[str, ModelCard]:
    """A copy: one may be added while it is walked through."""
    return _published() | _added


def register_model(card: ModelCard) -> None:
    """Add a card of your own, or replace one, in this process."""
    _added[card.id] = card
    _generation[0] = next(_changes)


def generation() -> int:
    """Changes whenever a card is added: part of the key of whatever is cached about cards."""
    return _generation[0]


def get_card(model: str) -> tuple[ModelCard, Alias | None]:
    """The card behind an id or alias (case and ``-`` do not matter), and the alias if it was one.

    Raises:
        UnknownModel: no such name; the hint has the nearest ones.
        InvalidRequest: no name at all.
    """
    if not isinstance(model, str):
        raise InvalidRequest(f"model is {model!r}.", hint="model is a name; list_models() has them.")
    name = plain_name(model)
    cards = _cards()
    if name in cards:
        return cards[name], None
    names = {alias.name: (card, alias) for card in cards.values() for alias in card.aliases}
    if name in names:
        return names[name]
    raise unknown_model(model, cards, names)


def plain_name(model: str) -> str:
    """A model's name as ids and aliases are written."""
    return model.strip().lower().replace("-", "_")


def unknown_model(model: str, ids: Iterable[str], aliases: Iterable[str]) -> UnknownModel:
    """The error of a name that is none of these; its hint has the nearest ones."""
    known = sorted(ids)
    near = difflib.get_close_matches(plain_name(model), sorted([*known, *aliases]), n=3, cutoff=0.4)
    hint = f"Did you mean {' or '.join(near)}?" if near else f"Known models: {', '.join(known)}."
    msg = f"there is no model {model!r}."
    return UnknownModel(msg, hint=hint, context={"model": model, "nearest": list(near)})


def list_models(*, include_aliases: bool = False) -> list[str]:
    """Ids of all models, sorted; with ``include_aliases`` also their other names."""
    cards = _cards()
    aliases = [alias.name for card in cards.values() for alias in card.aliases] if include_aliases else []
    return sorted([*cards, *aliases])


def describe_model(model: str) -> dict[str, JSONValue]:
    """Everything the card says, as JSON: inputs, variants, outputs, licence, and the schema of model_config.

    Raises:
        UnknownModel: no such name.
    """
    card, _ = get_card(model)
    return {
        "id": card.id,
        "title": card.title,
        "summary": card.summary,
        "aliases": [alias.name for alias in card.aliases],
        "paper": card.paper,
        "code": card.code,
        "licence": {"code": card.licence_code, "weights": card.licence_weights},
        "inputs": [_describe_input(card, entry) for entry in card.inputs],
        "variants": {name: _describe_variant(variant) for name, variant in card.variants.items()},
        "default_variant": card.default_variant,
        "type": "on_the_fly" if card.product is None else "precomputed",
        "provider": None if card.product is None else card.product.provider,
        "default_window": None
        if card.default_window is None
        else {"start": card.default_window[0], "end": card.default_window[1]},
        "model_config": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "variant": {
                    "type": "string",
                    "enum": list(card.variants),
                    "default": card.default_variant,
                    "description": "Size or release of the model.",
                },
                **{option.name: option.schema() for option in card.options},
            },
        },
        "outputs": ["pooled", "grid"],
        "needs_weights": any(variant.weights for variant in card.networks.values()),
        "notes": list(card.notes),
    }


def _describe_input(card: ModelCard, entry: Input) -> dict[str, JSONValue]:
    options = card.defaults
    shape = entry.shape_for(options)
    return {
        "modality": entry.modality,
        "collection": entry.collection,
        "collections": list(entry.collections),
        "bands": list(entry.bands),
        "other_bands": entry.other_bands,
        "scale_m": entry.scale_m,
        "cloudy_pct": entry.cloudy_pct,
        "composite": entry.composite,
        "image_size": shape.image_size,
        "patch_size": shape.patch_size,
        "time_series": entry.time.at_most > 1,
        "max_frames": entry.time.at_most,
        "side_inputs": [side.name for side in entry.side_inputs],
        "preprocessing": entry.chain_for(options).text,
        "variants": {name: _describe_variant(variant) for name, variant in entry.variants.items()},
    }


def _describe_variant(variant: Variant) -> dict[str, JSONValue]:
    weights = variant.weights
    return {
        "dim": variant.dim,
        "parameters_m": variant.parameters_m,
        "aliases": list(variant.aliases),
        "weights": None
        if weights is None
        else {
            "repo": weights.repo,
            "file": weights.file,
            "revision": weights.revision,
            "sha256": weights.sha256,
        },
    }
