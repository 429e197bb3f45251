"""The Galileo encoder against the published implementation."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from rs_embed_core.networks.galileo import GalileoEncoder, build
from tests.parity.golden import Case, assert_close, cases, fill, golden_file, load_case, load_keys, recipe

# Sentinel-2 statistics of golden/galileo/spec.md, B2 B3 B4 B5 B6 B7 B8 B8A B11 B12.
MEAN = np.array(
    [
        *(1395.3408730676722, 1338.4026921784578, 1343.09883810357, 1543.8607982512297, 2186.2022069512263),
        *(2525.0932853316694, 2410.3377187373408, 2750.2854646886753, 2234.911100061487, 1474.5311266077113),
    ]
)
STD = np.array(
    [
        *(917.7041440370853, 913.2988423581528, 1092.678723527555, 1047.2206083460424, 1048.0101611156767),
        *(1143.6903026819996, 1098.979177731649, 1204.472755085893, 1145.9774063078878, 980.2429840007796),
    ]
)

NETWORK_CASES = cases("galileo", level="network")
REAL = golden_file("galileo", "nano.safetensors")
PUBLISHED_SIZES = {  # those whose keys are at hand: nano's lie in the repository
    "nano.keys.json": {"dim": 128, "depth": 4, "heads": 8},
    "variant_tiny.keys.json": {"dim": 192, "depth": 12, "heads": 3},
    "base.keys.json": {"dim": 768, "depth": 12, "heads": 12},
}


def _build(case: Case) -> GalileoEncoder:
    config = case.spec["config"]
    module = build(
        dim=config["embedding_size"],
        depth=config["depth"],
        heads=config["num_heads"],
        max_frames=config["max_sequence_length"],
        max_patch_size=config["max_patch_size"],
    )
    if case.spec["weights"]["source"] == "recipe":
        fill(module)
    else:
        module.load_state_dict(load_file(golden_file("galileo", case.spec["weights"]["source"])), strict=True)
    return module.eval()


def _image(case: Case) -> torch.Tensor:
    arguments = case.spec["input"]
    values = recipe.patch(
        tuple(arguments["shape"]), seed=arguments["seed"], low=arguments["low"], high=arguments["high"]
    )
    if case.spec["normalization"] == "official_stats":
        values = ((values - MEAN[:, None, None]) / STD[:, None, None]).astype(np.float32)
    return torch.from_numpy(values)[None]  # [1, T, 10, H, W]


def _shapes(module: GalileoEncoder) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in module.state_dict().items()}


def _tiny() -> GalileoEncoder:
    module = build(dim=32, depth=2, heads=4)
    fill(module)
    return module.eval()


def test_cases_exist() -> None:
    assert {"tiny_network_p4", "tiny_network_p8"} <= set(NETWORK_CASES)
    assert ("real_nano_network" in NETWORK_CASES) == REAL.exists()


@pytest.mark.parametrize("name", NETWORK_CASES)
def test_network(name: str) -> None:
    case = load_case("galileo", name)
    module = _build(case)
    assert _shapes(module) == load_keys("galileo", case.spec["keys"])
    side_inputs = case.spec["side_inputs"]
    with torch.inference_mode():
        features = module(
            _image(case),
            torch.tensor([side_inputs["months_0_based"]]),
            patch_size=side_inputs["patch_size"],
            exit_norm=side_inputs["add_layernorm_on_exit"],
        )
    assert features.pooled_mean is None
    assert features.pooled_max is None
    assert_close(features.grid[0].flatten(1).T, case.tensors["patch_mean"])
    # The published vector is the mean over tokens; ours is the mean over the grid.
    assert_close(features.grid[0].mean(dim=(1, 2)), case.tensors["pooled_mean"])
    tokens = case.tensors["tokens_s2"][0]  # [h, w, T, 5, D]
    assert_close(features.grid[0].permute(1, 2, 0), tokens.mean(axis=(2, 3)))


@pytest.mark.parametrize("filename", [name for name in PUBLISHED_SIZES if golden_file("galileo", name).exists()])
def test_state_dict_of_published_size(filename: str) -> None:
    with torch.device("meta"):
        module = build(**PUBLISHED_SIZES[filename])
    assert _shapes(module) == load_keys("galileo", filename)


@pytest.mark.skipif(not REAL.exists(), reason="the real weights lie in ../shared/golden")
def test_fixed_tables_are_the_published_ones() -> None:
    encoder = json.loads(golden_file("galileo", "nano_config.json").read_text())["model"]["encoder"]
    module = build(dim=encoder["embedding_size"], depth=encoder["depth"], heads=encoder["num_heads"])
    published = load_file(REAL)
    assert_close(module.pos_embed, published["pos_embed"])
    assert_close(module.month_embed.weight, published["month_embed.weight"])


@pytest.mark.parametrize("patch_size", [4, 8, 16])
def test_batch_equals_single_runs(patch_size: int) -> None:
    module = _tiny()
    image = torch.from_numpy(recipe.patch((3, 2, 10, 32, 32), seed=5))
    months = torch.tensor([[0, 11], [5, 6], [3, 3]])
    with torch.inference_mode():
        together = module(image, months, patch_size=patch_size).grid
        alone = torch.cat([module(image[i : i + 1], months[i : i + 1], patch_size=patch_size).grid for i in range(3)])
    assert together.shape == (3, 32, 32 // patch_size, 32 // patch_size)
    torch.testing.assert_close(together, alone, rtol=0.0, atol=1e-5 * float(alone.abs().max()))


def test_every_input_matters() -> None:
    module = _tiny()
    image = torch.from_numpy(recipe.patch((1, 2, 10, 16, 16), seed=5)) / 1000
    months = torch.tensor([[0, 6]])
    with torch.inference_mode():
        base = module(image, months).grid
        for channel in range(10):
            changed = image.clone()
            changed[:, :, channel] += 1
            assert not torch.allclose(module(changed, months).grid, base, atol=1e-5)
        assert not torch.allclose(module(image, torch.tensor([[0, 7]])).grid, base, atol=1e-5)
        assert not torch.allclose(module(image, months, exit_norm=False).grid, base, atol=1e-5)


def test_kernels_resized_in_inference_mode_still_train() -> None:
    module = _tiny()
    image = torch.from_numpy(recipe.patch((1, 1, 10, 16, 16), seed=5))
    with torch.inference_mode():
        module(image, torch.tensor([[0]]), patch_size=2)
    module(image, torch.tensor([[0]]), patch_size=2).grid.sum().backward()
    projection = module.space_time_embed["S2_RGB"].proj
    assert projection.weight.grad is not None


@pytest.mark.parametrize(
    ("shape", "months", "patch_size", "message"),
    [
        ((1, 2, 12, 16, 16), (1, 2), 8, r"image must be \[B, T, 10, H, W\]"),
        ((1, 10, 16, 16), (1, 1), 8, r"image must be \[B, T, 10, H, W\]"),
        ((1, 25, 10, 16, 16), (1, 25), 8, "24 time slots, got a series of 25 frames"),
        ((1, 0, 10, 16, 16), (1, 0), 8, "got a series of 0 frames"),
        ((1, 2, 10, 16, 16), (1, 3), 8, "months must be"),
        ((1, 2, 10, 16, 16), (1, 2), 5, "a multiple of patch_size=5"),
        ((1, 2, 10, 16, 16), (1, 2), 0, "patch_size=0"),
        ((1, 2, 10, 16, 8), (1, 2), 8, "square"),
    ],
)
def test_unfit_input_is_refused(shape: tuple[int, ...], months: tuple[int, ...], patch_size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _tiny()(torch.zeros(shape), torch.zeros(months, dtype=torch.int64), patch_size=patch_size)


@pytest.mark.parametrize(("dim", "heads"), [(24, 4), (32, 5)])
def test_unfit_width_is_refused(dim: int, heads: int) -> None:
    with pytest.raises(ValueError, match="multiple of 16"):
        build(dim=dim, depth=1, heads=heads)
