from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from rs_embed_core.card import ModelCard
from rs_embed_core.errors import CheckpointError, ForwardError, InvalidInput, OutOfMemory
from rs_embed_core.inputs import Variant
from rs_embed_core.memory import free_mb
from rs_embed_core.plan import recipe
from rs_embed_core.registry import get_card, list_models
from rs_embed_core.sample import Batch, View
from rs_embed_core.specs.request import Ask
from rs_embed_core.tiling import TileLayout
from rs_embed_core.tokens import TokenBlock, Tokens
from rs_embed_core.weights import HubFile
from tests.parity.golden import cases, load_case
from tests.parity.published import SMALL, publish
from tests.unit.small_cards import averages_card, crowded_card, failing_card, registered
from tests.unit.small_encoders import QUICK, batch_of, encoder

NETWORKS = [model for model in list_models() if get_card(model)[0].product is None]


def quick(card: ModelCard) -> Ask:
    return Ask(card.id, model_config=QUICK.get(card.id, ()))


# --- every model -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=NETWORKS)
def small(request, tmp_path_factory):
    """Every model at a size that a test can afford: published small weights, or as it is."""
    model = request.param
    if not any(variant.weights for variant in get_card(model)[0].variants.values()):
        yield encoder(get_card(model)[0])
        return
    assert SMALL[model] in cases(model)
    root = tmp_path_factory.mktemp(model)
    with registered(publish(load_case(model, SMALL[model]), root)) as card:
        yield encoder(card, root)


@pytest.mark.parametrize("output", ["pooled", "grid", "inset"])
@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_a_batch_is_its_samples_one_by_one(small, output, pooling):
    view = {"inset": (0.2, 0.6, 0, 1), "head": False} if output == "inset" else {"output": output}
    batch, selection = batch_of(quick(small.card), 4, pooling=pooling, **view)
    together, _ = small.forward(batch, selection)
    alone = [small.forward(batch.take(i, i + 1), selection)[0][0] for i in range(4)]
    scale = max(float(np.abs(token.data).max()) for token in alone)
    for ours, expected in zip(together, alone, strict=True):
        assert ours.data.dtype == np.float32
        assert ours.cells == expected.cells
        np.testing.assert_allclose(ours.data, expected.data, rtol=0, atol=1e-5 * scale)
    assert len({token.data.tobytes() for token in alone}) == 4


def test_bfloat16_runs_and_is_close(small):
    batch, selection = batch_of(quick(small.card), 2)
    exact, info = small.forward(batch, selection)
    rough, how = encoder(small.card, small.root, precision="bfloat16").forward(batch, selection)
    assert (info.precision, how.precision) == ("float32", "bfloat16")
    for ours, expected in zip(rough, exact, strict=True):
        assert ours.data.dtype == np.float32
        assert 0 < np.abs(ours.data - expected.data).max() < 0.1 * np.abs(expected.data).max()


def test_what_computed_a_result_is_told(small):
    batch, selection = batch_of(quick(small.card), 1)
    _, info = small.forward(batch, selection)
    assert info.device == "cpu"
    assert dict(info.versions).keys() == {"rs-embed-serve", "torch", "numpy"}
    weights = small.card.variants[small.card.default_variant].weights
    assert (info.checkpoint is None) == (weights is None)
    if weights is not None:
        assert (info.checkpoint.repo, info.checkpoint.file) == (weights.repo, weights.file)
        assert len(info.checkpoint.sha256) == 64
        with pytest.raises(CheckpointError, match=weights.file):
            encoder(small.card, small.root / "elsewhere").forward(batch, selection)


# --- views -------------------------------------------------------------------------------------------------


def test_every_view_by_hand():
    """Sixteen cells of 8 x 8 equal pixels, numbered row by row; the own vector is the largest pixel."""
    cells = np.arange(16, dtype=np.float32).reshape(4, 4)
    image = np.kron(cells, np.ones((8, 8), np.float32))[None, None]
    layout = TileLayout.of(56, 56, 32)  # tiles from 0 and 24; the second owns from 28, and keeps 3 of its cells
    views = {
        View(): 15,
        View(head=False): 7.5,
        View(pooling="max"): 15,
        View(inset=(0, 0.5, 0, 0.5), head=False): 2.5,
        View(inset=(0, 0.5, 0, 0.5), head=True): 15,
        View(inset=(0, 0.5, 0, 0.5), head=False, pooling="max"): 5,
        View("grid"): cells,
        View("grid", inset=(0.3, 0.5, 0, 0.3)): cells[1:2, 0:2],
        View("grid", tile=(layout, 0)): cells,
        View("grid", tile=(layout, 3)): cells[1:, 1:],
    }
    with registered(averages_card()) as card:
        batch = Batch({"image": np.repeat(image, len(views), axis=0)}, (), tuple(views))
        tokens, _ = encoder(card).forward(batch, recipe(Ask("mosaiks")).selection)
    for token, expected in zip(tokens, views.values(), strict=True):
        np.testing.assert_allclose(token.data[0], expected, rtol=1e-6)
        assert token.cells == (4, 4)


def test_vectors_may_be_pooled_from_other_cells_than_the_grid_s():
    cells = np.arange(16, dtype=np.float32).reshape(4, 4)
    image = np.kron(cells, np.ones((8, 8), np.float32))[None, None]
    views = {
        View(head=False): -7.5,
        View(inset=(0, 0.5, 0, 0.5), head=False): -2.5,
        View(head=False, pooling="max"): -2.5,
        View("grid"): cells,
    }
    with registered(replace(averages_card(), network="tests.unit.small_cards:halves")) as card:
        batch = Batch({"image": np.repeat(image, len(views), axis=0)}, (), tuple(views))
        tokens, _ = encoder(card).forward(batch, recipe(Ask("mosaiks")).selection)
    for token, expected in zip(tokens, views.values(), strict=True):
        np.testing.assert_allclose(token.data[0], expected, rtol=1e-6)
        assert token.cells == (4, 4)


def test_tokens_travel_packed():
    even = [Tokens(np.full(3, i, np.float32), (4, 4)) for i in range(3)]
    odd = [Tokens(np.full((2, i + 1, 1), i, np.float32), (i, 4)) for i in range(3)]
    assert isinstance(TokenBlock.pack(even).data, np.ndarray)
    for tokens in (even, odd):
        for back, token in zip(TokenBlock.pack(tokens).unpack(), tokens, strict=True):
            np.testing.assert_array_equal(back.data, token.data)
            assert back.cells == token.cells


# --- what goes wrong ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "error", "says"),
    [
        ("memory", OutOfMemory, r"mosaiks ran out of memory on cpu with 1 samples \(image \(1, 2, 64, 48\)\)"),
        ("runtime", ForwardError, r"mosaiks failed on 3 samples \(image \(3, 2, 64, 48\)\): the kernel gave up"),
        ("value", InvalidInput, r"mosaiks does not take 3 samples .*: the image is too small"),
        ("nan", ForwardError, "not finite"),
        ("inf", ForwardError, "not finite"),
    ],
)
def test_a_network_that_fails_says_which_and_on_what(how, error, says):
    with registered(failing_card(how)) as card:
        batch, selection = batch_of(Ask("mosaiks"), 3)
        with pytest.raises(error, match=says) as caught:
            encoder(card).forward(batch, selection)
    assert type(caught.value) is error
    assert caught.value.hint or how == "runtime"


def test_a_network_whose_weights_are_missing_is_not_built(tmp_path):
    absent = HubFile("nobody/nothing", "weights.safetensors", "0" * 40)
    card = replace(averages_card(), network="no.such:module", variants={"gaussian": Variant(2, weights=absent)})
    batch, selection = batch_of(Ask("mosaiks"), 1)
    with registered(card), pytest.raises(CheckpointError, match=r"weights\.safetensors"):
        encoder(card, tmp_path).forward(batch, selection)


def test_what_the_device_has_no_room_for_is_computed_in_parts():
    with registered(crowded_card(room=3)) as card:
        small = encoder(card)
        batch, selection = batch_of(Ask(card.id), 13)
        network = small.load(selection, batch).network
        tokens, _ = small.forward(batch, selection)
        assert network.sizes == [13, 6, 3, 3, 3, 3, 1]  # halved until it fits, and nothing is computed twice
        assert small.halvings == 2
        small.forward(batch.take(0, 7), selection)
        assert network.sizes[7:] == [3, 3, 1]  # remembered
    with registered(averages_card()) as card:
        whole, _ = encoder(card).forward(batch, selection)
    assert all(np.array_equal(ours.data, theirs.data) for ours, theirs in zip(tokens, whole, strict=True))


def test_larger_samples_have_less_room():
    with registered(crowded_card(room=4)) as card:
        small = encoder(card)
        batch, selection = batch_of(Ask(card.id), 8)
        network = small.load(selection, batch).network
        small.forward(batch, selection)
        assert network.sizes == [8, 4, 4]
        large = replace(batch, arrays={"image": np.tile(batch.arrays["image"], (1, 1, 2, 1))})
        small.forward(large, selection)
        assert network.sizes[3:] == [2, 2, 2, 2]


def test_a_batch_is_no_larger_than_the_card_says_it_may_be():
    with registered(crowded_card(room=100)) as card:
        free = free_mb(torch.device("cpu"))
        if free is None:
            pytest.skip("this system does not tell its free memory")
        (variant,) = card.variants.values()
        known = replace(card, variants={"gaussian": replace(variant, sample_mb=free / 8)})
        small = encoder(known)
        batch, selection = batch_of(Ask(card.id), 13)  # 64 x 48 pixels: three quarters of the default
        network = small.load(selection, batch).network
        small.forward(batch, selection)
        assert max(network.sizes) in (7, 8, 9)  # 0.8 * free / (0.75 * free / 8), and free memory is not still
        assert sum(network.sizes) == 13


def test_a_value_that_is_not_finite_is_found_in_a_grid_too():
    with registered(failing_card("nan")) as card:
        batch, selection = batch_of(Ask("mosaiks"), 2, output="grid")
        with pytest.raises(ForwardError, match="not finite"):
            encoder(card).forward(batch, selection)


def test_too_small_an_image_is_the_caller_s_affair():
    ask = Ask("mosaiks", model_config=(("kernel_size", 5),))
    batch, selection = batch_of(ask, 1)
    batch = replace(batch, arrays={"image": batch.arrays["image"][..., :4]})
    with pytest.raises(InvalidInput, match="at least 5 px"):
        encoder(get_card("mosaiks")[0]).forward(batch, selection)
