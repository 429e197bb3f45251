"""True of every card, every variant, every modality."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Iterator

import pytest

from rs_embed_core import (
    describe_model,
)
from rs_embed_core.errors import InvalidInput, UnknownOption, Unsupported
from rs_embed_core.option import Option
from rs_embed_core.plan import recipe
from rs_embed_core.preprocessing.values import Standardize
from rs_embed_core.registry import get_card
from rs_embed_core.specs.request import Ask, OptionValue, model_config_from
from tests.contracts.cards import CARDS, every_card, every_network, named, settings_of

_IS_TYPE = {
    "integer": lambda value: type(value) is int,
    "number": lambda value: type(value) is float,
    "string": lambda value: type(value) is str,
    "boolean": lambda value: type(value) is bool,
}


@every_card
def test_a_card_describes_itself_as_json(card):
    page = describe_model(card.id)
    assert json.loads(json.dumps(page)) == page
    assert page["id"] == card.id
    assert page["default_variant"] in page["variants"]
    assert all(card.default_variant in card.variants_of(entry.modality) for entry in card.inputs)
    assert all(entry["preprocessing"] for entry in page["inputs"])
    for text in (card.title, card.summary, card.licence_code, card.licence_weights, *card.notes):
        assert text.strip()
    for link in (card.paper, card.code):
        assert link.startswith("https://")


@every_card
def test_names_are_unique_and_written_one_way(card):
    others = [name for other in CARDS if other is not card for name in (other.id, *(a.name for a in other.aliases))]
    assert re.fullmatch(r"[a-z0-9_]+", card.id)
    for name in (card.id, *(alias.name for alias in card.aliases)):
        assert re.fullmatch(r"[a-z0-9_+]+", name)
        assert name not in others
    variants = [name for key, variant in card.variants.items() for name in (key, *variant.aliases)]
    assert len(set(variants)) == len(variants)
    assert all(re.fullmatch(r"[a-z0-9_]+", name) for name in variants)
    encoders = {card.select(Ask(card.id, model_config=(("variant", name),))).encoder for name in card.variants}
    assert len(encoders) == len(card.variants)
    assert all(re.fullmatch(r"[a-z0-9-]+", name) for name in encoders)


@every_card
def test_aliases_resolve(card):
    for name in (card.id, card.id.upper(), f" {card.id} ", card.id.replace("_", "-")):
        assert get_card(name) == (card, None)
    for alias in card.aliases:
        assert get_card(alias.name.replace("_", "-")) == (card, alias)
        selection = card.select(Ask(alias.name), alias)
        assert selection.model == card.id
        assert selection.variant == (alias.variant or card.default_variant)
    for key, variant in card.variants.items():
        for name in (key, key.upper(), *variant.aliases):
            assert card.select(Ask(card.id, model_config=(("variant", name),))).variant == key


@every_card
def test_the_schema_says_what_select_takes(card):
    schema = describe_model(card.id)["model_config"]
    assert schema["additionalProperties"] is False
    for name, entry in schema["properties"].items():
        assert entry["description"].strip()
        assert _IS_TYPE[entry["type"]](entry["default"])
        limits = [entry[key] for key in ("minimum", "maximum") if key in entry]
        for value in (entry["default"], *entry.get("enum", ()), *limits):
            selection = card.select(Ask(card.id, model_config=((name, value),)))
            chosen = selection.variant if name == "variant" else dict(selection.options)[name]
            assert chosen == value
            assert name == "variant" or type(chosen) is type(entry["default"])
        for value in _outside(entry):
            with pytest.raises(UnknownOption) as caught:
                card.select(Ask(card.id, model_config=((name, value),)))
            assert caught.value.hint


def _outside(entry: dict) -> Iterator[OptionValue]:
    """Values that a schema of one option refuses."""
    yield "no such value"
    if entry["type"] != "boolean":
        yield True
    if entry["type"] in ("integer", "boolean"):
        yield 0.5
    if "minimum" in entry:
        yield entry["minimum"] - 1
    if "maximum" in entry:
        yield entry["maximum"] + entry.get("multipleOf", 1)
    if "multipleOf" in entry:
        yield entry["default"] + 1
    if entry["type"] == "number":
        yield float("nan")


@every_card
def test_an_unknown_key_is_refused_with_the_known_ones(card):
    with pytest.raises(UnknownOption, match="shape_of") as caught:
        card.select(Ask(card.id, model_config=(("shape_of", "base"),)))
    assert caught.value.context["known"] == ["variant", *(option.name for option in card.options)]
    assert all(name in str(caught.value) for name in [*card.variants, *(option.name for option in card.options)])
    for field in ("variant", "modality"):
        ask = Ask(card.id, model_config=(("variant", "huge"),)) if field == "variant" else Ask(card.id, modality="x")
        with pytest.raises(UnknownOption, match=f"no {field}") as caught:
            card.select(ask)
        assert caught.value.context["known"]


def test_an_alias_stands_for_what_it_says():
    for card in CARDS:
        for alias in card.aliases:
            other = next((name for name in card.variants if alias.variant and name != alias.variant), None)
            if other:
                with pytest.raises(Unsupported, match=alias.variant):
                    recipe(Ask(alias.name, model_config=(("variant", other),)))


@every_card
def test_a_chain_is_a_readable_value(card):
    for setting in settings_of(card):
        options = card.select(Ask(card.id, model_config=model_config_from(setting))).settings
        for entry in card.inputs:
            chain = entry.chain_for(options)
            assert chain.text == " -> ".join(map(repr, chain.steps))
            assert "0x" not in chain.text  # no address: the same in every process
            twin = pickle.loads(pickle.dumps(chain))  # noqa: S301 - our own bytes
            assert (twin, hash(twin), twin.text, twin.digest) == (chain, hash(chain), chain.text, chain.digest)
            assert entry.chain_for(options) == chain


@every_card
def test_bands_and_statistics_belong_together(card):
    options = card.defaults
    for entry in card.inputs:
        assert len(set(entry.bands)) == len(entry.bands) > 0
        entry.check_bands(entry.bands, card.id)
        if entry.other_bands == "exact":
            with pytest.raises(InvalidInput, match=card.id):
                entry.check_bands(entry.bands[::-1], card.id)
        if entry.other_bands == "subset":
            entry.check_bands(entry.bands[1::-1], card.id)
            with pytest.raises(InvalidInput, match="B99"):
                entry.check_bands(("B99",), card.id)
        for step in entry.chain_for(options).steps:
            if isinstance(step, Standardize):
                assert dict(step.mean).keys() == dict(step.std).keys() == set(entry.bands)
                assert all(value > 0 for value in dict(step.std).values())


@every_card
def test_weights_name_a_repository_and_a_file(card):
    for variant in card.variants.values():
        if variant.weights is not None:
            assert re.fullmatch(r"[\w.-]+/[\w.-]+", variant.weights.repo)
            assert variant.weights.file.endswith((".pt", ".pth", ".safetensors", ".bin", ".ckpt"))
            assert variant.weights.revision
            assert variant.weights.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", variant.weights.sha256)
            if variant.weights.convert:
                assert callable(named(variant.weights.convert))
        assert variant.batch_size >= 1


@pytest.mark.parametrize(
    ("option", "good", "bad"),
    [
        (Option("n", 4, "", "build", minimum=2, maximum=8, multiple_of=2), [2, 4, 8], [0, 1, 3, 10, 4.0, "4", True]),
        (Option("x", 1.0, "", "build", minimum=0), [0, 0.5, 3], [-1, "1", float("nan"), False]),
        (Option("t", "a", "", "build", choices=("a", "b")), ["a", "B"], ["c", 1]),
        (Option("b", True, "", "build"), [True, False], [1, 0, "true"]),
    ],
)
def test_an_option_takes_its_own_kind_of_value(option, good, bad):
    for value in good:
        assert type(option.check(value, "m")) is type(option.default)
    for value in bad:
        with pytest.raises(UnknownOption, match=f"{option.name}={value!r}".replace("'", ".")):
            option.check(value, "m")


def test_an_option_is_checked_anew_for_every_kind_of_value():
    """1 equals True and 8 equals 8.0, so a remembered answer must not stand in for another type's."""
    for good, bad in (("exit_norm", True), 1), (("patch_size", 8), 8.0):
        assert dict(recipe(Ask("galileo", model_config=(good,))).selection.options)[good[0]] is good[1]
        with pytest.raises(UnknownOption, match=good[0]):
            recipe(Ask("galileo", model_config=((good[0], bad),)))


@every_network
def test_every_network_says_what_a_sample_takes(card):
    for entry in card.inputs:
        assert card.usual_values(entry.modality) > 0
        for name, variant in card.variants_of(entry.modality).items():
            assert variant.sample_mb is not None, name
            assert variant.sample_mb > 0, name
