"""Random convolutional features against torchgeo's and against their definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from rs_embed_core.networks.features import Features
from rs_embed_core.networks.rcf import RandomConvFeatures, build
from tests.parity.golden import Case, cases, load_case, present, recipe

CASES = cases("mosaiks")


def _image(case: Case) -> torch.Tensor:
    arguments = case.spec["input"]
    values = recipe.patch(
        tuple(arguments["shape"]), seed=arguments["seed"], low=arguments["low"], high=arguments["high"]
    )
    return torch.from_numpy(values * np.float32(case.spec["input_scale"]))[None]  # [1, C, H, W]


def _module(case: Case, image: torch.Tensor) -> RandomConvFeatures:
    config = case.spec["config"]
    channels, size, features = config["in_channels"], config["kernel_size"], config["features"]
    module = build(
        in_channels=channels,
        features=features,
        kernel_size=size,
        bias=config["bias"],
        seed=0,
        cell_px=image.shape[-1] // case.spec["grid_cells"],
    )
    if case.spec["weights"]["source"] == "recipe":
        filters = recipe.tensor("weights", (features // 2, channels, size, size)) * np.float32(50)
    else:
        filters = case.tensors["filters"]
    module.load_state_dict({"weights": torch.from_numpy(filters), "biases": module.biases}, strict=True)
    return module.eval()


def _images(*shape: int) -> torch.Tensor:
    return torch.from_numpy(recipe.patch(shape, seed=3) / np.float32(10_000))


def _by_definition(module: RandomConvFeatures, image: torch.Tensor, cells: tuple[int, int]) -> Features:
    # In float64: torch's own pooling of large cells in float32 is off by 3e-6.
    y = F.conv2d(image.double(), module.weights.double(), module.biases.double())
    features = torch.cat([y.relu(), (-y).relu()], dim=1)
    return Features(F.adaptive_avg_pool2d(features, cells), features.mean((2, 3)), features.amax((2, 3)))


def _assert_same(ours: Features, expected: Features, tolerance: float = 1e-6) -> None:
    for got, want in zip(present(ours), present(expected), strict=True):
        assert got.shape == want.shape
        assert (got - want).abs().max() <= tolerance * want.abs().max()


@pytest.mark.parametrize("name", CASES)
def test_network(name: str) -> None:
    case = load_case("mosaiks", name)
    image = _image(case)
    with torch.inference_mode():
        features = _module(case, image)(image)
    for field in ("pooled_mean", "pooled_max", "grid"):
        case.check(field, getattr(features, field)[0])


def test_cases_exist() -> None:
    assert len(CASES) == 3


@pytest.mark.parametrize(
    ("shape", "cell_px", "cells"),
    [
        ((5, 10, 64, 64), 8, (8, 8)),  # three pieces of two images, one and a half filled
        ((2, 10, 300, 70), 8, (38, 9)),  # an image in several strips, whose edges cut cells
        ((2, 10, 300, 70), 150, (2, 1)),  # cells taller than a strip: 1 is the least
        ((2, 1, 33, 21), 8, (4, 3)),  # one channel: no memory format to speak of
        ((1, 10, 9, 9), 1, (9, 9)),  # more cells than filter positions
        ((1, 10, 3, 3), 8, (1, 1)),  # a single filter position
    ],
)
@pytest.mark.parametrize("bias", [0.0, -1.0])
def test_is_the_definition(shape: tuple[int, int, int, int], cell_px: int, cells: tuple[int, int], bias: float) -> None:
    module = build(in_channels=shape[1], features=512, kernel_size=3, bias=bias, seed=1, cell_px=cell_px)
    images = _images(*shape)
    with torch.inference_mode():
        _assert_same(module(images), _by_definition(module, images, cells))


@pytest.mark.parametrize("shape", [(7, 10, 64, 64), (3, 4, 260, 90)])
def test_batch_equals_single_runs(shape: tuple[int, int, int, int]) -> None:
    module = build(in_channels=shape[1], features=512, kernel_size=4, bias=-1.0, seed=1)
    images = _images(*shape)
    with torch.inference_mode():
        together = module(images)
        for i in range(len(images)):
            alone = module(images[i : i + 1])
            _assert_same(Features(*(value[i : i + 1] for value in present(together))), alone, tolerance=1e-5)


def test_a_feature_that_never_fires_is_exactly_zero() -> None:
    module = build(in_channels=2, features=8, kernel_size=3, bias=1000.0, seed=1)
    with torch.inference_mode():
        features = module(_images(2, 2, 32, 32))
    for value in present(features):
        assert (value[:, :4] > 0).all()
        assert (value[:, 4:] == 0).all()


def test_missing_pixels_are_not_hidden() -> None:
    module = build(in_channels=2, features=8, kernel_size=3, bias=-1.0, seed=1)
    images = _images(2, 2, 32, 32)
    images[1, 0, 5, 5] = torch.nan
    with torch.inference_mode():
        features = module(images)
    assert features.pooled_mean[0].isfinite().all()
    assert features.pooled_mean[1].isnan().all()
    assert features.pooled_max[1].isnan().all()


def test_filters_are_those_of_the_frozen_stream() -> None:
    weights = build(in_channels=2, features=4, kernel_size=3, bias=-1.0, seed=0).weights
    # RandomState(0).standard_normal, as printed in countless tutorials since 2009.
    first = torch.tensor([1.764052346, 0.400157208, 0.978737984, 2.240893199, 1.867557990, -0.977277880])
    assert weights.shape == (2, 2, 3, 3)
    torch.testing.assert_close(weights.flatten()[:6], first, rtol=0, atol=1e-7)


def test_seed_and_settings_decide_the_filters() -> None:
    def weights(**changes: int) -> torch.Tensor:
        settings = {"in_channels": 2, "features": 4, "kernel_size": 3, "bias": -1.0, "seed": 3} | changes
        return build(**settings).weights

    assert torch.equal(weights(), weights())
    assert not torch.equal(weights(), weights(seed=4))
    assert build(in_channels=2, features=4, kernel_size=3, bias=-0.5, seed=3).biases.tolist() == [-0.5, -0.5]


def test_odd_features_are_refused() -> None:
    with pytest.raises(ValueError, match="features=5 is odd"):
        build(in_channels=2, features=5, kernel_size=3, bias=-1.0, seed=3)


def test_an_image_smaller_than_a_filter_is_refused() -> None:
    module = build(in_channels=2, features=4, kernel_size=4, bias=-1.0, seed=3)
    with pytest.raises(ValueError, match="at least 4 px"):
        module(_images(1, 2, 8, 3))
