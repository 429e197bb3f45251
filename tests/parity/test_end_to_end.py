"""Every end-to-end golden case: raw sensor values in, embedding out, through the public API and the real loader."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rs_embed_core
from rs_embed_core import BBox, FetchSpec, OutputSpec, PointBuffer, TemporalSpec
from rs_embed_core.providers import register_provider
from rs_embed_core.providers.array import ArrayProvider
from rs_embed_core.registry import get_card, register_model
from tests.parity import layouts
from tests.parity.golden import Case, cases, load_case, recipe
from tests.parity.published import publish

MODELS = sorted(module.name for module in pkgutil.iter_modules(layouts.__path__))
_SMALL = ("tiny", "nano", "real_nano")
_GALILEO_OPTIONS = {
    "RS_EMBED_GALILEO_NORM": "normalization",
    "RS_EMBED_GALILEO_PATCH": "patch_size",
    "RS_EMBED_GALILEO_MONTH": "month",
    "RS_EMBED_GALILEO_ADD_LN": "exit_norm",
    "RS_EMBED_GALILEO_IMG": "image_size",
}


def _params() -> Iterator[object]:
    for model in MODELS:
        for level in ("end_to_end", "embed"):
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
    register_provider("golden", ArrayProvider(_imagery(case.spec["input"])))
    for output, tensor in (
        (OutputSpec.pooled(), "pooled_mean"),
        (OutputSpec.pooled("max"), "pooled_max"),
        (OutputSpec.grid(), "grid"),
    ):
        ours = rs_embed_core.get_embedding(
            model,
            spatial=_spatial(case.spec["spatial"]),
            temporal=_temporal(case.spec["temporal"]),
            fetch=FetchSpec(scale_m=case.spec.get("fetch", {}).get("scale_m")),
            modality=case.spec.get("modality"),
            model_config=_options(case),
            output=output,
            backend="golden",
            device="cpu",
            input_prep=case.spec["input_prep"],
        )
        case.check(tensor, np.asarray(ours.data))


def _imagery(given: Mapping[str, Any]) -> np.ndarray:
    pixels = recipe.patch(tuple(given["shape"]), seed=given["seed"], low=given["low"], high=given["high"])
    return pixels * np.float32(given.get("scale", 1))


def _spatial(given: Mapping[str, Any]) -> BBox | PointBuffer:
    return BBox(**given["bbox"]) if "bbox" in given else PointBuffer(**given["point"])


def _temporal(given: Mapping[str, Any]) -> TemporalSpec:
    return TemporalSpec.year(given["year"]) if "year" in given else TemporalSpec.range(**given)


def _options(case: Case) -> dict[str, Any]:
    """The case's configuration; the reference's environment settings are options of ours."""
    layout = importlib.import_module(f"tests.parity.layouts.{case.model}")
    if "options" in vars(layout):
        return dict(layout.options(case))
    options = {k: v for k, v in (case.spec.get("model_config") or {}).items() if k not in ("model_id", "variant")}
    card, _ = get_card(case.model)
    defaults = {option.name: option.default for option in card.options}
    for variable, value in case.spec.get("environment", {}).items():
        name = _GALILEO_OPTIONS[variable]
        options[name] = bool(int(value)) if isinstance(defaults[name], bool) else type(defaults[name])(value)
    return options
