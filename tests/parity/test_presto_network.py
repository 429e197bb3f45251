"""The Presto encoder against the published implementation, with its real weights where they are at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

import rs_embed_core
from rs_embed_core import OutputSpec, UserData, get_embedding_from_data
from rs_embed_core.checkpoints import Checkpoints
from rs_embed_core.errors import CheckpointError
from rs_embed_core.networks.presto import Presto, build
from rs_embed_core.registry import get_card, register_model
from tests.parity.asked import arguments, imagery
from tests.parity.golden import assert_close, cases, fill, golden_file, load_case, load_keys, recipe
from tests.parity.layouts import presto as layout
from tests.parity.published import publish

TINY = {"dim": 32, "depth": 1, "heads": 4, "mlp_ratio": 2}
SIZES = {"tiny": TINY, "presto": {"dim": 128, "depth": 2, "heads": 8}}
BANDS = (
    *("VV", "VH", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12"),
    *("temperature_2m", "total_precipitation", "elevation", "slope"),
)
# golden/presto/spec.md, "Input": what is added, then divided by; 0 and 10000 for Sentinel-2
ADD = {"VV": 25, "VH": 25, "temperature_2m": -272.15}
DIVIDE = {"VV": 25, "VH": 25, "temperature_2m": 35, "total_precipitation": 0.03, "elevation": 2000, "slope": 50}
S2 = tuple(range(2, 12))
NETWORK_CASES = cases("presto", level="network")
PUBLIC_CASES = cases("presto", level="end_to_end")


def _scaled(pixels: NDArray[np.float32], bands: list[str]) -> NDArray[np.float32]:
    """``[T, C, H, W]`` as the authors scale it."""
    add = np.float32([ADD.get(band, 0) if band in DIVIDE else 0 for band in bands])
    divide = np.float32([DIVIDE.get(band, 10_000) for band in bands])
    return (pixels + add[:, None, None]) / divide[:, None, None]


def _published_order(bands: list[str], frames: int) -> list[int]:
    """Where the published tokens are among ours: of our eight groups that change, NDVI is there after the terrain."""
    if "slope" not in bands:
        return list(range(1 + 6 * frames))
    index, terrain = 1 + 7 * frames, 1 + 8 * frames
    return [*range(index), terrain, *range(index, terrain), *range(terrain + 1, terrain + 1 + frames)]


def _tiny() -> Presto:
    module = build(**TINY)
    fill(module, prefix=layout.PREFIX)
    return module.eval()


def _series(
    batch: int = 1, frames: int = 3, size: tuple[int, int] = (3, 4), keys: tuple[int, ...] = S2
) -> tuple[Tensor, ...]:
    """Scaled values, their channels, months and places; each sample has its own."""
    image = torch.from_numpy(recipe.patch((batch, frames, len(keys), *size), seed=5)) / 4200
    months = (torch.arange(frames) + 4 * torch.arange(batch)[:, None]) % 12
    places = torch.tensor([[31.2, 121.5]]) - 40 * torch.arange(batch)[:, None]
    return image, torch.tensor([keys] * batch), months, places


def _holes(image: Tensor) -> Tensor:
    """True for a fifth of the values."""
    return torch.from_numpy(recipe.patch(tuple(image.shape), seed=9, low=0, high=10)) < 2


def test_cases_exist() -> None:
    assert {"tiny_network_all", "tiny_network_s2"} <= set(NETWORK_CASES)
    assert "presto_s2" in PUBLIC_CASES
    if golden_file("presto", "presto.safetensors").exists():
        assert "real_all_network" in NETWORK_CASES
        assert {"real_s1_s2_year", "real_s2"} <= set(PUBLIC_CASES)


@pytest.mark.parametrize("name", NETWORK_CASES)
def test_network(name: str) -> None:
    case = load_case("presto", name)
    module = build(**dict(layout.build(case.spec))).eval()
    layout.fill_network(case, module)
    bands, side = case.spec["bands"], case.spec["side_inputs"]
    image = _scaled(imagery(case).pixels, bands)
    frames, _, height, width = image.shape
    classes = side["dynamic_world"]
    each_pixel = None if classes is None else torch.tensor(classes)[None, :, None, None].expand(-1, -1, height, width)
    tokens: list[Tensor] = []
    module.blocks[-1].register_forward_hook(lambda *call: tokens.append(call[2]))

    with torch.inference_mode():
        grid = module(
            torch.from_numpy(image)[None],
            torch.tensor([[BANDS.index(band) for band in bands]]),
            (torch.arange(frames) + side["first_month_0_based"])[None] % 12,
            torch.tensor([side["latlon_deg"]]),
            dynamic_world=each_pixel,
        ).grid[0]
        case.check("tokens", module.norm(tokens[0])[:, _published_order(bands, frames)])

    case.check("grid", grid)
    case.check("pooled_mean", grid.mean(dim=(1, 2)))
    case.check("pooled_max", grid.amax(dim=(1, 2)))
    by_pixel = image.transpose(2, 3, 0, 1).reshape(height * width, frames, -1)
    known = case.tensors["network_input_x"][..., [BANDS.index(band) for band in bands]]
    assert_close(by_pixel, known)


@pytest.mark.parametrize("name", PUBLIC_CASES)
def test_own_pixels_in_any_order_of_bands(name: str, tmp_path: Path) -> None:
    case = load_case("presto", name)
    kept = get_card("presto")[0]
    register_model(publish(case, tmp_path))
    rs_embed_core.configure(checkpoints_root=tmp_path, offline=True)
    asked, bands = arguments(case), tuple(case.spec["bands"])  # radar first, which is read last
    try:
        item = UserData(imagery(case).pixels, "any", asked["spatial"], bands, asked["temporal"])
        modality = "s1_s2" if "VV" in bands else "s2"
        for output, tensor in (
            (OutputSpec.pooled(), "pooled_mean"),
            (OutputSpec.pooled("max"), "pooled_max"),
            (OutputSpec.grid(), "grid"),
        ):
            ours = get_embedding_from_data("presto", item, modality=modality, output=output, device="cpu")
            case.check(tensor, np.asarray(ours.data))
    finally:
        register_model(kept)
        rs_embed_core.configure()


@pytest.mark.parametrize("size", SIZES)
def test_state_dict_is_the_published_one(size: str) -> None:
    with torch.device("meta"):
        module = build(**SIZES[size])
    shapes = {layout.PREFIX + key: tuple(value.shape) for key, value in module.state_dict().items()}
    published = load_keys("presto", f"{size}.keys.json")
    assert shapes == {key: shape for key, shape in published.items() if key.startswith(layout.PREFIX)}


def test_layer_norms_have_the_published_eps() -> None:
    assert {layer.eps for layer in _tiny().modules() if isinstance(layer, nn.LayerNorm)} == {1e-5}


@pytest.mark.parametrize("whole", [True, False])
def test_batch_equals_single_runs(whole: bool) -> None:
    module = _tiny()
    inputs = _series(batch=3)
    inputs = inputs if whole else (*inputs, _holes(inputs[0]))
    with torch.inference_mode():
        together = module(*inputs).grid
        alone = torch.cat([module(*(value[i : i + 1] for value in inputs)).grid for i in range(3)])
    assert together.shape == (3, 32, 3, 4)
    torch.testing.assert_close(together, alone, rtol=0.0, atol=1e-5 * float(alone.abs().max()))


def test_more_pixels_than_go_at_once_are_the_same_pixels() -> None:
    module = _tiny()
    image, *rest = _series(size=(64, 80))  # 5120 series of 19 tokens: two rounds
    with torch.inference_mode():
        whole = module(image, *rest).grid
        strips = torch.cat([module(strip, *rest).grid for strip in image.split(16, dim=3)], dim=2)
    torch.testing.assert_close(whole, strips, rtol=0.0, atol=1e-5 * float(strips.abs().max()))


def test_every_input_matters() -> None:
    module = _tiny()
    keys = tuple(range(16))
    image, channels, months, places = _series(keys=keys)
    classes = torch.zeros(1, 3, 3, 4, dtype=torch.int64)
    with torch.inference_mode():
        base = module(image, channels, months, places).grid
        others = [
            (image, channels, (months + 1) % 12, places),
            (image, channels, months, places + torch.tensor([1.0, 0.0])),
            (image, channels, months, places.flip(1)),  # latitude first
            (image.flip(1), channels, months.flip(1), places),  # the same months in another order
            (image, channels, months, places, _holes(image)),
            (image, channels, months, places, None, classes),
            (image, channels, months, places, None, classes + 1),
        ]
        for channel in keys:
            changed = image.clone()
            changed[:, 0, channel] += 0.5
            others.append((changed, channels, months, places))
        results = [module(*other).grid for other in others]
    for result in results:
        assert not torch.allclose(result, base, atol=1e-5)
    assert not torch.allclose(results[5], results[6], atol=1e-5)


def test_channels_may_come_in_any_order() -> None:
    module = _tiny()
    image, channels, months, places = _series()
    order = torch.randperm(10, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        base = module(image, channels, months, places, _holes(image)).grid
        mixed = module(image[:, :, order], channels[:, order], months, places, _holes(image)[:, :, order]).grid
    assert_close(mixed, base)


def test_a_missing_value_takes_part_in_nothing() -> None:
    """Tokens that lack are as if they had never been there; how many lack may differ from pixel to pixel."""
    module = _tiny()
    image, channels, months, places = _series()
    missing = torch.zeros_like(image, dtype=torch.bool)
    missing[..., 2, :, 0] = True  # B4 of the first column: without it neither RGB nor NDVI
    missing[:, -1, :, :, 1] = True  # the last month of the second
    missing[..., 3] = True  # all of the last
    without = [place for place in range(10) if place not in (0, 1, 2)]  # B2 B3 B4
    with torch.inference_mode():
        ours = module(image, channels, months, places, missing).grid
        other = torch.where(missing, 7.0, image)
        assert torch.equal(module(other, channels, months, places, missing).grid, ours)
        shorter = module(image[:, :-1], channels, months[:, :-1], places).grid
        fewer = module(image[:, :, without], channels[:, without], months, places).grid
        whole = module(image, channels, months, places).grid
    assert_close(ours[..., 0], fewer[..., 0])
    assert_close(ours[..., 1], shorter[..., 1])
    assert_close(ours[..., 2], whole[..., 2])
    assert ours[..., 3].isfinite().all()
    assert torch.equal(ours[..., 0, 3], ours[..., 1, 3])  # what is left is the place


def test_a_step_without_a_land_cover_class_has_no_token_for_it() -> None:
    module = _tiny()
    inputs = _series()
    classes = torch.full((1, 3, 3, 4), 9)
    with torch.inference_mode():
        assert_close(module(*inputs, dynamic_world=classes).grid, module(*inputs).grid)


def test_terrain_is_read_once() -> None:
    module = _tiny()
    image, *rest = _series(keys=(14, 15))
    with torch.inference_mode():
        base = module(image, *rest).grid
        image[:, 1:] += 1
        assert torch.equal(module(image, *rest).grid, base)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"image": (1, 2, 10, 4)}, r"image must be \[B, T, C, H, W\]"),
        ({"image": (1, 2, 10, 4, 0)}, r"image must be \[B, T, C, H, W\]"),
        ({"image": (1, 25, 10, 4, 4), "months": (1, 25)}, "positions for 24 steps, got a series of 25"),
        ({"channels": (1, 9)}, r"channels must be \[1, 10\]"),
        ({"months": (1, 3)}, r"months must be \[1, 2\]"),
        ({"latlon": (1, 3)}, r"latlon must be \[1, 2\]"),
        ({"missing": (1, 2, 1, 4, 4)}, r"missing must be \[1, 2, 10, 4, 4\]"),
        ({"dynamic_world": (1, 2)}, r"dynamic_world must be \[1, 2, 4, 4\]"),
    ],
)
def test_unfit_input_is_refused(shapes: dict[str, tuple[int, ...]], message: str) -> None:
    usual = {"image": (1, 2, 10, 4, 4), "channels": (1, 10), "months": (1, 2), "latlon": (1, 2)} | shapes
    kinds = {"channels": torch.int64, "months": torch.int64, "missing": torch.bool, "dynamic_world": torch.int64}
    given = {name: torch.zeros(shape, dtype=kinds.get(name)) for name, shape in usual.items()}
    with pytest.raises(ValueError, match=message):
        _tiny()(**given)


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        ([[2, 2]], "different numbers 0 to 15"),
        ([[2, 16]], "different numbers 0 to 15"),  # NDVI is computed
        ([[2, 3]], "no group of channels is complete"),
        ([[0, 1], [1, 0]], "the same for all samples"),
    ],
)
def test_unfit_channels_are_refused(channels: list[list[int]], message: str) -> None:
    batch = len(channels)
    image, months = torch.zeros(batch, 1, 2, 2, 2), torch.zeros(batch, 1, dtype=torch.int64)
    with pytest.raises(ValueError, match=message):
        _tiny()(image, torch.tensor(channels), months, torch.zeros(batch, 2))


@pytest.mark.parametrize(("dim", "heads"), [(30, 3), (32, 5)])
def test_unfit_width_is_refused(dim: int, heads: int) -> None:
    with pytest.raises(ValueError, match="multiple of 4"):
        build(dim=dim, depth=1, heads=heads)


def test_the_published_layout_loads_strictly(tmp_path: Path) -> None:
    weights = get_card("presto")[0].variants["base"].weights
    assert weights is not None
    path = tmp_path / weights.repo / weights.file
    path.parent.mkdir(parents=True)
    state = _tiny().state_dict()

    layout.write(state, path)
    loaded = build(**TINY)
    Checkpoints(tmp_path, offline=True).load(weights, loaded)
    assert all(torch.equal(value, state[key]) for key, value in loaded.state_dict().items())

    for missing in ("pos_embed", "dw_embed.weight", "eo_patch_embed.SRTM.bias"):  # also what S2 alone does not need
        layout.write({key: value for key, value in state.items() if key != missing}, path)
        with pytest.raises(CheckpointError, match=f"1 missing: {missing}"):
            Checkpoints(tmp_path, offline=True).load(weights, loaded)
    layout.write({**state, "blocks.9.norm1.bias": torch.zeros(32)}, path)
    with pytest.raises(CheckpointError, match=r"1 unexpected: blocks\.9\.norm1\.bias"):
        Checkpoints(tmp_path, offline=True).load(weights, loaded)


@pytest.mark.skipif(
    not golden_file("presto", "presto.safetensors").exists(), reason="the real weights are in ../shared/golden"
)
def test_the_whole_real_file_loads(tmp_path: Path) -> None:
    """With its decoder, and with the entry that is the same tensor as another."""
    published = load_file(golden_file("presto", "presto.safetensors"))
    published["decoder.channel_embeddings.weight"] = published["encoder.channel_embed.weight"]
    assert {key: tuple(value.shape) for key, value in published.items()} == load_keys("presto", "presto.keys.json")
    variant = get_card("presto")[0].variants["base"]
    assert variant.weights is not None
    path = tmp_path / variant.weights.repo / variant.weights.file
    path.parent.mkdir(parents=True)
    torch.save(published, path)
    network = build(**dict(variant.build))
    Checkpoints(tmp_path, offline=True).load(variant.weights, network)
    assert torch.equal(network.pos_embed, published["encoder.pos_embed"])
