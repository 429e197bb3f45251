"""One number, three homes: the library in this process, HTTP, and the handle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import xarray as xr

from rs_embed_core import BBox, Embedding, OutputSpec, PointBuffer, get_embedding
from serve_app.client import EmbeddingClient
from tests.serve.calls import SUMMER, assert_close, facts, places

MODELS = ("mosaiks", "galileo")


@dataclass(frozen=True)
class Case:
    """One way to ask."""

    name: str
    spatial: PointBuffer | BBox
    output: OutputSpec
    input_prep: str = "resize"


_SQUARE = PointBuffer(11.5, 48.1, 320)
_BOX = BBox(11.50, 48.10, 11.512, 48.104)
_LARGE = {"mosaiks": PointBuffer(11.5, 48.1, 1700), "galileo": PointBuffer(11.5, 48.1, 500)}  # 2 x 2 tiles


def _cases(model: str) -> list[Case]:
    mean, largest, grid = OutputSpec.pooled("mean"), OutputSpec.pooled("max"), OutputSpec.grid()
    return [
        Case("mean", _SQUARE, mean),
        Case("max", _SQUARE, largest),
        Case("grid", _SQUARE, grid),
        Case("tiled-mean", _LARGE[model], mean, "tile"),
        Case("tiled-grid", _LARGE[model], grid, "tile"),
        Case("box-mean", _BOX, mean),
        Case("box-max", _BOX, largest),
        Case("box-grid", _BOX, grid),
    ]


def _same(ours: Embedding, expected: Embedding) -> None:
    assert ours.data.dtype == expected.data.dtype == np.float32
    np.testing.assert_array_equal(np.asarray(ours.data), np.asarray(expected.data))
    assert facts(ours) == facts(expected)
    if isinstance(expected.data, xr.DataArray):
        xr.testing.assert_identical(ours.data, expected.data)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(
    ("model", "case"),
    [pytest.param(model, case, id=f"{model}-{case.name}") for model in MODELS for case in _cases(model)],
)
def test_the_same_number_everywhere(model: str, case: Case, client: EmbeddingClient, handle: EmbeddingClient) -> None:
    arguments = {
        "spatial": case.spatial,
        "temporal": SUMMER,
        "output": case.output,
        "input_prep": case.input_prep,
    }
    expected = get_embedding(model, device="cpu", **arguments)
    _same(client.get_embedding(model, **arguments), expected)
    _same(handle.get_embedding(model, **arguments), expected)


@pytest.mark.parametrize("model", MODELS)
def test_many_at_once_are_the_same_as_one_by_one(model: str, client: EmbeddingClient) -> None:
    """Chips of two sizes, so that a batch is cut into groups of equal signature."""
    spatials = [*places(5, buffer_m=80), *places(5, buffer_m=200), *places(5, buffer_m=120)][::-1]
    together = client.get_embeddings_batch(model, spatials=spatials, temporal=SUMMER)
    assert len(together) == len(spatials)
    for spatial, ours in zip(spatials, together, strict=True):
        alone = client.get_embedding(model, spatial=spatial, temporal=SUMMER)
        assert_close(ours, alone)
        assert facts(ours) == facts(alone)


def test_grids_of_many_sizes_in_one_request(client: EmbeddingClient) -> None:
    spatials = [_SQUARE, _BOX, PointBuffer(11.5, 48.1, 160), _SQUARE]
    arguments = {"temporal": SUMMER, "output": OutputSpec.grid()}
    together = client.get_embeddings_batch("mosaiks", spatials=spatials, **arguments)
    for spatial, ours in zip(spatials, together, strict=True):
        alone = client.get_embedding("mosaiks", spatial=spatial, **arguments)
        assert_close(ours, alone)
        assert facts(ours) == facts(alone)


def test_options_variants_and_aliases_travel(client: EmbeddingClient, handle: EmbeddingClient) -> None:
    arguments = {
        "spatial": _SQUARE,
        "temporal": SUMMER,
        "model_config": {"variant": "nano", "patch_size": 4, "preprocessing": "official"},
    }
    ours = client.get_embedding("GALILEO", **arguments)
    _same(handle.get_embedding("galileo", **arguments), ours)
    assert ours.meta["model_config"]["patch_size"] == 4
    assert ours.meta["checkpoint"]["file"] == "models/nano/encoder.pt"
