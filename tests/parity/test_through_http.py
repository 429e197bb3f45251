"""Every model embeds a place through real HTTP, with the recipe's weights in the published layout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import rs_embed_core
from rs_embed_core import BBox, OutputSpec, PointBuffer, TemporalSpec, list_models
from rs_embed_core.registry import get_card, register_model
from serve_app.client import EmbeddingClient
from tests.parity.golden import load_case
from tests.parity.published import SMALL, publish
from tests.unit.http_service import local_service

SUMMER = TemporalSpec.range("2022-06-01", "2022-09-01")
POINT = PointBuffer(8.5, 47.3, 320)
BOX = BBox(8.5, 47.3, 8.512, 47.304)
NETWORKS = [model for model in list_models() if get_card(model)[0].product is None]
OTHERS = {
    ("croma", "s1"): "tiny_s1",
    ("croma", "joint"): "tiny_joint",
    ("satmaepp", "s2_10b"): "tiny_s2_10b_resize",
    ("ssl4eo", "s1"): "tiny_s1_resnet50",
    ("terrafm", "s1"): "tiny_s1",
}


def _params() -> Iterator[object]:
    for model in NETWORKS:
        for entry in get_card(model)[0].inputs:
            yield pytest.param(model, entry.modality, id=f"{model}-{entry.modality}")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with local_service() as address:
        yield address


@pytest.fixture
def restore() -> Iterator[None]:
    """Cards and defaults as they were."""
    kept = [get_card(model)[0] for model in NETWORKS]
    yield
    for card in kept:
        register_model(card)
    rs_embed_core.configure()


def test_every_model_with_weights_has_a_small_case() -> None:
    with_weights = {m for m in NETWORKS if any(v.weights for v in get_card(m)[0].variants.values())}
    assert with_weights == SMALL.keys()


@pytest.mark.usefixtures("restore")
@pytest.mark.parametrize(("model", "modality"), list(_params()))
def test_a_model_embeds_a_place_through_http(model: str, modality: str, url: str, tmp_path: Path) -> None:
    card = get_card(model)[0]
    if model in SMALL:
        card = publish(load_case(model, OTHERS.get((model, modality), SMALL[model])), tmp_path)
        register_model(card)
        rs_embed_core.configure(checkpoints_root=tmp_path, offline=True)
    with EmbeddingClient(url) as client:
        point, box = client.get_embeddings_batch(model, spatials=[POINT, BOX], temporal=SUMMER, modality=modality)
        grid = client.get_embedding(
            model, spatial=BOX, temporal=SUMMER, modality=modality, output=OutputSpec.grid(), input_prep="tile"
        )
    for vector in (point, box):
        assert np.isfinite(vector.data).all()
        assert vector.data.shape == point.data.shape
    assert not np.array_equal(point.data, box.data)
    assert grid.data.ndim == 3
    assert np.isfinite(grid.data).all()
    assert grid.meta["crs"] == "EPSG:3857"
    said = point.meta
    assert (said["model"], said["modality"]) == (model, modality)
    assert (said["checkpoint"] is None) == (model == "mosaiks")
    departs = [notice["code"] for notice in said["notices"]]  # type: ignore[index,union-attr]
    assert ("preprocessing" in departs) == bool(card.departs)
