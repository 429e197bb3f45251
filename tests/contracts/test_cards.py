"""True of every card, every variant, every modality."""

from __future__ import annotations

import importlib
import inspect
import json
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from rs_embed_core import (
    TemporalSpec,
    UserData,
    describe_model,
    get_embedding_from_data,
    list_models,
    list_models_for_data,
)
from rs_embed_core.card import ModelCard
from rs_embed_core.errors import InvalidInput, InvalidRequest, UnknownOption, Unsupported
from rs_embed_core.option import Option
from rs_embed_core.plan import recipe
from rs_embed_core.prepare import example
from rs_embed_core.preprocessing.time import CalendarYear
from rs_embed_core.preprocessing.values import Standardize
from rs_embed_core.providers import provider_names
from rs_embed_core.registry import get_card
from rs_embed_core.sample import Batch
from rs_embed_core.specs.request import Ask, OptionValue, model_config_from

CARDS = [get_card(model)[0] for model in list_models()]
NETWORKS = [card for card in CARDS if card.product is None]
every_card = pytest.mark.parametrize("card", CARDS, ids=lambda card: card.id)
every_network = pytest.mark.parametrize("card", NETWORKS, ids=lambda card: card.id)
every_product = pytest.mark.parametrize("card", [card for card in CARDS if card.product], ids=lambda card: card.id)
_IS_TYPE = {
    "integer": lambda value: type(value) is int,
    "number": lambda value: type(value) is float,
    "string": lambda value: type(value) is str,
    "boolean": lambda value: type(value) is bool,
}


def _settings(card: ModelCard) -> Iterator[dict[str, OptionValue]]:
    """The defaults, every variant, and every option by itself at each of its choices or limits."""
    yield {}
    yield from ({"variant": variant} for variant in card.variants)
    for option in card.options:
        limits = (option.minimum, option.maximum)
        values = option.choices or [type(option.default)(limit) for limit in limits if limit is not None]
        for value in values or ([True, False] if option.default in (True, False) else []):
            yield {option.name: value}


def _small(card: ModelCard) -> dict[str, OptionValue]:
    """The smallest image from 32 pixels on, where the side is free: a long sequence tells no more than a short one."""
    for option in card.options:
        if option.name == "image_size" and option.minimum is not None:
            step = int(option.multiple_of or 1)
            return {"image_size": -(-max(32, int(option.minimum)) // step) * step}
    return {}


def _asks() -> Iterator[object]:
    for card in NETWORKS:
        for entry in card.inputs:
            for variant in card.variants_of(entry.modality):
                config = model_config_from({"variant": variant, **_small(card)})
                ask = Ask(card.id, model_config=config, modality=entry.modality)
                yield pytest.param(ask, id=f"{card.id}-{variant}-{entry.modality}")


every_ask = pytest.mark.parametrize("ask", list(_asks()))


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
    for setting in _settings(card):
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


@every_product
def test_a_product_has_a_provider_and_no_network(card):
    assert card.network is None
    assert card.product.provider in provider_names()
    assert not any(variant.weights for variant in card.variants.values())
    page = describe_model(card.id)
    assert (page["type"], page["provider"]) == ("precomputed", card.product.provider)
    for entry in card.inputs:
        assert len(entry.bands) == card.variants[card.default_variant].dim
        assert isinstance(entry.time, CalendarYear)


@every_product
def test_a_product_is_asked_for_whole_years(card):
    summer = recipe(Ask(card.id, temporal=TemporalSpec.range("2021-06-01", "2022-03-01")))
    assert summer.frames == recipe(Ask(card.id, temporal=TemporalSpec.year(2021))).frames
    assert [notice.code for notice in summer.notices] == ["whole_year"]
    if card.default_window is None:
        with pytest.raises(InvalidRequest, match="needs a year"):
            recipe(Ask(card.id))


@every_product
def test_a_product_takes_no_pixels_of_the_caller(card):
    with pytest.raises(Unsupported, match="precomputed"):
        get_embedding_from_data(card.id, UserData(np.zeros((1, 4, 4), np.float32), "C"))
    assert card.id not in list_models_for_data(card.inputs[0].collection)


@every_card
def test_weights_name_a_repository_and_a_file(card):
    for variant in card.variants.values():
        if variant.weights is not None:
            assert re.fullmatch(r"[\w.-]+/[\w.-]+", variant.weights.repo)
            assert variant.weights.file.endswith((".pt", ".pth", ".safetensors", ".bin", ".ckpt"))
            assert variant.weights.revision
            assert variant.weights.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", variant.weights.sha256)
            if variant.weights.convert:
                assert callable(_named(variant.weights.convert))
        assert variant.batch_size >= 1


@every_ask
def test_an_example_warms_the_network_up(ask):
    """The network takes exactly the arrays that are prepared, and answers in the dimension that the card says."""
    batch = example(ask)
    assert len(batch) == 1
    assert all(np.isfinite(array).all() for array in batch.arrays.values())
    card, _ = get_card(ask.model)
    selection = recipe(ask).selection
    shapes = {name: array.shape[1:] for name, array in batch.arrays.items()}
    build = _named(card.network)
    arguments = card.build_arguments(selection, shapes)
    inspect.signature(build).bind(**arguments)
    with torch.device("meta"):  # no memory, no arithmetic: shapes only
        network = build(**arguments)
    taken = inspect.signature(network.forward).parameters
    assert set(batch.arrays) | dict(batch.params).keys() <= set(taken)
    millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    variant = card.variant(selection.variant, selection.modality)
    assert round(millions, 1) == variant.parameters_m
    if "depth" in arguments:  # one block says as much; it is small enough to compute
        network = build(**arguments | {"depth": 1})
    grid, pooled = _shapes_of(network.eval(), batch)
    assert (pooled or grid)[1] == variant.dim
    if selection.variant == card.default_variant:
        shape = card.input(selection.modality).shape_for(selection.settings)
        assert grid[2:] == (shape.image_size // shape.patch_size,) * 2


def _shapes_of(network: torch.nn.Module, batch: Batch) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    device = next(network.parameters(), torch.empty(0)).device
    arrays = {name: torch.from_numpy(array).to(device) for name, array in batch.arrays.items()}
    with torch.inference_mode():
        features = network(**arrays, **dict(batch.params))
    return tuple(features.grid.shape), None if features.pooled_mean is None else tuple(features.pooled_mean.shape)


@every_network
def test_every_setting_prepares_an_example(card):
    for setting in _settings(card):
        batch = example(Ask(card.id, model_config=model_config_from(setting)))
        assert all(np.isfinite(array).all() for array in batch.arrays.values()), setting


def _named(path: str) -> object:
    module, name = path.split(":")
    return vars(importlib.import_module(module))[name]


def test_cards_prepare_without_torch():
    program = (
        "from rs_embed_core import describe_model, list_models\n"
        "from rs_embed_core.prepare import example\n"
        "from rs_embed_core.specs.request import Ask\n"
        "for model in list_models(include_aliases=True):\n"
        "    if describe_model(model)['type'] == 'on_the_fly': example(Ask(model))\n"
        "import sys; sys.exit(str([n for n in ('torch', 'ray', 'timm', 'open_clip') if n in sys.modules] or ''))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""


def test_chains_read_the_same_in_every_process():
    program = (
        "from rs_embed_core import describe_model, list_models\n"
        "print([entry['preprocessing'] for model in list_models() for entry in describe_model(model)['inputs']])"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
    assert len(texts) == 1


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
