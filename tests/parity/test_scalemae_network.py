"""Scale-MAE's encoder against the published implementation, and the scale that it is told."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from rs_embed_core import BBox, FetchSpec, InputPrepSpec, PointBuffer
from rs_embed_core.checkpoints import Checkpoints
from rs_embed_core.errors import CheckpointError
from rs_embed_core.networks.scalemae import ScaleMae, build
from rs_embed_core.plan import Plan, plan
from rs_embed_core.prepare import prepare
from rs_embed_core.prepared import Prepared
from rs_embed_core.providers.array import ArrayProvider
from rs_embed_core.registry import get_card
from rs_embed_core.sample import collate
from rs_embed_core.specs.request import Ask
from tests.parity.golden import Case, assert_close, cases, fill, load_case, load_keys, recipe
from tests.parity.published import publish

MEAN = np.array([0.485, 0.456, 0.406], np.float32)[:, None, None]  # golden/scalemae/spec.md, "Input"
STD = np.array([0.229, 0.224, 0.225], np.float32)[:, None, None]
PREFIX = "model."
NOT_APPLIED = {"norm.weight", "norm.bias"}
NETWORK_CASES = cases("scalemae", level="network")
SHORTER = torch.tensor([224.0])  # with it the resolution is the scale itself


def _full_size(name: str) -> object:
    return pytest.param(name, marks=() if name.startswith("tiny") else pytest.mark.full)


def _build(case: Case) -> ScaleMae:
    config = case.spec["network"]["config"]
    module = build(dim=config["embed_dim"], depth=config["depth"], heads=config["num_heads"])
    fill(module, prefix=PREFIX)
    return module.eval()


def _tiny() -> ScaleMae:
    return _build(load_case("scalemae", "tiny_network"))


def _image(case: Case) -> torch.Tensor:
    given = case.spec["input"]
    values = recipe.patch(tuple(given["shape"]), seed=given["seed"], low=given["low"], high=given["high"])
    grey = np.trunc(np.clip(values / np.float32(10_000), 0, 1) * np.float32(255))
    return torch.from_numpy((grey / np.float32(255) - MEAN) / STD)[None]  # [1, 3, 224, 224]


def _prepared(height: int, width: int, scale_m: float = 10, **ask: object) -> Prepared:
    request = _planned(scale_m, **ask)
    provider = ArrayProvider(recipe.patch((3, height, width)))
    return prepare(provider.fetch(request.fetch), request)


def _planned(scale_m: float, **ask: object) -> Plan:
    fetch = FetchSpec(scale_m=scale_m)
    return plan(Ask("scalemae", fetch=fetch, **ask).at(PointBuffer(121.5, 31.2, 800)))


# --- the network ---------------------------------------------------------------------------------------------


def test_cases_exist() -> None:
    assert "tiny_network" in NETWORK_CASES


@pytest.mark.parametrize("name", [_full_size(name) for name in NETWORK_CASES])
def test_network(name: str) -> None:
    case = load_case("scalemae", name)
    module, image = _build(case), _image(case)
    if "network_input" in case.tensors:
        case.check("network_input", image[0])
    tokens: list[torch.Tensor] = []
    module.blocks[-1].register_forward_hook(lambda *call: tokens.append(call[2]))
    for index, side_inputs in enumerate(case.spec["side_inputs"].values()):
        with torch.inference_mode():
            grid = module(image, torch.tensor([side_inputs["input_res"]]), SHORTER).grid
        case.check(f"tokens_{index}", tokens[index][0])
        assert grid.shape == (1, case.spec["network"]["config"]["embed_dim"], 14, 14)
        assert torch.equal(grid[0].flatten(1).T, tokens[index][0, 1:])  # row by row, no norm behind the last block


@pytest.mark.parametrize("name", [_full_size(name) for name in NETWORK_CASES])
def test_state_dict_is_the_published_one(name: str) -> None:
    case = load_case("scalemae", name)
    config = case.spec["network"]["config"]
    with torch.device("meta"):
        module = build(dim=config["embed_dim"], depth=config["depth"], heads=config["num_heads"])
    published = {key.removeprefix(PREFIX): shape for key, shape in load_keys("scalemae", case.spec["keys"]).items()}
    shapes = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    assert shapes == {key: shape for key, shape in published.items() if key not in NOT_APPLIED}
    assert published.keys() >= NOT_APPLIED


def test_positions_are_column_first_and_sines_before_cosines() -> None:
    module = build(dim=8, depth=1, heads=1)
    fill(module)
    with torch.no_grad():
        module.patch_embed.proj.weight.zero_()
        module.patch_embed.proj.bias.zero_()
    entered: list[torch.Tensor] = []
    module.blocks.register_forward_pre_hook(lambda _, arguments: entered.append(arguments[0]))
    with torch.inference_mode():
        module(torch.zeros(1, 3, 224, 224), torch.tensor([2.5]), SHORTER)
    row, column = 3, 5
    angles = [column * 2.5, column * 2.5 / 100, row * 2.5, row * 2.5 / 100]  # 10000 ** (-k / 2) is 1 and 1 / 100
    (c0, c1, r0, r1), both = angles, (math.sin, math.cos)
    expected = [f(a) for pair in ((c0, c1), (r0, r1)) for f in both for a in pair]
    tokens = entered[0][0]
    torch.testing.assert_close(tokens[1 + row * 14 + column], torch.tensor(expected), rtol=1e-5, atol=1e-6)
    assert torch.equal(tokens[0], module.cls_token[0, 0])  # the class token has no position


def test_batch_of_different_scales_equals_single_runs() -> None:
    module, image = _tiny(), _image(load_case("scalemae", "tiny_network"))
    images = torch.cat([image, image.flip(-1), image * 0.5])
    scales, sides = torch.tensor([10.0, 0.3, 20.0]), torch.tensor([160.0, 224.0, 300.0])
    with torch.inference_mode():
        together = module(images, scales, sides).grid
        alone = [module(images[i : i + 1], scales[i : i + 1], sides[i : i + 1]).grid for i in range(3)]
    expected = torch.cat(alone)
    torch.testing.assert_close(together, expected, rtol=0.0, atol=1e-5 * float(expected.abs().max()))


def test_scale_and_shorter_side_act_by_their_product() -> None:
    module, image = _tiny(), _image(load_case("scalemae", "tiny_network"))
    with torch.inference_mode():
        fine = module(image, torch.tensor([10.0]), torch.tensor([112.0])).grid
        same = module(image, torch.tensor([5.0]), torch.tensor([224.0])).grid
        coarse = module(image, torch.tensor([10.0]), torch.tensor([224.0])).grid
    assert torch.equal(fine, same)
    assert not torch.allclose(fine, coarse, rtol=1e-2, atol=1e-2)


def test_layer_norms_have_the_published_eps() -> None:
    assert {layer.eps for layer in _tiny().modules() if isinstance(layer, torch.nn.LayerNorm)} == {1e-6}


@pytest.mark.parametrize("shape", [(1, 4, 224, 224), (1, 3, 192, 224), (3, 224, 224)])
def test_unfit_image_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"image must be \[B, 3, 224, 224\]"):
        _tiny()(torch.zeros(shape), torch.tensor([10.0]), SHORTER)


# --- what is prepared for it ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width", "side"), [(160, 160, 160), (160, 300, 160), (300, 160, 160)])
def test_the_shorter_side_counts_though_both_are_stretched(height: int, width: int, side: float) -> None:
    (sample,) = _prepared(height, width).samples
    assert sample.image.shape == (3, 224, 224)
    assert (sample.arrays["scale_m"], sample.arrays["shorter_side_px"]) == (10, side)


@pytest.mark.parametrize("scale_m", [10, 20])
def test_the_scale_is_that_of_the_request(scale_m: float) -> None:
    (sample,) = _prepared(160, 160, scale_m).samples
    assert sample.arrays["scale_m"] == np.float32(scale_m)


def test_a_tile_has_the_scale_itself() -> None:
    tiles = _prepared(300, 500, input_prep=InputPrepSpec.of("tile")).samples
    assert len(tiles) > 1
    assert {float(tile.arrays["shorter_side_px"]) for tile in tiles} == {224}
    (single,) = _prepared(160, 200, input_prep=InputPrepSpec.of("tile")).samples
    assert single.arrays["shorter_side_px"] == 160


def test_samples_of_different_scale_share_a_batch() -> None:
    samples = [_prepared(160, 160, 10).samples[0], _prepared(300, 200, 20).samples[0]]
    batch = collate(samples)
    assert batch.arrays["scale_m"].tolist() == [10, 20]
    assert batch.arrays["shorter_side_px"].tolist() == [160, 200]


def test_pixels_are_cut_to_eight_bits_before_they_are_stretched() -> None:
    request = _planned(10)
    values = np.tile(np.float32([[[-5]], [[999.9]], [[20_000]]]), (1, 160, 160))
    (sample,) = prepare(ArrayProvider(values).fetch(request.fetch), request).samples
    expected = (np.float32([0, 25, 255])[:, None, None] / np.float32(255) - MEAN) / STD
    assert_close(sample.image, np.broadcast_to(expected, (3, 224, 224)))


def test_missing_pixels_become_black() -> None:
    request = _planned(10)
    values = recipe.patch((3, 224, 224))
    values[:, :7] = np.nan
    (sample,) = prepare(ArrayProvider(values).fetch(request.fetch), request).samples
    assert_close(sample.image[:, :7], np.broadcast_to(-MEAN / STD, (3, 7, 224)))


def test_a_rectangle_is_the_window_of_a_square() -> None:
    request = plan(Ask("scalemae").at(BBox(11.5, 48.1, 11.6, 48.11)))
    height, width = request.fetch.grid.height, request.fetch.grid.width
    assert abs(height - width) <= 1
    (sample,) = prepare(ArrayProvider(recipe.patch((3, height, width))).fetch(request.fetch), request).samples
    assert sample.view.inset is not None


# --- the published file --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model.blocks.1.attn.qkv.bias": None}, "missing: blocks.1.attn.qkv.bias"),
        ({"model.head.weight": torch.zeros(4, 4)}, "unexpected: head.weight"),
        ({"model.cls_token": torch.zeros(1, 1, 32)}, "misshapen: cls_token"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    change: dict[str, torch.Tensor | None], named: str, tmp_path: Path
) -> None:
    case = load_case("scalemae", "tiny_network")
    card = publish(case, tmp_path)
    weights = card.variants["tiny"].weights
    assert weights is not None
    path = tmp_path / weights.repo / weights.file
    state = torch.load(path, weights_only=True) | change
    torch.save({key: value for key, value in state.items() if value is not None}, path)
    with pytest.raises(CheckpointError, match=named):
        Checkpoints(tmp_path, offline=True).load(weights, _tiny())


def test_the_legacy_name_is_the_model() -> None:
    card, alias = get_card("scalemae_rgb")
    assert card.id == "scalemae"
    assert alias is not None
