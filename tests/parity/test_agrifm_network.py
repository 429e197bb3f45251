"""The AgriFM encoder and its preparation against the published implementation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.models.swin_transformer import SwinTransformerBlock
from torchvision.models.video.swin_transformer import ShiftedWindowAttention3d

from rs_embed_core.checkpoints import Checkpoints
from rs_embed_core.errors import CheckpointError
from rs_embed_core.models.agrifm import CARD
from rs_embed_core.networks.agrifm import AgriFM, build
from rs_embed_core.sample import Sample
from tests.parity.golden import cases, fill, golden_file, load_case, load_keys, present, recipe
from tests.parity.layouts import agrifm as layout

SIZES = {"tiny": {"dim": 32, "depth": 2}, "base": {"dim": 128, "depth": 18}}
NETWORK_CASES = cases("agrifm", level="network")
WEIGHTS = CARD.variants["base"].weights


def _marked(names: list[str]) -> list[Any]:
    return [pytest.param(name, marks=() if name.startswith("tiny") else pytest.mark.full) for name in names]


def _sharp() -> AgriFM:
    """A small network whose attention sees something: plain recipe weights leave it nearly blind."""
    module = build(**SIZES["tiny"])
    layout.fill_network(load_case("agrifm", "tiny_sharp_network"), module)
    return module.eval()


def _image(batch: int = 2, frames: int = 8, height: int = 64, width: int = 64) -> Tensor:
    return torch.from_numpy(recipe.patch((batch, frames, 10, height, width), seed=5)) / 2000 - 1


def _prepared(pixels: np.ndarray, **options: str) -> Sample:
    """What becomes of ``[T, 10, H, W]``."""
    return CARD.input("s2").chain_for({"normalization": "agrifm_stats"} | options)(
        Sample({"image": pixels}, CARD.inputs[0].bands)
    )


def test_cases_exist() -> None:
    assert {"tiny_network", "tiny_sharp_network"} <= set(NETWORK_CASES)


@pytest.mark.parametrize("name", _marked(NETWORK_CASES))
def test_network(name: str) -> None:
    case = load_case("agrifm", name)
    module = build(**dict(layout.build(case.spec))).eval()
    layout.fill_network(case, module)
    given = case.spec["input"]["patch"]
    normalize = CARD.input("s2").chain_for({"normalization": "agrifm_stats"}).steps[2]
    image = normalize(Sample({"image": recipe.patch(tuple(given["shape"]), seed=given["seed"])}, CARD.inputs[0].bands))
    left: list[Tensor] = []  # [1, t, h, w, D] behind each stage
    for stage in module.backbone.layers:
        stage.register_forward_hook(lambda *call: left.append(call[2]))
    with torch.inference_mode():
        features = module(torch.from_numpy(image.image)[None])
    case.check("encoder_features", features.grid[0])
    for number, tokens in enumerate(left[:3], 1):
        case.check(f"stage{number}_raw", tokens[0].permute(3, 0, 1, 2).flatten(0, 1))
    assert len(present(features)) == 1  # the vector is that of the cells


@pytest.mark.parametrize("size", _marked(list(SIZES)))
def test_state_dict_is_the_published_one(size: str) -> None:
    if not golden_file("agrifm", f"{size}_network.keys.json").exists():
        pytest.skip("the full-size keys are in ../shared/golden")
    with torch.device("meta"):
        module = build(**SIZES[size])
    published = load_keys("agrifm", f"{size}_network.keys.json")
    computed = {key for key in published if key.endswith(".relative_position_index")}
    assert len(computed) == 6 + SIZES[size]["depth"]  # one for every block
    shapes = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    assert shapes == {key: shape for key, shape in published.items() if key not in computed}


@pytest.mark.parametrize("size", [(2, 14, 14), (2, 10, 17), (1, 7, 7), (3, 5, 20), (9, 8, 8)])
@pytest.mark.parametrize("number", [0, 1])
def test_a_block_is_torchvisions(size: tuple[int, int, int], number: int) -> None:
    """Torchvision's blocks are the published ones bit for bit: golden/agrifm/spec.md, "Checkpoint"."""
    ours = _sharp().backbone.layers[1].blocks[number]
    shift = [4, 3, 3] if number else [0, 0, 0]
    theirs = SwinTransformerBlock(64, 2, [8, 7, 7], shift, attn_layer=ShiftedWindowAttention3d).eval()
    state = {key.replace("fc1", "0").replace("fc2", "3"): value for key, value in ours.state_dict().items()}
    theirs.load_state_dict(state | {"attn.relative_position_index": theirs.attn.relative_position_index})
    tokens = torch.from_numpy(recipe.patch((2, 64, *size), seed=3)).permute(0, 2, 3, 4, 1) / 1000 - 2
    with torch.inference_mode():
        torch.testing.assert_close(ours(tokens), theirs(tokens), rtol=1e-5, atol=1e-5)


def test_a_single_frame_is_halved_by_merging() -> None:
    merging = build(**SIZES["tiny"]).backbone.layers[0].downsample
    merging.norm, merging.reduction = nn.Identity(), nn.Identity()
    tokens = torch.arange(12.0).view(1, 1, 3, 4, 1)  # one frame of 3 rows
    merged = merging(tokens)[0, 0]  # [2, 2, 4]
    assert merged[0, 0].tolist() == [0, 2, 0.5, 2.5]  # (0, 0), (1, 0), (0, 1), (1, 1) of 0 1 / 4 5
    assert merged[1, 1].tolist() == [5, 0, 5.5, 0]  # below the last row are zeros
    twice = merging(torch.cat([tokens, tokens, tokens], dim=1))[0]
    assert torch.equal(twice, torch.stack([2 * merged, merged]))


def test_batch_equals_single_runs() -> None:
    module, image = _sharp(), _image(3)
    with torch.inference_mode():
        together = module(image).grid
        alone = torch.cat([module(image[i : i + 1]).grid for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


def test_every_input_matters() -> None:
    module, image = _sharp(), _image(1)
    with torch.inference_mode():
        base = module(image).grid
        for frame in range(8):
            for channel in range(10):
                changed = image.clone()
                changed[:, frame, channel] += 0.5
                assert not torch.allclose(module(changed).grid, base, atol=1e-6)
        assert not torch.allclose(module(image.flip(1)).grid, base, atol=1e-6)  # earliest first


def test_what_is_remembered_follows_the_weights() -> None:
    module, image = _sharp(), _image(1)
    with torch.inference_mode():
        before = module(image).grid
        assert torch.equal(module(image).grid, before)
    with torch.no_grad():
        module.backbone.layers[0].blocks[1].attn.relative_position_bias_table.mul_(-3)
        after = module(image).grid
    assert not torch.allclose(after, before, atol=1e-6)
    other = build(**SIZES["tiny"]).eval()
    other.load_state_dict(module.state_dict())
    with torch.inference_mode():
        assert torch.equal(other(image).grid, after)


def test_it_still_trains_after_inference() -> None:
    module, image = _sharp(), _image(1)
    with torch.inference_mode():
        module(image)
    module(image).grid.sum().backward()
    grads = [block.attn.relative_position_bias_table.grad for block in module.backbone.layers[0].blocks]
    assert all(grad is not None and grad.abs().max() > 0 for grad in grads)


@pytest.mark.parametrize("shape", [(1, 8, 9, 64, 64), (1, 0, 10, 64, 64), (1, 33, 10, 64, 64), (8, 10, 64, 64)])
def test_unfit_images_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"image must be \[B, 1 to 32, 10, H, W\]"):
        _sharp()(torch.zeros(shape))


def test_any_shape_and_series_has_cells() -> None:
    module = _sharp()
    with torch.inference_mode():
        for frames, height, width in ((1, 16, 16), (32, 33, 50), (3, 5, 4)):
            grid = module(_image(1, frames, height, width)).grid
            assert grid.shape == (1, 256, -(-height // 16), -(-width // 16))


def test_unfit_width_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 32"):
        build(dim=48, depth=1)


def test_preparation_keeps_a_series_and_repeats_one_frame() -> None:
    pixels = np.full((3, 10, 40, 24), 4179.192015478227, np.float32)
    series = _prepared(pixels)
    assert series.image.shape == (3, 10, 224, 224)
    np.testing.assert_allclose(series.image[:, 0], 0, atol=1e-6)
    single = _prepared(pixels[:1])
    assert single.image.shape == (8, 10, 224, 224)
    np.testing.assert_array_equal(single.image, np.broadcast_to(series.image[:1], single.image.shape))
    np.testing.assert_allclose(_prepared(pixels * 3, normalization="unit_scale").image, 1)  # clipped at 10 000
    np.testing.assert_allclose(_prepared(pixels, normalization="none").image, pixels[0, 0, 0, 0])


def test_a_file_with_other_keys_is_refused(tmp_path: Path) -> None:
    assert WEIGHTS is not None
    path = tmp_path / WEIGHTS.repo / WEIGHTS.file
    path.parent.mkdir(parents=True)
    module = build(**SIZES["tiny"])
    fill(module)
    state = module.state_dict()
    layout.write(state, path)
    loaded = build(**SIZES["tiny"])
    checkpoints = Checkpoints(tmp_path, offline=True)
    checkpoints.load(WEIGHTS, loaded)
    assert all(torch.equal(value, state[key]) for key, value in loaded.state_dict().items())
    name = "backbone.layers.2.downsample.reduction.weight"
    for changed, named in (
        ({key: value for key, value in state.items() if key != name}, f"1 missing: {name}"),
        (
            {key: value for key, value in state.items() if key != "patch_emd.proj.bias"},
            "1 missing: patch_emd.proj.bias",
        ),
        ({**state, "backbone.layers.4.norm": torch.zeros(8)}, r"1 unexpected: backbone\.layers\.4\.norm"),
    ):
        layout.write(changed, path)
        with pytest.raises(CheckpointError, match=named):
            checkpoints.load(WEIGHTS, loaded)


def test_weights_that_are_not_here_say_where_they_are(tmp_path: Path) -> None:
    assert WEIGHTS is not None
    with pytest.raises(CheckpointError, match=r"glass\.hku\.hk"):
        Checkpoints(tmp_path, offline=True).locate(WEIGHTS)
