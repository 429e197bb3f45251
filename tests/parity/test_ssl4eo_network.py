"""SSL4EO-S12 backbones against torchgeo's own, and the files that they are loaded from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rs_embed_core import PointBuffer
from rs_embed_core.checkpoints import Checkpoints
from rs_embed_core.errors import CheckpointError, Unsupported
from rs_embed_core.networks.ssl4eo import build
from rs_embed_core.plan import plan
from rs_embed_core.plan import recipe as recipe_of
from rs_embed_core.prepare import prepare
from rs_embed_core.providers.array import ArrayProvider
from rs_embed_core.registry import get_card
from rs_embed_core.specs.request import Ask, model_config_from
from tests.parity.golden import Case, cases, load_case, load_keys, recipe
from tests.parity.layouts import ssl4eo as layout

NETWORK_CASES = cases("ssl4eo", level="network")
TINY_CASES = [name for name in NETWORK_CASES if name.startswith("tiny")]


def _full_size(name: str) -> object:
    return pytest.param(name, marks=() if name in TINY_CASES else pytest.mark.full)


every_case = pytest.mark.parametrize("name", [_full_size(name) for name in NETWORK_CASES])
tiny_cases = pytest.mark.parametrize("name", TINY_CASES)


def _build(case: Case) -> nn.Module:
    module = build(**dict(layout.build(case.spec)))
    layout.fill_network(case, module)
    return module.eval()


def _image(case: Case) -> Tensor:
    """The case's image, normalised by the statistics that it was made with."""
    given, statistics = case.spec["input"], case.spec["normalization"]
    patch = given["patch"]
    pixels = recipe.patch(tuple(patch["shape"]), seed=patch["seed"], low=patch["low"], high=patch["high"])
    pixels = pixels * np.float32(given.get("multiply", 1)) + np.float32(given.get("offset", 0))
    mean, std = (np.float32(statistics[name])[:, None, None] for name in ("mean", "std"))
    return torch.from_numpy((pixels - mean) / std)[None]


def test_cases_exist() -> None:
    names = ("vit_small", "resnet50", "resnet18", "s1_resnet50")
    assert {f"{size}{name}_network" for name in names for size in ("tiny_", "")} == set(NETWORK_CASES)


@every_case
def test_network(name: str) -> None:
    case = load_case("ssl4eo", name)
    module, image = _build(case), _image(case)
    with torch.inference_mode():
        features = module(image)
    if "tokens" in case.tensors:
        first, patches = features.pooled_mean[0], features.grid[0].flatten(1).T  # [196, D], row by row
        case.check("tokens", torch.cat([first[None], patches]))
        case.check("pooled", first)
        assert torch.equal(features.pooled_max, features.pooled_mean)
    else:
        case.check("features", features.grid[0])
        case.check("pooled", features.grid[0].mean(dim=(1, 2)))
        assert features.pooled_mean is features.pooled_max is None


@every_case
def test_state_dict_is_the_published_one(name: str) -> None:
    case = load_case("ssl4eo", name)
    with torch.device("meta"):
        module = build(**dict(layout.build(case.spec)))
    shapes = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    assert shapes == load_keys("ssl4eo", case.spec["keys"])


@tiny_cases
def test_batch_equals_single_runs(name: str) -> None:
    case = load_case("ssl4eo", name)
    module, image = _build(case), _image(case)
    images = torch.cat([image, image.flip(-1), image * 0.5])
    with torch.inference_mode():
        together = module(images).grid
        alone = torch.cat([module(images[i : i + 1]).grid for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=0.0, atol=1e-5 * float(alone.abs().max()))
    assert not torch.allclose(alone[0], alone[1], rtol=1e-3, atol=0)  # the image matters


@tiny_cases
def test_unfit_image_is_refused(name: str) -> None:
    case = load_case("ssl4eo", name)
    bands = case.spec["network"]["bands"]
    for shape in ((1, bands + 1, 224, 224), (1, bands, 224, 256), (bands, 224, 224)):
        with pytest.raises(ValueError, match=rf"image must be \[B, {bands}, 224, 224\]"):
            _build(case)(torch.zeros(shape))


def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(ValueError, match="vit_small, resnet50, resnet18"):
        build(architecture="vgg", bands=13)


# --- what is prepared for it, and what may be asked ----------------------------------------------------------


def _prepared(pixels: np.ndarray, modality: str) -> np.ndarray:
    request = plan(Ask("ssl4eo", modality=modality).at(PointBuffer(121.5, 31.2, 1120)))
    image: np.ndarray = prepare(ArrayProvider(pixels).fetch(request.fetch), request).samples[0].image
    return image


def test_reflectances_are_neither_clipped_nor_centred() -> None:
    pixels = np.full((13, 224, 224), 12_000, np.float32)
    pixels[10], pixels[3, :, :112] = 7, np.nan  # cirrus; half of B4
    image = _prepared(pixels, "s2_l1c")
    np.testing.assert_array_equal(image[[0, 10], 5, 5], np.float32([1.2, 7e-4]))
    np.testing.assert_array_equal(image[3, 5, [5, 200]], np.float32([0, 1.2]))


def test_what_radar_did_not_see_is_average() -> None:
    pixels = np.full((2, 224, 224), -15, np.float32)
    pixels[1, :, :112] = np.nan
    image = _prepared(pixels, "s1")
    np.testing.assert_allclose(image[:, 5, 5], [(-15 + 12.59) / 5.26, 0], rtol=1e-5)
    np.testing.assert_allclose(image[:, 5, 200], [(-15 + 12.59) / 5.26, (-15 + 20.26) / 5.91], rtol=1e-5)


def test_radar_is_read_in_decibels_and_optical_imagery_at_the_top_of_the_atmosphere() -> None:
    radar, optical = (recipe_of(Ask("ssl4eo", modality=name)).read for name in ("s1", "s2_l1c"))
    assert (radar.linear, radar.cloudy_pct) == (False, None)
    assert (optical.collection, len(optical.bands)) == ("COPERNICUS/S2_HARMONIZED", 13)


def test_sentinel_1_has_one_network() -> None:
    assert recipe_of(Ask("ssl4eo", modality="s1")).selection.variant == "resnet50_moco"
    with pytest.raises(Unsupported, match="no variant vit_small_dino for modality s1") as caught:
        recipe_of(Ask("ssl4eo", modality="s1", model_config=model_config_from({"variant": "vit_small_dino"})))
    assert "resnet50_moco" in caught.value.hint


@pytest.mark.parametrize(("variant", "cells"), [("vit_small_moco", 16), ("resnet18_moco", 32)])
def test_a_cell_is_as_large_as_the_network_makes_it(variant: str, cells: int) -> None:
    recipe = recipe_of(Ask("ssl4eo", model_config=model_config_from({"variant": variant})))
    assert recipe.input.shape_for(recipe.selection.settings).patch_size == cells


# --- the published file --------------------------------------------------------------------------------------


def _load(case: Case, change: Callable[[dict[str, Tensor]], dict[str, Tensor]], root: Path) -> None:
    """Load a network from its file after a change, and compare."""
    weights = get_card("ssl4eo")[0].variant(case.spec["variant"], case.spec["modality"]).weights
    assert weights is not None
    path = root / weights.repo / weights.file
    path.parent.mkdir(parents=True)
    module = _build(case)
    layout.write(change(module.state_dict()), path)
    loaded = build(**dict(layout.build(case.spec)))
    Checkpoints(root, offline=True).load(weights, loaded)
    ours, theirs = loaded.state_dict(), module.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def _less(ending: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda state: {key: value for key, value in state.items() if not key.endswith(ending)}


def _more(key: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda state: {**state, key: torch.zeros(3)}


@tiny_cases
@pytest.mark.parametrize("change", [dict, _less("num_batches_tracked"), _more("head.bias"), _more("fc.bias")])
def test_a_published_file_loads(
    name: str, change: Callable[[dict[str, Tensor]], dict[str, Tensor]], tmp_path: Path
) -> None:
    _load(load_case("ssl4eo", name), change, tmp_path)


@pytest.mark.parametrize(
    ("name", "change", "named"),
    [
        ("tiny_vit_small_network", _less("pos_embed"), "1 missing: pos_embed"),
        ("tiny_vit_small_network", _less("norm.weight"), r"1 missing: norm\.weight"),
        ("tiny_vit_small_network", _more("fc_norm.weight"), r"1 unexpected: fc_norm\.weight"),
        ("tiny_resnet50_network", _less("layer1.0.bn1.running_mean"), r"missing: layer1\.0\.bn1\.running_mean"),
        ("tiny_resnet18_network", _more("layer1.0.conv3.weight"), r"1 unexpected: layer1\.0\.conv3\.weight"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    name: str, change: Callable[[dict[str, Tensor]], dict[str, Tensor]], named: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=named):
        _load(load_case("ssl4eo", name), change, tmp_path)
