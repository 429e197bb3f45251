"""Every end-to-end golden case: raw sensor values in, embedding out, through the public API and the real loader."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import rs_embed_core
from rs_embed_core import OutputSpec
from rs_embed_core.providers import register_provider
from rs_embed_core.registry import get_card, list_models, register_model
from tests.parity import layouts
from tests.parity.asked import LEVELS, arguments, imagery
from tests.parity.golden import cases, load_case
from tests.parity.published import publish

_LAYOUTS = {module.name for module in pkgutil.iter_modules(layouts.__path__)}
MODELS = sorted(_LAYOUTS & set(list_models()))
_SMALL = ("tiny", "nano", "presto", "real")


def _params() -> Iterator[object]:
    for model in MODELS:
        for level in LEVELS:
            for name in cases(model, level=level):
                marks = [] if name.startswith(_SMALL) else [pytest.mark.full]
                yield pytest.param(model, name, marks=marks, id=f"{model}-{name}")


@pytest.fixture
def restore() -> Iterator[None]:
    """Cards and defaults as they were."""
    kept = [get_card(model)[0] for model in MODELS]
    yield
    for card in kept:
        register_model(card)
    rs_embed_core.configure()


@pytest.mark.usefixtures("restore")
@pytest.mark.parametrize(("model", "name"), list(_params()))
def test_end_to_end(model: str, name: str, tmp_path: Path) -> None:
    case = load_case(model, name)
    register_model(publish(case, tmp_path))
    rs_embed_core.configure(checkpoints_root=tmp_path, offline=True)
    register_provider("golden", imagery(case))
    asked = arguments(case)
    for output, tensor in (
        (OutputSpec.pooled(), "pooled_mean"),
        (OutputSpec.pooled("max"), "pooled_max"),
        (OutputSpec.grid(), "grid"),
    ):
        ours = rs_embed_core.get_embedding(model, output=output, backend="golden", device="cpu", **asked)
        case.check(tensor, np.asarray(ours.data))


def test_every_model_with_weights_has_a_layout() -> None:
    cards = [get_card(model)[0] for model in list_models()]
    assert {card.id for card in cards if any(variant.weights for variant in card.variants.values())} == _LAYOUTS
