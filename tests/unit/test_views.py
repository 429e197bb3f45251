"""What is taken of a network's features: cells of a series, rectangular ROIs, padded grids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import rs_embed_core
from rs_embed_core import BBox, OutputSpec, PointBuffer, get_embedding
from rs_embed_core.checkpoints import Checkpoints
from rs_embed_core.encoder import Encoder
from rs_embed_core.inputs import Shape
from rs_embed_core.networks.prithvi import build
from rs_embed_core.plan import plan, recipe
from rs_embed_core.prepare import example, prepare
from rs_embed_core.providers import get_provider
from rs_embed_core.sample import Batch, View
from rs_embed_core.specs.request import Ask
from tests.parity.golden import fill, load_case
from tests.parity.published import publish
from tests.unit.small_cards import registered

RECTANGLE = BBox(11.5, 48.1, 11.53, 48.105)


def test_the_maximum_of_a_series_is_taken_over_time_first(tmp_path: Path) -> None:
    with registered(publish(load_case("prithvi", "tiny_single"), tmp_path)) as card:
        ask = Ask("prithvi")
        one = example(ask)
        image = one.arrays["image"] * np.array([1, 0.2, 3], np.float32).reshape(1, 3, 1, 1, 1)
        corner = (0.0, 0.5, 0.0, 0.5)
        views = (
            View(pooling="max"),
            View(pooling="max", inset=corner, head=False),
            View("grid", pooling="max"),
            View("grid", pooling="mean"),
        )
        batch = Batch({**one.arrays, "image": image}, (), ())
        batch = Batch({name: np.repeat(array, len(views), axis=0) for name, array in batch.arrays.items()}, (), views)
        encoder = Encoder(card, card.default_variant, checkpoints=Checkpoints(tmp_path, offline=True), device="cpu")
        most, window, cells, mean = (token.data for token in encoder.forward(batch, recipe(ask).selection)[0])
    module = build(dim=64, depth=2, heads=4).eval()
    fill(module, prefix="encoder.")
    tokens: list[torch.Tensor] = []
    module.norm.register_forward_hook(lambda *call: tokens.append(call[2]))
    with torch.inference_mode():
        module(**{name: torch.from_numpy(array[:1]) for name, array in batch.arrays.items()})
    series = tokens[0][0, 1:].reshape(3, 14, 14, 64).numpy()  # [T, h, w, D]
    np.testing.assert_allclose(most, series.max(axis=(0, 1, 2)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(window, series[:, :7, :7].max(axis=(0, 1, 2)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(cells, series.max(axis=0).transpose(2, 0, 1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(mean, series.mean(axis=0).transpose(2, 0, 1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("model", "pooling"), [("clay", "mean"), ("dofa", "mean"), ("prithvi", "max")])
def test_the_vector_of_a_rectangle(model: str, pooling: str) -> None:
    """A model that pools in one way answers with the mean of the cells, also where the maximum is asked for."""
    for spatial, expected in ((RECTANGLE, pooling), (PointBuffer(11.5, 48.1, 500), "max")):
        request = plan(Ask(model, output=OutputSpec.pooled("max")).at(spatial))
        view = prepare(get_provider("synthetic").fetch(request.fetch), request).samples[0].view
        assert view.pooling == expected
        assert view.head is (spatial is not RECTANGLE)


@pytest.mark.parametrize(("pooling", "model", "name"), [("max", "clay", "mean"), ("max", "prithvi", "max")])
def test_the_meta_names_the_pooling_of_a_rectangle(pooling: str, model: str, name: str, tmp_path: Path) -> None:
    case = "tiny_native" if model == "clay" else "tiny_single"
    with registered(publish(load_case(model, case), tmp_path)):
        rs_embed_core.configure(checkpoints_root=tmp_path, offline=True)
        try:
            output = OutputSpec.pooled(pooling)
            ours = get_embedding(
                model, spatial=RECTANGLE, output=output, backend="synthetic", device="cpu", input_prep="resize"
            )
        finally:
            rs_embed_core.configure()
    assert ours.meta["pooling"] == f"roi_grid_{name}"


def test_a_padded_grid_reaches_beyond_the_pixels() -> None:
    shape = Shape(224, 16, fit="whole")
    assert shape.extent(200, 210) == (0, 208, 0, 224)
    assert shape.extent(208, 224) == (0, 208, 0, 224)
