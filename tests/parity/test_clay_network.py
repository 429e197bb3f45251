"""The Clay encoder against the published implementation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rs_embed_core.checkpoints import Checkpoints
from rs_embed_core.errors import CheckpointError
from rs_embed_core.networks.clay import Clay, build
from rs_embed_core.registry import get_card
from tests.parity.golden import Case, assert_close, cases, fill, golden_file, load_case, load_keys, present, recipe
from tests.parity.layouts import clay as layout

# Mean and standard deviation of golden/clay/spec.md, B2 B3 B4 B5 B6 B7 B8 B8A B11 B12.
MEAN = np.array([1105, 1355, 1552, 1887, 2422, 2630, 2743, 2785, 2388, 1835], np.float32)[:, None, None]
STD = np.array([1809, 1757, 1888, 1870, 1732, 1697, 1742, 1648, 1470, 1379], np.float32)[:, None, None]
WAVES = (0.493, 0.56, 0.665, 0.704, 0.74, 0.783, 0.842, 0.865, 1.61, 2.19)
TINY = {"dim": 64, "depth": 2, "heads": 2, "dim_head": 32, "mlp_ratio": 2}
SIZES = {
    "tiny": TINY,
    "size_tiny": {"dim": 192, "depth": 6, "heads": 4, "dim_head": 48, "mlp_ratio": 2},
    "size_small": {"dim": 384, "depth": 6, "heads": 6, "mlp_ratio": 2},
    "size_base": {"dim": 768, "depth": 12, "heads": 12},
    "large": {"dim": 1024, "depth": 24, "heads": 16},
}
NETWORK_CASES = cases("clay", level="network")


def _full_size(name: str) -> object:
    return pytest.param(name, marks=() if name.startswith("tiny") else pytest.mark.full)


def _image(case: Case) -> Tensor:
    arguments = case.spec["input"]
    values = recipe.patch(
        tuple(arguments["shape"]), seed=arguments["seed"], low=arguments["low"], high=arguments["high"]
    )
    image = (values - MEAN) / STD
    if "network_input" in case.tensors:
        case.check("network_input", image)
    return torch.from_numpy(image)[None]  # [1, 10, H, W]


def _tiny() -> Clay:
    module = build(**TINY)
    fill(module)
    return module.eval()


def _inputs(batch: int = 1, waves: tuple[float, ...] = WAVES) -> dict[str, Tensor]:
    """Arguments of a forward; each sample has its own pixel size, time and place."""
    values = recipe.patch((batch, len(waves), 64, 64), seed=5)
    steps = torch.arange(batch)[:, None]
    angles = torch.tensor([[3.0, 0.0]]) + steps
    return {
        "image": torch.from_numpy((values - np.float32(2000)) / np.float32(1000)),
        "waves": torch.tensor([waves] * batch),
        "gsd": 10.0 + 10 * steps[:, 0],
        "time": torch.cat([angles.sin(), angles.cos()], dim=1),
        "latlon": torch.cat([angles.cos(), angles.sin()], dim=1),
    }


def test_cases_exist() -> None:
    assert "tiny_network" in NETWORK_CASES


@pytest.mark.parametrize("name", [_full_size(name) for name in NETWORK_CASES])
def test_network(name: str) -> None:
    case = load_case("clay", name)
    module = build(**dict(layout.build(case.spec))).eval()
    layout.fill_network(case, module)
    side = case.spec["side_inputs"]
    tokens: list[Tensor] = []
    module.transformer.register_forward_hook(lambda *call: tokens.append(call[2]))

    with torch.inference_mode():
        features = module(
            image=_image(case),
            waves=torch.tensor([side["waves"]]),
            gsd=torch.tensor([side["gsd"]]),
            time=torch.tensor([side["time"]]),
            latlon=torch.tensor([side["latlon"]]),
        )

    case.check("tokens", tokens[0][0])
    assert_close(features.grid[0].flatten(1).T, tokens[0][0, 1:])
    assert torch.equal(features.pooled_mean[0], tokens[0][0, 0])
    assert torch.equal(features.pooled_max[0], tokens[0][0, 0])


@pytest.mark.parametrize("size", [_full_size(size) for size in SIZES])
def test_state_dict_is_the_published_one(size: str) -> None:
    if not golden_file("clay", f"{size}.keys.json").exists():
        pytest.skip("the full-size keys are in ../shared/golden")
    with torch.device("meta"):
        module = build(**SIZES[size])
    shapes = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    assert shapes == load_keys("clay", f"{size}.keys.json")


def test_the_card_has_the_published_sizes() -> None:
    variants = get_card("clay")[0].variants
    published = {name.removeprefix("size_"): build for name, build in SIZES.items() if name != "tiny"}
    assert {name: dict(variant.build) for name, variant in variants.items()} == published


def test_layer_norms_have_the_published_eps() -> None:
    assert {layer.eps for layer in _tiny().modules() if isinstance(layer, nn.LayerNorm)} == {1e-5}


def test_batch_equals_single_runs() -> None:
    module = _tiny()
    inputs = _inputs(batch=3)
    with torch.inference_mode():
        together = module(**inputs)
        for i in range(3):
            alone = module(**{name: value[i : i + 1] for name, value in inputs.items()})
            for ours, single in zip(present(together), present(alone), strict=True):
                torch.testing.assert_close(ours[i], single[0], rtol=1e-5, atol=1e-5)


def test_any_set_of_bands_with_its_own_wavelengths() -> None:
    module = _tiny()
    inputs = _inputs(waves=(0.493, 1.61))
    swapped = inputs | {"image": inputs["image"].flip(1), "waves": inputs["waves"].flip(1)}
    with torch.inference_mode():
        first = module(**inputs).grid
        torch.testing.assert_close(module(**swapped).grid, first, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(module(**inputs | {"waves": inputs["waves"].flip(1)}).grid, first, atol=1e-5)


def test_every_side_input_matters() -> None:
    module = _tiny()
    inputs = _inputs()
    with torch.inference_mode():
        base = module(**inputs).grid
        for name in ("gsd", "time", "latlon"):
            assert not torch.allclose(module(**inputs | {name: inputs[name] + 0.5}).grid, base, atol=1e-5)


def test_positions_by_hand() -> None:
    """What is added to the token of column 3 and row 2, in the published order of channels."""
    module = build(**TINY | {"depth": 0}).eval()
    seen: list[Tensor] = []
    module.transformer.register_forward_pre_hook(lambda *call: seen.append(call[1][0]))
    inputs = _inputs()
    with torch.inference_mode():
        module(**inputs)
        patches = module.patch_embedding(inputs["image"], inputs["waves"][0])
    added = (seen[0][0, 1:].unflatten(0, (8, 8)) - patches[0].permute(1, 2, 0))[2, 3]  # [D]
    t = np.arange(14) / 13
    w = 10 / 10_000 ** (2 * t / 56)
    expected = [np.sin(3 * w), np.cos(3 * w), np.sin(2 * w), np.cos(2 * w), inputs["time"][0], inputs["latlon"][0]]
    np.testing.assert_allclose(added.numpy(), np.concatenate(expected), atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(60, 64), (64, 60), (4, 4)])
def test_images_that_are_no_whole_patches_are_refused(height: int, width: int) -> None:
    inputs = _inputs() | {"image": torch.zeros(1, 10, height, width)}
    with pytest.raises(ValueError, match=f"multiples of 8 pixels, got {height} x {width}"):
        _tiny()(**inputs)


def test_training_reaches_the_generator() -> None:
    module = _tiny().train()
    module(**_inputs()).pooled_mean.square().sum().backward()
    gradient = module.patch_embedding.weight_generator.weight_tokens.grad
    assert gradient is not None
    assert gradient.abs().sum() > 0


def test_the_published_layout_loads_strictly(tmp_path: Path) -> None:
    weights = get_card("clay")[0].variants["large"].weights
    assert weights is not None
    path = tmp_path / weights.repo / weights.file
    path.parent.mkdir(parents=True)
    state = _tiny().state_dict()
    loaded = build(**TINY)
    alone = {f"encoder.{key}": value for key, value in state.items()}  # an export of the model without its trainer
    for write in (layout.write, lambda state, path: torch.save({"state_dict": alone}, path)):
        write(state, path)
        loaded.cls_token.data.fill_(7)
        Checkpoints(tmp_path, offline=True).load(weights, loaded)
        assert all(torch.equal(value, state[key]) for key, value in loaded.state_dict().items())

    layout.write({key: value for key, value in state.items() if key != "cls_token"}, path)
    with pytest.raises(CheckpointError, match="1 missing: cls_token"):
        Checkpoints(tmp_path, offline=True).load(weights, loaded)
    layout.write({**state, "transformer.layers.9.1.net.1.bias": torch.zeros(8)}, path)
    with pytest.raises(CheckpointError, match=r"1 unexpected: transformer\.layers\.9\.1\.net\.1\.bias"):
        Checkpoints(tmp_path, offline=True).load(weights, loaded)
