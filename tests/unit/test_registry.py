from __future__ import annotations

from dataclasses import replace

import pytest

from rs_embed_core import PointBuffer, describe_model, get_embedding, list_models, register_model
from rs_embed_core.card import Alias
from rs_embed_core.errors import InvalidRequest, ProviderError, UnknownModel
from rs_embed_core.registry import generation, get_card
from rs_embed_core.weights import HubFile
from tests.unit.small_cards import averages_card, registered


def test_models_are_listed_sorted():
    models = list_models()
    assert models == sorted(models)
    assert {"dofa", "galileo", "mosaiks", "remoteclip"} <= set(models)
    everything = list_models(include_aliases=True)
    assert everything == sorted(everything)
    assert set(models) < set(everything)
    assert "remoteclip_s2rgb" in everything


@pytest.mark.parametrize("name", ["dofa", "DOFA", " dofa "])
def test_names_are_forgiving(name):
    card, alias = get_card(name)
    assert (card.id, alias) == ("dofa", None)


def test_an_alias_says_that_it_was_one():
    card, alias = get_card("RemoteCLIP-S2RGB")
    assert (card.id, alias) == ("remoteclip", Alias("remoteclip_s2rgb"))
    assert describe_model("remoteclip_s2rgb") == describe_model("remoteclip")


@pytest.mark.parametrize(
    ("name", "near"), [("galilleo", "galileo"), ("mosaik", "mosaiks"), ("remoteclip_rgb", "remoteclip_s2rgb")]
)
def test_an_unknown_name_gets_the_nearest_ones(name, near):
    with pytest.raises(UnknownModel, match=f"no model '{name}'") as caught:
        get_card(name)
    assert near in caught.value.context["nearest"]
    assert f"Did you mean {caught.value.context['nearest'][0]}" in caught.value.hint
    with pytest.raises(UnknownModel):
        describe_model(name)


@pytest.mark.parametrize("name", [None, 5, ["mosaiks"]])
def test_what_is_no_name_is_refused(name):
    for ask in (get_card, describe_model):
        with pytest.raises(InvalidRequest, match="model is ") as caught:
            ask(name)
        assert "list_models" in caught.value.hint


def test_a_name_like_no_other_gets_the_list():
    with pytest.raises(UnknownModel) as caught:
        get_card("xyzzy1234")
    assert caught.value.hint == f"Known models: {', '.join(list_models())}."


def test_a_modality_s_own_network_needs_its_weights_too():
    card, _ = get_card("mosaiks")
    assert describe_model("mosaiks")["needs_weights"] is False
    own = {card.default_variant: replace(card.variants[card.default_variant], weights=HubFile("a/b", "c.pt", "1"))}
    radar = replace(card.inputs[0], modality="s1", variants=own)
    with registered(replace(card, inputs=(*card.inputs, radar))):
        assert describe_model("mosaiks")["needs_weights"] is True


def test_a_registered_card_is_used_at_once_and_the_old_one_again_after():
    place = PointBuffer(0, 0, 320)
    before, count = get_embedding("mosaiks", spatial=place, device="cpu"), generation()
    with registered(replace(averages_card(), title="Averages")):
        assert generation() > count
        assert describe_model("mosaiks")["title"] == "Averages"
        with pytest.raises(ProviderError, match="'ANY'"):
            get_embedding("mosaiks", spatial=place, device="cpu")
    after = get_embedding("mosaiks", spatial=place, device="cpu")
    assert (after.data == before.data).all()
    assert describe_model("mosaiks")["title"].startswith("MOSAIKS")


def test_registering_the_same_card_changes_the_generation():
    card, _ = get_card("mosaiks")
    count = generation()
    register_model(card)
    assert generation() > count
