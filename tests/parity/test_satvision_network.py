"""The SatVision-TOA encoder and its preparation against the published implementation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from timm.models.swin_transformer_v2 import SwinTransformerV2
from torch import Tensor, nn

from rs_embed_core.checkpoints import Checkpoints
from rs_embed_core.errors import CheckpointError, InvalidInput
from rs_embed_core.models.satvision import CARD
from rs_embed_core.networks.satvision import SatVision, build, encoder
from rs_embed_core.sample import Sample
from tests.parity.asked import imagery
from tests.parity.golden import cases, fill, load_case, load_keys, recipe
from tests.parity.layouts import satvision as layout

GIANT = CARD.variants["giant"]
SIZES = {"tiny_network": {"dim": 32, "third_stage": 6}, "giant": dict(GIANT.build)}
NETWORK_CASES = cases("satvision", level="network")
KELVIN = {  # golden/satvision/spec.md, "Provider input": kelvin of 0 and 1 by channel
    5: (223.1222, 352.7182),
    7: (178.9174, 261.2920),
    8: (204.3739, 282.5529),
    9: (204.7677, 319.0373),
    10: (194.8686, 295.0209),
    11: (202.1759, 324.0677),
    12: (201.3823, 321.5254),
    13: (203.3537, 285.9848),
}
REFLECTIVE = (0, 1, 2, 3, 4, 6)


def _sharp() -> SatVision:
    """A small network whose attention sees something: plain recipe weights leave it nearly blind."""
    module = build(**SIZES["tiny_network"])
    layout.fill_network(load_case("satvision", "tiny_sharp_network"), module)
    return module.eval()


def _image(batch: int = 2) -> Tensor:
    return torch.from_numpy(recipe.patch((batch, 14, 128, 128), seed=5)) / 5000


def _prepared(pixels: np.ndarray, normalization: str = "auto") -> np.ndarray:
    """What becomes of ``[14, H, W]``."""
    chain = CARD.input("modis").chain_for({"normalization": normalization})
    return chain(Sample({"image": pixels[None]}, CARD.inputs[0].bands)).image


def test_cases_exist() -> None:
    assert {"tiny_network", "tiny_sharp_network"} <= set(NETWORK_CASES)


@pytest.mark.parametrize("name", NETWORK_CASES)
def test_network(name: str) -> None:
    case = load_case("satvision", name)
    module = build(**dict(layout.build(case.spec))).eval()
    layout.fill_network(case, module)
    image = _prepared(imagery(case).pixels, case.spec["preprocessing"]["norm"])
    case.check("network_input", image)
    left: list[Tensor] = []  # [1, h, w, D] behind each stage
    for stage in module.layers:
        stage.register_forward_hook(lambda *call: left.append(call[2]))
    with torch.inference_mode():
        features = module(torch.from_numpy(image)[None])
    for number, tokens in enumerate(left):
        case.check(f"stage{number}", tokens[0].permute(2, 0, 1))
    case.check("stage3", features.grid[0])
    case.check("pooled_features", features.pooled_mean[0])
    assert features.pooled_max is features.pooled_mean


@pytest.mark.parametrize("size", list(SIZES))
def test_state_dict_is_the_published_one(size: str) -> None:
    """The giant too, whose 2.6 billion parameters take no memory here."""
    with torch.device("meta"):
        module = build(**SIZES[size])
    published = {
        key: torch.empty(shape, device="meta") for key, shape in load_keys("satvision", f"{size}.keys.json").items()
    }
    wanted = {key: tuple(value.shape) for key, value in encoder(published).items()}
    left = {key.rsplit(".", 1)[-1] for key in published.keys() - wanted.keys()}
    assert left == {"attn_mask", "mask_token", "relative_coords_table", "relative_position_index"}
    assert {key: tuple(value.shape) for key, value in module.state_dict().items()} == wanted


def test_the_giant_runs_by_its_shapes() -> None:
    with torch.device("meta"), torch.inference_mode():
        features = build(**SIZES["giant"]).eval()(torch.empty(2, 14, 128, 128))
    assert features.grid.shape == (2, GIANT.dim, 4, 4)
    assert features.pooled_mean is not None
    assert features.pooled_mean.shape == (2, GIANT.dim)


def test_it_is_timms_but_for_the_third_norm() -> None:
    """golden/satvision/spec.md, "Checkpoint", with a third stage too short for a third norm."""
    ours = build(dim=32, third_stage=4).eval()
    layout.fill_network(load_case("satvision", "tiny_sharp_network"), ours)
    theirs = SwinTransformerV2(
        128, 4, 14, num_classes=0, embed_dim=32, depths=(2, 2, 4, 2), num_heads=(1, 2, 4, 8), window_size=8
    ).eval()
    renamed = {f"layers.{i}.downsample": f"layers.{i + 1}.downsample" for i in range(3)}
    state = {key: value for key, value in ours.state_dict().items() if ".downsample." not in key}
    for ours_at, theirs_at in renamed.items():
        part = {key: value for key, value in ours.state_dict().items() if key.startswith(ours_at)}
        state |= {key.replace(ours_at, theirs_at): value for key, value in part.items()}
    theirs.load_state_dict(state)
    with torch.inference_mode():
        features, vectors = ours(_image()), theirs(_image())
    assert features.pooled_mean is not None
    torch.testing.assert_close(features.pooled_mean, vectors, rtol=1e-5, atol=1e-5)


def test_layer_norms_have_the_published_eps_and_places() -> None:
    module = build(dim=32, third_stage=13)
    norms = {name: layer.eps for name, layer in module.named_modules() if isinstance(layer, nn.LayerNorm)}
    assert set(norms.values()) == {1e-5}
    assert [name for name in norms if name.endswith("norm3")] == ["layers.2.blocks.5.norm3", "layers.2.blocks.11.norm3"]


def test_batch_equals_single_runs() -> None:
    module, image = _sharp(), _image(3)
    with torch.inference_mode():
        together, alone = module(image), [module(image[i : i + 1]) for i in range(3)]
    assert together.pooled_mean is not None
    torch.testing.assert_close(together.grid, torch.cat([one.grid for one in alone]), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        together.pooled_mean,
        torch.cat([one.pooled_mean for one in alone if one.pooled_mean is not None]),
        rtol=1e-5,
        atol=1e-5,
    )


def test_every_channel_matters() -> None:
    module, image = _sharp(), _image(1)
    with torch.inference_mode():
        base = module(image).grid
        for channel in range(14):
            changed = image.clone()
            changed[:, channel] *= 0.5
            assert not torch.allclose(module(changed).grid, base, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["logit_scale", "q_bias", "v_bias", "cpb_mlp.0.bias", "cpb_mlp.2.weight"])
def test_what_is_remembered_follows_the_weights(name: str) -> None:
    module, image = _sharp(), _image(1)
    with torch.inference_mode():
        before = module(image).grid
    with torch.no_grad():
        for block in module.layers[0].blocks:
            block.attn.get_parameter(name).mul_(-3)
        after = module(image).grid
    assert not torch.allclose(after, before, rtol=1e-4, atol=1e-4)


def test_it_still_trains_after_inference() -> None:
    module, image = _sharp(), _image(1)
    with torch.inference_mode():
        module(image)
    module(image).grid.sum().backward()
    assert all(value.grad is not None for value in module.layers.parameters())


def test_cosines_are_scaled_a_hundredfold_at_most() -> None:
    module, image = _sharp(), _image(1)
    grids = []
    with torch.inference_mode():
        for scale in (np.log(100), 9.0, 4.0):
            for block in module.layers[0].blocks:
                block.attn.logit_scale.fill_(scale)
            grids.append(module(image).grid)
    assert torch.equal(grids[0], grids[1])
    assert not torch.equal(grids[0], grids[2])


@pytest.mark.parametrize("shape", [(1, 13, 128, 128), (1, 14, 64, 64), (1, 14, 128, 96), (14, 128, 128)])
def test_unfit_images_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"image must be \[B, 14, 128, 128\]"):
        _sharp()(torch.zeros(shape))


def test_unfit_width_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 32"):
        build(dim=48, third_stage=2)


def _measured() -> np.ndarray:
    """A quarter of full reflectance, and a quarter of the way between the limits of each emissive channel."""
    pixels = np.full((14, 20, 30), 25, np.float32)
    for channel, (low, high) in KELVIN.items():
        pixels[channel] = low + (high - low) / 4
    return pixels


@pytest.mark.parametrize("normalization", ["auto", "raw"])
def test_percent_and_kelvin_are_scaled(normalization: str) -> None:
    image = _prepared(_measured(), normalization)
    assert image.shape == (14, 128, 128)
    np.testing.assert_allclose(image, 0.25, rtol=1e-5)
    assert sorted((*REFLECTIVE, *KELVIN)) == list(range(14))


def test_what_is_scaled_already_is_only_clipped() -> None:
    pixels = np.full((14, 20, 20), 0.5, np.float32)
    pixels[0], pixels[1] = -0.05, 1.4
    for normalization in ("auto", "unit"):
        image = _prepared(pixels, normalization)
        assert [float(image[i].max()) for i in range(3)] == [0, 1, 0.5]
    pixels[1] = 1.6  # beyond: these count as percent and kelvin
    assert _prepared(pixels)[2].max() == np.float32(0.005)
    assert not _prepared(pixels)[list(KELVIN)].any()
    with pytest.raises(InvalidInput, match="already normalised"):
        _prepared(np.clip(pixels, 0, 1), "raw")
    assert _prepared(_measured(), "unit").min() == 1


@pytest.mark.parametrize("prefix", ["", "model.", "module.", "encoder.", "model.module.", "model.encoder."])
def test_the_encoder_is_found_behind_any_prefix(prefix: str) -> None:
    state = build(dim=32, third_stage=2).state_dict()
    found = encoder({"decoder.norm.weight": torch.zeros(8), **{prefix + key: value for key, value in state.items()}})
    assert found.keys() == state.keys()


def test_a_file_with_other_keys_is_refused(tmp_path: Path) -> None:
    assert GIANT.weights is not None
    path = tmp_path / GIANT.weights.repo / GIANT.weights.file
    path.parent.mkdir(parents=True)
    module = build(**SIZES["tiny_network"])
    fill(module)
    state = module.state_dict()
    layout.write(state, path)
    loaded = build(**SIZES["tiny_network"])
    checkpoints = Checkpoints(tmp_path, offline=True)
    checkpoints.load(GIANT.weights, loaded)
    assert all(torch.equal(value, state[key]) for key, value in loaded.state_dict().items())
    name = "layers.2.blocks.5.norm3.bias"
    for changed, named in (
        ({key: value for key, value in state.items() if key != name}, f"1 missing: {name}"),
        ({**state, "layers.2.blocks.4.norm3.bias": torch.zeros(8)}, r"1 unexpected: layers\.2\.blocks\.4\.norm3\.bias"),
    ):
        layout.write(changed, path)
        with pytest.raises(CheckpointError, match=named):
            checkpoints.load(GIANT.weights, loaded)
