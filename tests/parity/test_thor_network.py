"""The THOR encoder and its preparation against the published implementation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import rs_embed_core
from rs_embed_core import BBox, OutputSpec, UserData
from rs_embed_core.card import Selection
from rs_embed_core.checkpoints import Checkpoints
from rs_embed_core.errors import CheckpointError, InvalidInput
from rs_embed_core.models.thor import CARD
from rs_embed_core.networks.features import Features
from rs_embed_core.networks.thor import Thor, build
from rs_embed_core.registry import register_model
from rs_embed_core.sample import Sample
from rs_embed_core.specs.request import Ask, OptionValue
from tests.parity.asked import imagery
from tests.parity.golden import Case, assert_close, cases, golden_file, load_case, load_keys, present, recipe
from tests.parity.layouts import thor as layout
from tests.parity.published import publish

TINY = {"dim": 96, "depth": 2, "heads": 3, "band_embed": 16}
COVER_M = 960


def _marked(names: list[str]) -> list[object]:
    return [pytest.param(name, marks=() if name.startswith("tiny") else pytest.mark.full) for name in names]


def _built(case: Case) -> Thor:
    module = build(**dict(layout.build(case.spec)))
    layout.fill_network(case, module)
    return module.eval()


def _tiny() -> Thor:
    """The network with weights that make its attention sharp."""
    return _built(load_case("thor", "tiny_sharp_network"))


def _settings(**changed: OptionValue) -> dict[str, OptionValue]:
    return {**CARD.defaults, **changed}


def _prepared(modality: str, pixels: NDArray[np.float32], **how: Any) -> Sample:
    entry = CARD.input(modality)
    sample = Sample(
        {"image": pixels[None]}, entry.bands, scale_m=how.pop("scale_m", 10.0), tiled=how.pop("tiled", False)
    )
    return entry.chain_for(_settings(**how))(sample)


def _image(channels: int, side: int = 96, batch: int = 2) -> Tensor:
    return torch.from_numpy(recipe.patch((batch, channels, side, side), seed=5) / np.float32(2000) - 1)


def _tokens(module: Thor, image: Tensor, **how: Any) -> Tensor:
    """``[B, N, D]``: what the last block gives."""
    seen: list[Tensor] = []
    hook = module.blocks[-1].register_forward_hook(lambda _block, _given, tokens: seen.append(tokens))
    with torch.inference_mode():
        module(image, **({"ground_cover_m": COVER_M} | how))
    hook.remove()
    return seen[0]


def _features(module: Thor, image: Tensor, **how: Any) -> Features:
    with torch.inference_mode():
        features: Features = module(image, **({"ground_cover_m": COVER_M} | how))
    return features


def _changed(one: Tensor, other: Tensor) -> bool:
    return not torch.allclose(one, other, rtol=1e-4, atol=1e-4)


def test_cases_exist() -> None:
    names = {"tiny_network", "tiny_sharp_network", "tiny_sharp_s1_network", "tiny_patch6_network"}
    assert names <= set(cases("thor", level="network"))
    assert {"tiny", "tiny_s1", "tiny_single_tile", "tiny_fixed"} <= set(cases("thor", level="adapter"))


@pytest.mark.parametrize("name", _marked(cases("thor", level="network")))
def test_network(name: str) -> None:
    case = load_case("thor", name)
    module, asked = _built(case), case.spec["preprocessing"]
    pixels = imagery(case).pixels
    sample = _prepared(case.spec["modality"], pixels, patch_size=asked["patch_size"], resize_mode="native_snap")
    assert sample.image.shape == pixels.shape  # these cases are not resized
    how = dict(sample.params) | {"patch_size": asked["patch_size"]}
    assert how["ground_cover_m"] == asked["ground_cover_m"]
    case.check("tokens", _tokens(module, torch.from_numpy(sample.image)[None], **how)[0])


@pytest.mark.parametrize("variant", list(CARD.variants))
def test_state_dict_is_the_published_one(variant: str) -> None:
    filename = f"variant_{variant}_network.keys.json"
    if not golden_file("thor", filename).exists():
        pytest.skip("the full-size keys are in ../shared/golden")
    with torch.device("meta"):
        module = build(**dict(CARD.variants[variant].build))
    shapes = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    assert shapes == load_keys("thor", filename)


def test_state_dict_of_the_small_network() -> None:
    shapes = {key: tuple(value.shape) for key, value in _tiny().state_dict().items()}
    assert shapes == load_keys("thor", "tiny_network.keys.json")
    assert {layer.eps for layer in _tiny().modules() if isinstance(layer, nn.LayerNorm)} == {1e-6}


@pytest.mark.parametrize(
    ("heads", "expected"),
    [
        (3, [1 / 16, 1 / 256, 1 / 4]),
        (4, [1 / 4, 1 / 16, 1 / 64, 1 / 256]),
        (12, [*(2.0**-k for k in range(1, 9)), *(2.0 ** -(k / 2) for k in (1, 3, 5, 7))]),
        (16, [2.0 ** -(k / 2) for k in range(1, 17)]),
    ],
)
def test_slopes(heads: int, expected: list[float]) -> None:
    module = build(dim=16 * heads, depth=0, heads=heads, band_embed=heads)
    torch.testing.assert_close(module.encoder_slopes, torch.tensor(expected))


@pytest.mark.parametrize(("channels", "patch_size"), [(10, 8), (10, 6), (2, 8), (2, 16)])
def test_batch_equals_single_runs(channels: int, patch_size: int) -> None:
    module, image = _tiny(), _image(channels, batch=3)
    together = _features(module, image, patch_size=patch_size)
    alone = [_features(module, image[i : i + 1], patch_size=patch_size) for i in range(3)]
    for index, tensor in enumerate(present(together)):
        single = torch.cat([present(one)[index] for one in alone])
        torch.testing.assert_close(tensor, single, rtol=0, atol=1e-5 * float(single.abs().max()))


def test_every_band_matters() -> None:
    module = _tiny()
    for channels in (10, 2):
        image = _image(channels)
        before = _features(module, image).grid
        for channel in range(channels):
            other = image.clone()
            other[:, channel] += 0.5
            assert _changed(_features(module, other).grid, before), channel


def test_pooled_is_over_the_tokens_of_all_groups() -> None:
    module, image = _tiny(), _image(10)
    tokens, features = _tokens(module, image), _features(module, image)
    assert tokens.shape == (2, 144 + 36, 96)
    assert features.pooled_mean is not None
    assert features.pooled_max is not None
    torch.testing.assert_close(features.pooled_mean, tokens.mean(dim=1))
    torch.testing.assert_close(features.pooled_max, tokens.amax(dim=1))
    assert _changed(features.pooled_mean, features.grid.mean(dim=(2, 3)))  # there the groups weigh equally
    radar = _features(module, _image(2))
    assert radar.pooled_mean is not None
    torch.testing.assert_close(radar.pooled_mean, radar.grid.mean(dim=(2, 3)))


def test_the_maps_of_the_groups_are_merged() -> None:
    module, image = _tiny(), _image(10)
    grids = {how: _features(module, image, group_merge=how).grid for how in ("mean", "sum", "concat")}
    assert grids["concat"].shape == (2, 192, 12, 12)
    fine, coarse = grids["concat"].split(96, dim=1)
    torch.testing.assert_close(grids["mean"], (fine + coarse) / 2)
    torch.testing.assert_close(grids["sum"], fine + coarse)
    tokens = _tokens(module, image)
    torch.testing.assert_close(fine, tokens[:, :144].transpose(1, 2).unflatten(2, (12, 12)))
    torch.testing.assert_close(coarse[:, :, 0, 0], tokens[:, 144])  # a corner is not interpolated


def test_the_last_norm_is_not_applied() -> None:
    module, image = _tiny(), _image(2)
    before = _features(module, image)
    nn.init.constant_(module.norm.weight, 7)
    for one, other in zip(present(before), present(_features(module, image)), strict=True):
        assert torch.equal(one, other)


def test_distance_dims_the_attention() -> None:
    module, image = _tiny(), _image(10)
    before = _features(module, image).grid
    module.encoder_slopes.zero_()
    assert _changed(_features(module, image).grid, before)


def test_what_is_kept_follows_the_weights_and_the_size() -> None:
    module, image = _tiny(), _image(10)
    first = _features(module, image).grid
    for how in ({"patch_size": 16}, {"patch_size": 6}, {"ground_cover_m": 1920}):
        assert _changed(_features(module, image, **how).grid[..., :6, :6], first[..., :6, :6])
    assert torch.equal(_features(module, image).grid, first)
    state = {key: value.clone() for key, value in module.state_dict().items()}
    for key in ("ind_patch_embed.patch_embed.S2:SWIR2.weight", "ind_patch_embed.patch_embed.S2:Red.bias"):
        module.load_state_dict({**state, key: state[key] + 1})
        assert _changed(_features(module, image).grid, first), key
    module.load_state_dict({**state, "band_embed.group1": state["band_embed.group1"] + 1})
    assert _changed(_features(module, image).grid, first)
    module.load_state_dict(state)
    assert torch.equal(_features(module, image).grid, first)


def test_gradients_reach_the_stored_kernels() -> None:
    module, image = _tiny(), _image(10)
    _features(module, image)
    module(image, ground_cover_m=COVER_M).grid.sum().backward()
    for name in ("ind_patch_embed.patch_embed.S2:RE4.weight", "band_embed.group0", "blocks.0.attn.qkv.weight"):
        gradient = module.get_parameter(name).grad
        assert gradient is not None
        assert gradient.abs().max() > 0


def test_half_precision_is_close() -> None:
    module, image = _tiny(), _image(10)
    exact = _features(module, image).grid
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = _features(module, image).grid
    assert _changed(half.float(), exact)
    torch.testing.assert_close(half.float(), exact, rtol=0, atol=0.1 * float(exact.abs().max()))
    assert torch.equal(_features(module, image).grid, exact)


@pytest.mark.parametrize(
    ("shape", "how", "message"),
    [
        ((1, 12, 96, 96), {}, r"image must be \[B, 10 or 2, H, H\]"),
        ((1, 10, 96, 80), {}, r"image must be \[B, 10 or 2, H, H\]"),
        ((10, 96, 96), {}, r"image must be \[B, 10 or 2, H, H\]"),
        ((1, 10, 88, 88), {"ground_cover_m": 880}, "880 m are no whole number of patches of 8 pixels of 20 m"),
        ((1, 2, 96, 96), {"patch_size": 7}, "960 m are no whole number of patches of 7 pixels of 10 m"),
        ((1, 2, 96, 96), {"ground_cover_m": 0}, "0 m are no whole number"),
        ((1, 2, 96, 96), {"ground_cover_m": 9600}, "9600 m in patches of 8 pixels are 14400 tokens, over 8192"),
    ],
)
def test_unfit_input_is_refused(shape: tuple[int, ...], how: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _tiny()(torch.zeros(shape), **({"ground_cover_m": COVER_M} | how))


# --- preparation -------------------------------------------------------------------------------------------


def test_sentinel2_is_standardised() -> None:
    pixels = np.stack([np.full((32, 32), 1000 * band, np.float32) for band in range(12)][:10])
    pixels[0, 0, 0], pixels[0, 0, 1], pixels[9] = -5, np.nan, 12_000
    entry = CARD.input("s2")
    valid = np.ones((1, 32, 32), np.bool_)
    image = entry.chain_for(_settings())(Sample({"image": pixels[None]}, entry.bands, valid)).image
    np.testing.assert_allclose(image[0, 0, :2], -0.176620 / 0.264520, rtol=1e-5)
    np.testing.assert_allclose(image[9], (1 - 0.175772) / 0.156223, rtol=1e-5)
    np.testing.assert_allclose(image[3], (0.3 - 0.263378) / 0.272771, rtol=1e-4)
    np.testing.assert_allclose(_prepared("s2", pixels, normalization="unit_scale").image[4], 0.4, rtol=1e-6)
    np.testing.assert_array_equal(_prepared("s2", pixels, normalization="none").image[4], 4000)


def test_the_percentile_of_radar_is_that_of_the_square_that_is_left() -> None:
    power = np.full((2, 17, 17), np.e - 1, np.float32)  # its logarithm is 1
    power[:, 16], power[..., 16] = np.e**4 - 1, np.e**4 - 1  # cut off: 17 snaps to 16
    np.testing.assert_allclose(_prepared("s1", power).image, 1, rtol=1e-6)
    stretched = _prepared("s1", power, tiled=True)
    assert stretched.image.shape == (2, 288, 288)
    np.testing.assert_allclose(stretched.image[:, :100, :100], 1 / 4, rtol=1e-5)
    np.testing.assert_array_equal(_prepared("s1", power, normalization="none").image, power[:, :16, :16])


def test_decibels_and_dark_radar() -> None:
    with pytest.raises(InvalidInput, match="decibels"):
        _prepared("s1", np.full((2, 40, 40), -12, np.float32))
    np.testing.assert_array_equal(_prepared("s1", np.zeros((2, 40, 40), np.float32)).image, np.zeros((2, 40, 40)))


@pytest.mark.parametrize(
    ("modality", "size", "how", "side", "cover_m"),
    [
        ("s2", (100, 103), {}, 96, 960),
        ("s2", (100, 103), {"resize_mode": "fixed"}, 288, 2880),
        ("s2", (100, 103), {"tiled": True}, 288, 2880),
        ("s2", (100, 109), {}, 288, 2880),
        ("s2", (100, 109), {"shape_tol_px": 9}, 96, 960),
        ("s2", (108, 101), {"shape_adjust": "pad"}, 112, 1120),
        ("s2", (400, 400), {}, 288, 2880),
        ("s2", (400, 400), {"max_native_side": 512, "max_native_tokens": 4000}, 400, 4000),
        ("s2", (100, 100), {"patch_size": 16}, 96, 960),
        ("s2", (60, 80), {"image_size": 96}, 96, 960),
        ("s2", (100, 100), {"scale_m": 20.0}, 96, 1920),
        ("s1", (90, 90), {}, 88, 880),
    ],
)
def test_geometry(modality: str, size: tuple[int, int], how: dict[str, Any], side: int, cover_m: int) -> None:
    pixels = recipe.patch((len(CARD.input(modality).bands), *size), seed=1, low=20, high=3000)
    sample = _prepared(modality, pixels, **how)
    assert sample.image.shape == (len(pixels), side, side)
    assert dict(sample.params) == {"ground_cover_m": cover_m}


def test_pixels_of_20_m_are_enlarged_for_the_bands_of_10_m() -> None:
    features = _features(_tiny(), _image(10, side=96), ground_cover_m=1920)
    assert features.grid.shape == (2, 96, 24, 24)


# --- through the public API --------------------------------------------------------------------------------


def _select(**config: OptionValue) -> Selection:
    return CARD.select(Ask("thor", model_config=tuple(config.items())))


def test_variants_go_by_their_first_letter() -> None:
    assert [_select(variant=letter).variant for letter in "tsbl"] == ["tiny", "small", "base", "large"]
    assert _select().variant == "base"


@pytest.fixture
def _published(tmp_path: Path) -> Any:
    register_model(publish(load_case("thor", "tiny"), tmp_path))
    rs_embed_core.configure(checkpoints_root=tmp_path, offline=True)
    yield
    register_model(CARD)
    rs_embed_core.configure()


@pytest.mark.usefixtures("_published")
def test_the_vector_of_a_rectangle_is_that_of_its_cells() -> None:
    box = BBox(8.5, 47.3, 8.512, 47.304)
    how: dict[str, Any] = {"spatial": box, "backend": "synthetic", "device": "cpu"}
    grid = rs_embed_core.get_embedding("thor", **how, output=OutputSpec.grid())
    assert grid.data.shape[1] < grid.data.shape[2]
    assert grid.meta["transform"][:5:4] == [80, -80]  # type: ignore[index]  # JSON: cells keep their size
    for pooling, expected in (("mean", grid.data.mean(("y", "x"))), ("max", grid.data.max(("y", "x")))):
        vector = rs_embed_core.get_embedding("thor", **how, output=OutputSpec.pooled(pooling)).data  # type: ignore[arg-type]
        assert_close(np.asarray(vector), np.asarray(expected))


@pytest.mark.usefixtures("_published")
@pytest.mark.parametrize(("scale_m", "cells"), [(10, 36), (7, 26), (20, 72)])
def test_what_is_stretched_has_whole_patches_at_any_scale(scale_m: float, cells: int) -> None:
    data = UserData(recipe.patch((10, 60, 200), seed=3), "COPERNICUS/S2_SR_HARMONIZED", scale_m=scale_m)
    ours = rs_embed_core.get_embedding_from_data("thor", data, output=OutputSpec.grid(), device="cpu")
    assert ours.data.shape == (96, cells, cells)


@pytest.mark.usefixtures("_published")
def test_too_many_tokens_are_refused_with_the_reason() -> None:
    data = UserData(recipe.patch((10, 60, 200), seed=3), "COPERNICUS/S2_SR_HARMONIZED", scale_m=30)
    with pytest.raises(InvalidInput, match="8640 m in patches of 8 pixels are 14580 tokens, over 8192"):
        rs_embed_core.get_embedding_from_data("thor", data, device="cpu")


def test_a_file_with_other_keys_is_refused(tmp_path: Path) -> None:
    case = load_case("thor", "tiny")
    weights = publish(case, tmp_path).variants["base"].weights
    assert weights is not None
    network, checkpoints = _built(case), Checkpoints(tmp_path, offline=True)
    checkpoints.load(weights, network)
    state = network.state_dict()
    path = tmp_path / weights.repo / weights.file
    without = {key: value for key, value in state.items() if key != "ind_patch_embed.patch_embed.S2:NIR.bias"}
    for changed, named in (
        (without, "missing: ind_patch_embed.patch_embed.S2:NIR.bias"),
        ({**state, "cls_token": state["norm.bias"]}, "unexpected: cls_token"),
    ):
        layout.write(changed, path)
        with pytest.raises(CheckpointError, match=named):
            checkpoints.load(weights, network)


def test_a_file_without_the_wrapper_loads(tmp_path: Path) -> None:
    case = load_case("thor", "tiny")
    weights = publish(case, tmp_path).variants["base"].weights
    assert weights is not None
    state = _built(case).state_dict()
    torch.save({f"encoder.{key}": value for key, value in state.items()}, tmp_path / weights.repo / weights.file)
    network = build(**TINY)
    Checkpoints(tmp_path, offline=True).load(weights, network)
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
