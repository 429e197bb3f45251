"""CLIP's image towers against open_clip's whole models with the recipe's weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from rs_embed_core.networks.clip_visual import build
from tests.parity.golden import Case, assert_close, cases, fill, load_case, load_keys, recipe

# CLIP's image statistics, golden/remoteclip/spec.md.
MEAN = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32)[:, None, None]
STD = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32)[:, None, None]

TINY_CASES = [name for name in cases("remoteclip", level="network") if name.startswith("tiny")]
NETWORK_CASES = [
    name if name in TINY_CASES else pytest.param(name, marks=pytest.mark.full)
    for name in cases("remoteclip", level="network")
]
CHECKPOINT_PREFIX = "model.visual."  # the recipe sees the published names


def _build(case: Case) -> nn.Module:
    network = case.spec["network"]
    shipped = case.spec["variant"] == network["model_name"]
    module = build(model_name=network["model_name"], config=None if shipped else network["config"])
    fill(module, prefix=CHECKPOINT_PREFIX)
    if gain := network.get("weight_gain"):
        with torch.no_grad():
            for weight in module.parameters():
                if weight.ndim == gain["ndim"]:
                    weight.mul_(gain["factor"])
    return module.eval()


def _image(case: Case) -> torch.Tensor:
    arguments = case.spec["input"]
    values = recipe.patch(
        tuple(arguments["shape"]), seed=arguments["seed"], low=arguments["low"], high=arguments["high"]
    )
    grey = np.trunc(np.clip(values / np.float32(10_000), 0, 1) * np.float32(255))
    return torch.from_numpy((grey / np.float32(255) - MEAN) / STD)[None]  # [1, 3, 224, 224]


def _visual_keys(case: Case) -> dict[str, tuple[int, ...]]:
    published = load_keys("remoteclip", case.spec["keys"])
    return {
        key.removeprefix(CHECKPOINT_PREFIX): shape
        for key, shape in published.items()
        if key.startswith(CHECKPOINT_PREFIX)
    }


def test_cases_exist() -> None:
    assert {"tiny_vit_network", "tiny_rn_network"} == set(TINY_CASES)


@pytest.mark.parametrize("name", NETWORK_CASES)
def test_network(name: str) -> None:
    case = load_case("remoteclip", name)
    image = _image(case)
    if "network_input" in case.tensors:
        assert_close(image[0], case.tensors["network_input"])
    module = _build(case)
    assert {key: tuple(value.shape) for key, value in module.state_dict().items()} == _visual_keys(case)
    with torch.inference_mode():
        features = module(image)
    assert_close(features.grid[0], case.tensors["feature_map"])
    assert_close(features.pooled_mean[0], case.tensors["image_features"])
    assert_close(features.pooled_max[0], case.tensors["image_features"])


@pytest.mark.parametrize("name", TINY_CASES)
def test_batch_equals_single_runs(name: str) -> None:
    case = load_case("remoteclip", name)
    module = _build(case)
    image = torch.cat([_image(case), _image(case).flip(-1), _image(case) * 0.5])
    with torch.inference_mode():
        together = module(image)
        alone = [module(image[i : i + 1]) for i in range(len(image))]
    for field in ("grid", "pooled_mean"):
        expected = torch.cat([getattr(single, field) for single in alone])
        torch.testing.assert_close(
            getattr(together, field), expected, rtol=0.0, atol=1e-5 * float(expected.abs().max())
        )


@pytest.mark.parametrize("name", TINY_CASES)
@pytest.mark.parametrize("shape", [(1, 4, 224, 224), (1, 3, 192, 224), (3, 224, 224)])
def test_unfit_image_is_refused(name: str, shape: tuple[int, ...]) -> None:
    module = _build(load_case("remoteclip", name))
    with pytest.raises(ValueError, match=r"image must be \[B, 3, 224, 224\]"):
        module(torch.zeros(shape))


@pytest.mark.parametrize("model_name", ["ViT-Z-1", "hf-hub:someone/something"])
def test_unknown_name_is_refused(model_name: str) -> None:
    with pytest.raises(ValueError, match="ships no configuration"):
        build(model_name=model_name)


@pytest.mark.parametrize("model_name", ["ViT-B-32-quickgelu", "convnext_base", "coca_ViT-B-32"])
def test_other_networks_are_refused(model_name: str) -> None:
    with pytest.raises(ValueError, match="not a plain CLIP image tower"):
        build(model_name=model_name)
