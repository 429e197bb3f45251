"""The DOFA encoder against the published implementation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from rs_embed_core.networks.dofa import Dofa, build
from tests.parity.golden import Case, cases, fill, golden_file, load_case, load_keys, present, recipe

# Mean and standard deviation of golden/dofa/spec.md, on values of 0 to 255.
STATISTICS = {
    "B4": (114.1099739, 77.84352553),
    "B3": (114.81779093, 69.96844919),
    "B2": (126.63977424, 67.42465279),
    "B5": (84.33539309, 64.57022983),
    "B6": (97.84789168, 61.72545487),
    "B7": (103.94461911, 61.34187099),
    "B8": (101.435633, 60.29744676),
    "B11": (72.32804172, 47.88519516),
    "B12": (56.66528851, 42.55886798),
}
WAVELENGTHS_UM = (0.665, 0.56, 0.49, 0.705, 0.74, 0.783, 0.842, 1.61, 2.19)

SIZES = {
    "tiny": {"dim": 64, "depth": 2, "heads": 4},
    "tiny64": {"dim": 64, "depth": 2, "heads": 4, "image_size": 64},
    "base": {"dim": 768, "depth": 12, "heads": 12},
    "large": {"dim": 1024, "depth": 24, "heads": 16},
}
NETWORK_CASES = cases("dofa", level="network")


def _full_size(name: str) -> object:
    return pytest.param(name, marks=() if name.startswith("tiny") else pytest.mark.full)


def _build(case: Case) -> Dofa:
    config = case.spec["network"]["config"]
    module = build(
        dim=config["embed_dim"],
        depth=config["depth"],
        heads=config["num_heads"],
        patch_size=config["patch_size"],
        image_size=config["img_size"],
    )
    fill(module, prefix=case.spec["network"]["recipe_prefix"])
    return module.eval()


def _image(case: Case) -> torch.Tensor:
    arguments = case.spec["input"]
    values = recipe.patch(
        tuple(arguments["shape"]), seed=arguments["seed"], low=arguments["low"], high=arguments["high"]
    )
    mean, std = np.array([STATISTICS[band] for band in case.spec["bands"]], dtype=np.float32).T
    scaled = np.clip(values / np.float32(10_000), 0, 1) * np.float32(255)
    image = (scaled - mean[:, None, None]) / std[:, None, None]
    case.check("network_input", image)
    return torch.from_numpy(image)[None]  # [1, 9, H, W]


def _tiny() -> Dofa:
    module = build(**SIZES["tiny64"])
    fill(module)
    return module.eval()


def _inputs(batch: int = 2, wavelengths: tuple[float, ...] = WAVELENGTHS_UM) -> tuple[torch.Tensor, torch.Tensor]:
    channels = len(wavelengths)
    values = (recipe.patch((batch, channels, 64, 64), seed=5) - np.float32(2000)) / np.float32(1000)
    return torch.from_numpy(values), torch.tensor([wavelengths] * batch)


class _Calls:
    """Counts the forwards of a module."""

    def __init__(self, module: nn.Module) -> None:
        self.count = 0
        module.register_forward_pre_hook(self._add)

    def _add(self, *_: object) -> None:
        self.count += 1


def test_cases_exist() -> None:
    assert "tiny64_network" in NETWORK_CASES


@pytest.mark.parametrize("name", [_full_size(name) for name in NETWORK_CASES])
def test_network(name: str) -> None:
    case = load_case("dofa", name)
    module = _build(case)
    image = _image(case)
    tokens: list[torch.Tensor] = []
    module.blocks[-1].register_forward_hook(lambda *call: tokens.append(call[2]))

    with torch.inference_mode():
        features = module(image, torch.tensor([case.spec["side_inputs"]["wavelengths_um"]]))

    case.check("tokens", tokens[0][0])
    case.check("pooled", features.pooled_mean[0])
    case.check("pooled", features.pooled_max[0])
    side = image.shape[-1] // 16
    assert features.grid.shape == (1, module.pos_embed.shape[-1], side, side)
    patches = features.grid[0].flatten(1).T  # [h w, D], row by row
    assert torch.equal(patches, tokens[0][0, 1:])


@pytest.mark.parametrize("size", [_full_size(size) for size in SIZES])
def test_state_dict_is_the_published_one(size: str) -> None:
    if not golden_file("dofa", f"{size}.keys.json").exists():
        pytest.skip("the full-size keys are in ../shared/golden")
    with torch.device("meta"):
        module = build(**SIZES[size])
    shapes = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    assert shapes == load_keys("dofa", f"{size}.keys.json")


def test_layer_norms_have_the_published_eps() -> None:
    eps = {name: layer.eps for name, layer in _tiny().named_modules() if isinstance(layer, nn.LayerNorm)}
    generator = {name for name in eps if "weight_generator" in name}
    assert {eps[name] for name in generator} == {1e-5}
    assert {eps[name] for name in eps.keys() - generator} == {1e-6}


def test_batch_equals_single_runs() -> None:
    module = _tiny()
    images, wavelengths = _inputs(batch=3)
    with torch.inference_mode():
        together = module(images, wavelengths)
        for i in range(3):
            alone = module(images[i : i + 1], wavelengths[i : i + 1])
            for ours, single in zip(present(together), present(alone), strict=True):
                torch.testing.assert_close(ours[i], single[0], rtol=1e-5, atol=1e-5)


def test_any_set_of_bands_with_its_own_wavelengths() -> None:
    module = _tiny()
    images, wavelengths = _inputs(wavelengths=(0.49, 0.842))
    with torch.inference_mode():
        first = module(images, wavelengths).pooled_mean
        swapped = module(images.flip(1), wavelengths.flip(1)).pooled_mean
        other = module(images, wavelengths + 0.3).pooled_mean
    torch.testing.assert_close(first, swapped, rtol=1e-4, atol=1e-4)  # the generator attends without positions
    assert not torch.allclose(first, other, rtol=1e-4, atol=1e-4)


def test_kernel_is_made_once_per_wavelengths() -> None:
    module = _tiny()
    calls = _Calls(module.patch_embed.weight_generator)
    images, wavelengths = _inputs()
    with torch.inference_mode():
        fresh = module(images, wavelengths).grid
        cached = module(images, wavelengths).grid
        assert calls.count == 1
        module(images, wavelengths + 0.1)
        module(images, wavelengths)
    assert calls.count == 2
    assert torch.equal(fresh, cached)


def test_kernels_kept_are_bounded() -> None:
    module = _tiny()
    calls = _Calls(module.patch_embed.weight_generator)
    images, wavelengths = _inputs()
    with torch.inference_mode():
        for step in range(20):
            module(images, wavelengths + step)
        module(images, wavelengths)
    assert calls.count == 21


def test_kernel_follows_new_weights() -> None:
    module = _tiny()
    images, wavelengths = _inputs()
    state = {key: value * 1.5 for key, value in module.state_dict().items()}
    expected_module = build(**SIZES["tiny64"]).eval()
    expected_module.load_state_dict(state)
    with torch.inference_mode():
        before = module(images, wavelengths).grid
    module.load_state_dict(state)
    with torch.inference_mode():
        after = module(images, wavelengths).grid
        expected = expected_module(images, wavelengths).grid
    assert torch.equal(after, expected)
    assert not torch.allclose(before, after)


def test_kernel_follows_a_change_of_precision() -> None:
    module = _tiny()
    images, wavelengths = _inputs()
    with torch.inference_mode():
        before = module(images, wavelengths).grid
    module.to(torch.bfloat16).to(torch.float32)
    with torch.inference_mode():
        assert not torch.equal(before, module(images, wavelengths).grid)


def test_training_reaches_the_generator() -> None:
    module = _tiny()
    images, wavelengths = _inputs()
    with torch.inference_mode():
        module(images, wavelengths)  # fills the cache
    module.train()
    calls = _Calls(module.patch_embed.weight_generator)
    module(images, wavelengths)
    module(images, wavelengths).pooled_mean.square().sum().backward()
    assert calls.count == 2
    gradient = module.patch_embed.weight_generator.weight_tokens.grad
    assert gradient is not None
    assert gradient.abs().sum() > 0
