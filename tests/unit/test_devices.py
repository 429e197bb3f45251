"""Devices and precision, and the networks that an encoder keeps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from rs_embed_core.encoder import resolve_device
from rs_embed_core.errors import Unsupported
from rs_embed_core.plan import recipe
from rs_embed_core.registry import get_card, register_model
from rs_embed_core.specs.request import Ask
from tests.unit.small_cards import averages_card, registered
from tests.unit.small_encoders import batch_of, encoder


def test_auto_takes_the_best_device_there_is():
    best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert resolve_device("auto").type == best
    assert encoder(get_card("mosaiks")[0], device="auto").device == best
    assert resolve_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "", "mps:7"])
def test_a_device_that_is_not_here_is_refused(device):
    with pytest.raises(Unsupported, match="auto, cpu, cuda or mps") as caught:
        encoder(get_card("mosaiks")[0], device=device)
    assert repr(device) in str(caught.value)


def test_an_unknown_precision_is_refused():
    with pytest.raises(Unsupported, match="bfloat16") as caught:
        encoder(get_card("mosaiks")[0], precision="float8")
    assert "'float8'" in str(caught.value)


def test_a_device_that_answers_nothing_is_not_alive():
    card, _ = get_card("mosaiks")
    assert encoder(card, device="auto").alive()
    assert not encoder(card, device="meta").alive()  # it has shapes and no values: like a GPU that a fault has ended


def test_arrays_that_may_not_be_written_are_taken():
    card, _ = get_card("mosaiks")
    batch, selection = batch_of(Ask("mosaiks"), 2)
    frozen = batch.arrays["image"].copy()
    frozen.flags.writeable = False
    shared = replace(batch, arrays={"image": frozen})
    turned = replace(batch, arrays={"image": np.asfortranarray(frozen)})
    model = encoder(card)
    expected = model.forward(batch, selection)[0][1].data
    for other in (shared, turned):
        np.testing.assert_array_equal(model.forward(other, selection)[0][1].data, expected)


def test_networks_are_kept_but_not_without_end():
    model = encoder(get_card("mosaiks")[0])
    pairs = [batch_of(Ask("mosaiks", model_config=(("seed", seed), ("features", 8))), 1) for seed in range(6)]
    first = model.load(pairs[0][1], pairs[0][0])
    for batch, selection in pairs[1:4]:
        model.load(selection, batch)
    assert model.load(pairs[0][1], pairs[0][0]) is first  # four are kept, and this is now the newest
    second = model.load(pairs[1][1], pairs[1][0])
    for batch, selection in (pairs[4], pairs[0], pairs[1]):
        model.load(selection, batch)
    assert model.load(pairs[0][1], pairs[0][0]) is first
    assert model.load(pairs[1][1], pairs[1][0]) is second
    for batch, selection in pairs[2:6]:
        model.load(selection, batch)
    again = model.load(pairs[0][1], pairs[0][0])
    assert again is not first
    assert torch.equal(again.network.weights, first.network.weights)


def test_options_reach_the_constructor_or_the_forward():
    card, _ = get_card("galileo")
    selection = recipe(Ask("galileo", model_config=(("patch_size", 4), ("n_frames", 2)))).selection
    assert card.build_arguments(selection, {}) == {"dim": 128, "depth": 4, "heads": 8}
    assert card.params(selection) == (("patch_size", 4), ("exit_norm", True))
    card, _ = get_card("mosaiks")
    selection = recipe(Ask("mosaiks", model_config=(("bias", -2), ("seed", 3)))).selection
    assert card.params(selection) == ()
    assert card.build_arguments(selection, {"image": (7, 64, 64)}) == {
        "in_channels": 7, "cell_px": 8, "features": 512, "kernel_size": 3, "bias": -2.0, "seed": 3,
    }  # fmt: skip


def test_a_card_that_replaces_another_is_used_at_once():
    with registered(averages_card()) as card:
        assert get_card("mosaiks")[0] is card
        register_model(replace(card, title="again"))
        assert get_card("mosaiks")[0].title == "again"
    assert get_card("mosaiks")[0].title.startswith("MOSAIKS")
