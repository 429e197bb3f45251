"""The Prithvi encoder against the published implementation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rs_embed_core.checkpoints import Checkpoints
from rs_embed_core.errors import CheckpointError
from rs_embed_core.networks.prithvi import Prithvi, build
from rs_embed_core.registry import get_card
from tests.parity.golden import assert_close, cases, fill, golden_file, load_case, load_keys, recipe
from tests.parity.layouts import prithvi as layout

PREFIX = "encoder."
TINY = {"dim": 64, "depth": 2, "heads": 4}
SIZES = {
    "tiny": TINY,
    "tiny14": TINY | {"patch_size": 14},
    "tiny64": TINY | {"image_size": 64},
    "100": {"dim": 768, "depth": 12, "heads": 12},
    "300": {"dim": 1024, "depth": 24, "heads": 16},
    "600": {"dim": 1280, "depth": 32, "heads": 16, "patch_size": 14},
}
NETWORK_CASES = cases("prithvi", level="network")
DATES = ((2022.0, 167.0), (2022.0, 197.0), (2023.0, 1.0))


def _full_size(name: str) -> object:
    return pytest.param(name, marks=() if name.startswith("tiny") else pytest.mark.full)


def _tiny() -> Prithvi:
    module = build(**SIZES["tiny64"])
    fill(module, prefix=PREFIX)
    return module.eval()


def _series(batch: int = 1, frames: int = 3, size: int = 64) -> tuple[Tensor, Tensor, Tensor]:
    """Reflectances, dates and places; each sample has its own."""
    image = torch.from_numpy(recipe.patch((batch, frames, 6, size, size), seed=5)) / 10_000
    dates = torch.tensor([DATES[:frames]] * batch) + torch.arange(batch)[:, None, None]
    places = torch.tensor([[31.2, 121.5]]) - 40 * torch.arange(batch)[:, None]
    return image, dates, places


def test_cases_exist() -> None:
    assert {"tiny64_t1_network", "tiny64_t3_network"} <= set(NETWORK_CASES)


@pytest.mark.parametrize("name", [_full_size(name) for name in NETWORK_CASES])
def test_network(name: str) -> None:
    case = load_case("prithvi", name)
    module = build(**dict(layout.build(case.spec))).eval()
    layout.fill_network(case, module)
    arguments, side = case.spec["input"], case.spec["side_inputs"]
    values = recipe.patch(
        tuple(arguments["shape"]), seed=arguments["seed"], low=arguments["low"], high=arguments["high"]
    )
    image = np.clip(values / np.float32(10_000), 0, 1)
    image = image if image.ndim == 4 else image[None]  # [T, 6, H, W]
    tokens: list[Tensor] = []
    module.norm.register_forward_hook(lambda *call: tokens.append(call[2]))

    with torch.inference_mode():
        features = module(
            torch.from_numpy(image)[None],
            torch.tensor([side["temporal_coords_year_dayofyear"]]),
            torch.tensor(side["location_coords_lat_lon"]),
        )

    case.check("tokens", tokens[0][0])
    cells = features.grid.shape[2:]
    frames = tokens[0][0, 1:].unflatten(0, (len(image), *cells))  # [T, h, w, D]
    assert_close(features.grid[0].permute(1, 2, 0), frames.mean(dim=0))
    assert torch.equal(features.grid_max[0].permute(1, 2, 0), frames.amax(dim=0))
    assert features.pooled_mean is features.pooled_max is None  # those of the cells


@pytest.mark.parametrize("size", [_full_size(size) for size in SIZES])
def test_state_dict_is_the_published_one(size: str) -> None:
    if not golden_file("prithvi", f"{size}.keys.json").exists():
        pytest.skip("the full-size keys are in ../shared/golden")
    with torch.device("meta"):
        module = build(**SIZES[size])
    shapes = {PREFIX + key: tuple(value.shape) for key, value in module.state_dict().items()}
    published = load_keys("prithvi", f"{size}.keys.json")
    encoder = {key: shape for key, shape in published.items() if key.startswith(PREFIX)}
    assert encoder.pop("encoder.pos_embed")[0] == 1  # computed here
    assert shapes == encoder


def test_layer_norms_have_the_published_eps() -> None:
    assert {layer.eps for layer in _tiny().modules() if isinstance(layer, nn.LayerNorm)} == {1e-5}


def test_batch_equals_single_runs() -> None:
    module = _tiny()
    inputs = _series(batch=3)
    with torch.inference_mode():
        together = module(*inputs)
        for i in range(3):
            alone = module(*(value[i : i + 1] for value in inputs))
            torch.testing.assert_close(together.grid[i], alone.grid[0], rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(together.grid_max[i], alone.grid_max[0], rtol=1e-5, atol=1e-5)


def test_every_input_matters() -> None:
    module = _tiny()
    image, dates, places = _series()
    with torch.inference_mode():
        base = module(image, dates, places).grid
        others = [(image, dates + shift, places) for shift in (torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))]
        others += [(image, dates, places + shift) for shift in (torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))]
        others += [(image, dates, places.flip(1))]  # latitude first
        for channel in range(6):
            changed = image.clone()
            changed[:, :, channel] += 0.5
            others.append((changed, dates, places))
        for other in others:
            assert not torch.allclose(module(*other).grid, base, atol=1e-6)


def test_positions_of_another_size_meet_corner_on_corner() -> None:
    """On an image of twice the patches less one, every second patch has the code of a native one."""
    native, wide = (build(**SIZES["tiny64"] | {"depth": 0}).eval() for _ in range(2))
    for module in (native, wide):
        fill(module, prefix=PREFIX)
    _, dates, places = _series(frames=1)
    with torch.inference_mode():
        small = native(torch.zeros(1, 1, 6, 64, 64), dates, places).grid  # [1, D, 4, 4]
        large = wide(torch.zeros(1, 1, 6, 112, 112), dates, places).grid  # [1, D, 7, 7]
        thin = wide(torch.zeros(1, 1, 6, 64, 112), dates, places).grid
    torch.testing.assert_close(large[:, :, ::2, ::2], small, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(thin[..., ::2], small, rtol=1e-5, atol=1e-5)


def test_positions_made_in_inference_mode_still_train() -> None:
    module = _tiny()
    inputs = _series(frames=2, size=80)
    with torch.inference_mode():
        module(*inputs)
    module(*inputs).grid.sum().backward()
    assert module.location_embed_enc.scale.grad is not None


@pytest.mark.parametrize(
    ("image", "dates", "place", "message"),
    [
        ((1, 1, 5, 64, 64), (1, 1, 2), (1, 2), r"image must be \[B, T, 6, H, W\]"),
        ((1, 0, 6, 64, 64), (1, 0, 2), (1, 2), r"image must be \[B, T, 6, H, W\]"),
        ((1, 1, 6, 64, 72), (1, 1, 2), (1, 2), "multiples of 16 pixels, got 64 x 72"),
        ((1, 1, 6, 8, 8), (1, 1, 2), (1, 2), "multiples of 16 pixels, got 8 x 8"),
        ((1, 2, 6, 64, 64), (1, 1, 2), (1, 2), "temporal_coords must be"),
        ((1, 1, 6, 64, 64), (1, 1, 2), (1, 3), "location_coords must be"),
    ],
)
def test_unfit_input_is_refused(
    image: tuple[int, ...], dates: tuple[int, ...], place: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        _tiny()(torch.zeros(image), torch.zeros(dates), torch.zeros(place))


@pytest.mark.parametrize(("dim", "heads"), [(48, 4), (64, 5)])
def test_unfit_width_is_refused(dim: int, heads: int) -> None:
    with pytest.raises(ValueError, match="multiple of 32"):
        build(dim=dim, depth=1, heads=heads)


def test_the_published_layout_loads_strictly(tmp_path: Path) -> None:
    weights = get_card("prithvi")[0].variants["100_tl"].weights
    assert weights is not None
    path = tmp_path / weights.repo / weights.file
    path.parent.mkdir(parents=True)
    module = _tiny()
    state = module.state_dict()

    layout.write(state, path)
    loaded = build(**SIZES["tiny64"])
    Checkpoints(tmp_path, offline=True).load(weights, loaded)
    assert all(torch.equal(value, state[key]) for key, value in loaded.state_dict().items())

    layout.write({key: value for key, value in state.items() if key != "cls_token"}, path)
    with pytest.raises(CheckpointError, match="1 missing: cls_token"):
        Checkpoints(tmp_path, offline=True).load(weights, loaded)
    layout.write({**state, "blocks.9.norm1.bias": torch.zeros(64)}, path)
    with pytest.raises(CheckpointError, match=r"1 unexpected: blocks\.9\.norm1\.bias"):
        Checkpoints(tmp_path, offline=True).load(weights, loaded)
