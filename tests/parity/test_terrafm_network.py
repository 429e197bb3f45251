"""The TerraFM encoder and its preparation against the published implementation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rs_embed_core.card import Selection
from rs_embed_core.checkpoints import Checkpoints
from rs_embed_core.errors import CheckpointError, InvalidInput
from rs_embed_core.inputs import Input
from rs_embed_core.models.terrafm import CARD
from rs_embed_core.networks.features import Features
from rs_embed_core.networks.terrafm import TerraFM, build
from rs_embed_core.sample import Sample
from rs_embed_core.specs.request import Ask
from tests.parity.golden import Case, cases, fill, golden_file, load_case, load_keys, recipe
from tests.parity.layouts.terrafm import write
from tests.parity.published import publish

SIZES = {
    "tiny": {"dim": 48, "depth": 2, "heads": 4},
    "tiny64": {"dim": 48, "depth": 2, "heads": 4, "image_size": 64},
    "base": {"dim": 768, "depth": 12, "heads": 12},
}


def _marked(names: list[str]) -> list[object]:
    return [pytest.param(name, marks=() if name.startswith("tiny") else pytest.mark.full) for name in names]


def _tiny() -> TerraFM:
    module = build(**SIZES["tiny64"])
    fill(module)
    return module.eval()


def _pixels(case: Case) -> NDArray[np.float32]:
    given = case.spec["input"]
    pixels = recipe.patch(tuple(given["shape"]), seed=given["seed"], low=given["low"], high=given["high"])
    return pixels * np.float32(given.get("scale", 1))


def _prepared(entry: Input, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    return entry.chain_for({})(Sample({"image": pixels[None]}, entry.bands)).image


def _image(channels: int, batch: int = 2) -> Tensor:
    return torch.from_numpy(recipe.patch((batch, channels, 64, 64), seed=5) / np.float32(10_000))


def _select(**config: str) -> Selection:
    return CARD.select(Ask("terrafm", model_config=tuple(config.items())))


def test_cases_exist() -> None:
    assert {"tiny64_s1_network", "tiny64_s2_network"} <= set(cases("terrafm", level="network"))


@pytest.mark.parametrize("name", _marked(cases("terrafm", level="network")))
def test_network(name: str) -> None:
    case = load_case("terrafm", name)
    module = build(**SIZES[case.spec["network"]["name"]])
    fill(module, prefix=case.spec["network"]["recipe_prefix"])
    pixels = _pixels(case)
    if case.spec["modality"] == "s2":
        image = np.clip(pixels / np.float32(10_000), 0, 1)
    else:
        power = np.log1p(pixels)
        image = np.clip(power / np.percentile(power, 99), 0, 1).astype(np.float32)
    case.check("network_input", image)
    with torch.inference_mode():
        features = module.eval()(torch.from_numpy(image)[None])
    case.check("tokens", _tokens(features)[0])
    assert features.pooled_max is features.pooled_mean


def _tokens(features: Features) -> Tensor:
    """``[B, 1 + h w, D]``: the class token, then the patches row by row."""
    assert features.pooled_mean is not None
    return torch.cat([features.pooled_mean[:, None], features.grid.flatten(2).transpose(1, 2)], dim=1)


@pytest.mark.parametrize(
    "name",
    [name for name in cases("terrafm", level="end_to_end") if "network_input" in load_case("terrafm", name).tensors],
)
def test_preparation(name: str) -> None:
    case = load_case("terrafm", name)
    case.check("network_input", _prepared(CARD.input(case.spec["modality"]), _pixels(case)))


@pytest.mark.parametrize("size", _marked(list(SIZES)))
def test_state_dict_is_the_published_one(size: str) -> None:
    if not golden_file("terrafm", f"{size}.keys.json").exists():
        pytest.skip("the full-size keys are in ../shared/golden")
    with torch.device("meta"):
        module = build(**SIZES[size])
    shapes = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    assert shapes == load_keys("terrafm", f"{size}.keys.json")


def test_layer_norms_have_the_published_eps() -> None:
    eps = {name: layer.eps for name, layer in _tiny().named_modules() if isinstance(layer, nn.LayerNorm)}
    assert eps.pop("patch_embed.projection.norm_input") == 1e-5
    assert len(eps) == 5  # two blocks of two, and the last
    assert set(eps.values()) == {1e-6}


@pytest.mark.parametrize("channels", [12, 2])
def test_batch_equals_single_runs(channels: int) -> None:
    module, image = _tiny(), _image(channels, batch=3)
    with torch.inference_mode():
        together = _tokens(module(image))
        alone = torch.cat([_tokens(module(image[i : i + 1])) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


def test_official_takes_the_convolution_of_surface_reflectance() -> None:
    module, image = _tiny(), _image(12)
    params = dict(CARD.params(_select(preprocessing="official")))
    with torch.inference_mode():
        default = _tokens(module(image))
        official = _tokens(module(image, **params))
        assert torch.equal(default, _tokens(module(image, **dict(CARD.params(_select())))))
        assert not torch.allclose(default, official, rtol=1e-3, atol=1e-3)
        _swap_levels(module)
        assert torch.equal(official, _tokens(module(image)))
        assert torch.equal(default, _tokens(module(image, **params)))


def _swap_levels(module: TerraFM) -> None:
    """Exchange the weights for the two levels of Sentinel-2."""
    state = module.state_dict()
    names = {"l2a": "l1c", "l1c": "l2a"}
    swapped = {}
    for key, value in state.items():
        level = next((level for level in names if f"s2_{level}" in key), None)
        swapped[key if level is None else key.replace(level, names[level])] = value.clone()
    module.load_state_dict(swapped)


def test_official_changes_nothing_for_radar() -> None:
    module, image = _tiny(), _image(2)
    with torch.inference_mode():
        default, official = module(image), module(image, preprocessing="official")
    assert torch.equal(_tokens(default), _tokens(official))


def test_radar_is_scaled_by_both_polarisations_together() -> None:
    power = np.stack([np.full((224, 224), np.e - 1), np.zeros((224, 224))]).astype(np.float32)
    power[0, :100] = -1  # below the noise: 0 after the logarithm
    power[0, 100:102] = np.e**2 - 1  # 448 of 100352 values: the 99th percentile lies below them
    image = _prepared(CARD.input("s1"), power)
    np.testing.assert_array_equal(image[1], 0)
    np.testing.assert_array_equal(image[0, :100], 0)
    np.testing.assert_allclose(image[0, 100:], 1, rtol=1e-6)


def test_missing_and_dark_radar() -> None:
    entry = CARD.input("s1")
    np.testing.assert_array_equal(_prepared(entry, np.zeros((2, 30, 20), np.float32)), np.zeros((2, 224, 224)))
    with pytest.raises(InvalidInput, match="decibels"):
        _prepared(entry, np.full((2, 30, 20), -12, np.float32))


def test_what_is_not_square_is_stretched() -> None:
    columns = np.broadcast_to(np.arange(112, dtype=np.float32) * 10, (12, 224, 112))
    image = _prepared(CARD.input("s2"), np.ascontiguousarray(columns))
    assert image.shape == (12, 224, 224)
    np.testing.assert_allclose(image[3, 7, 1:-1:2], (np.arange(111) + 0.25) / 1000, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 13, 64, 64), (1, 12, 224, 224), (1, 2, 64, 48), (12, 64, 64)])
def test_unfit_images_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\[B, 12 or 2, 64, 64\]"):
        _tiny()(torch.zeros(shape))


def test_a_file_with_other_keys_is_refused(tmp_path: Path) -> None:
    case = load_case("terrafm", "tiny_s2")
    variant = publish(case, tmp_path).variants["tiny"]
    assert variant.weights is not None
    network = build(**SIZES["tiny"])
    checkpoints = Checkpoints(tmp_path, offline=True)
    checkpoints.load(variant.weights, network)
    state = network.state_dict()
    path = tmp_path / variant.weights.repo / variant.weights.file
    without = {key: value for key, value in state.items() if key != "patch_embed.s1_embed"}
    for changed, named in (
        (without, "missing: patch_embed.s1_embed"),
        ({**state, "queries": state["norm.bias"]}, "unexpected: queries"),
    ):
        write(changed, path)
        with pytest.raises(CheckpointError, match=named):
            checkpoints.load(variant.weights, network)
