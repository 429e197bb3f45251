"""Every card prepares what its network takes."""

from __future__ import annotations

import inspect
import itertools
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from rs_embed_core import InputPrepSpec, PointBuffer
from rs_embed_core.card import ModelCard
from rs_embed_core.chip import Chip
from rs_embed_core.plan import Plan, plan, read_scale, recipe
from rs_embed_core.prepare import example, prepare
from rs_embed_core.registry import get_card
from rs_embed_core.sample import Batch
from rs_embed_core.specs.request import Ask, OptionValue, model_config_from
from tests.contracts.cards import NETWORKS, every_network, named, settings_of


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


@every_ask
def test_an_example_warms_the_network_up(ask):
    """The network takes exactly the arrays that are prepared, and answers in the dimension that the card says."""
    batch = example(ask)
    assert len(batch) == 1
    assert all(np.isfinite(array).all() for array in batch.arrays.values())
    card, _ = get_card(ask.model)
    selection = recipe(ask).selection
    shapes = {name: array.shape[1:] for name, array in batch.arrays.items()}
    build = named(card.network)
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
    for setting in settings_of(card):
        batch = example(Ask(card.id, model_config=model_config_from(setting)))
        assert all(np.isfinite(array).all() for array in batch.arrays.values()), setting


@every_network
def test_a_tile_without_imagery_fails_no_roi(card):
    for entry, setting in itertools.product(card.inputs, settings_of(card)):
        if setting.get("variant", "") not in {"", *card.variants_of(entry.modality)}:
            continue
        config = model_config_from(setting)
        ask = Ask(card.id, model_config=config, modality=entry.modality, input_prep=InputPrepSpec.tile(tile_size=80))
        prepared = prepare(*_half_seen(ask, tile=80))
        assert len(prepared.samples) >= 4
        arrays = [array for sample in prepared.samples for array in sample.arrays.values()]
        assert all(np.isfinite(array).all() for array in arrays), setting


def _half_seen(ask: Ask, tile: int) -> tuple[Chip, Plan]:
    """A chip of at least two by two tiles, of which those in the west have no pixel."""
    shared = recipe(ask)
    request = plan(ask.at(PointBuffer(0, 0, tile * read_scale(shared))))
    grid, frames = request.fetch.grid, request.fetch.frames
    valid = np.ones((len(frames), grid.height, grid.width), np.bool_)
    valid[..., :tile] = False
    shape = (len(frames), len(shared.bands), grid.height, grid.width)
    seen = np.random.default_rng(1).uniform(300, 4000, shape).astype(np.float32)
    data = np.where(valid[:, None], seen, np.float32(0))
    return Chip(data, grid, shared.bands, frames, "test", request.fetch.collection, valid), request


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
