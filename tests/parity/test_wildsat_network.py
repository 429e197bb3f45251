"""WildSAT's networks against torchvision's with the published head, and the files that they are loaded from."""

from __future__ import annotations

import argparse
import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rs_embed_core import BBox, OutputSpec, PointBuffer
from rs_embed_core.card import ModelCard
from rs_embed_core.checkpoints import Checkpoints
from rs_embed_core.errors import CheckpointError, UnknownOption
from rs_embed_core.networks.wildsat import WildSat, build, image_head
from rs_embed_core.plan import plan
from rs_embed_core.prepare import prepare
from rs_embed_core.preprocessing.chain import Chain
from rs_embed_core.providers.array import ArrayProvider
from rs_embed_core.registry import get_card
from rs_embed_core.sample import Sample
from rs_embed_core.specs.request import Ask
from rs_embed_core.weights import HubFile
from tests.parity.golden import Case, cases, load_case, load_keys, recipe
from tests.parity.layouts import wildsat as layout

BANDS = ("B4", "B3", "B2")
HEAD = "decoder.backbone3.0.weight"
OTHER_HEADS = {f"decoder.backbone{branch}.0.weight" for branch in (1, 2)}
NETWORK_CASES = cases("wildsat", level="network")
TINY_CASES = [name for name in NETWORK_CASES if name.startswith("tiny")]


def _full_size(name: str) -> object:
    return pytest.param(name, marks=() if name in TINY_CASES else pytest.mark.full)


every_case = pytest.mark.parametrize("name", [_full_size(name) for name in NETWORK_CASES])


def _build(case: Case) -> WildSat:
    module = build(**dict(layout.build(case.spec)))
    layout.fill_network(case, module)
    return module.eval()


def _image(case: Case) -> Tensor:
    """The case's image, prepared without the card: joint min-max, cut to eight bits."""
    given = case.spec["input"]
    values = recipe.patch(tuple(given["shape"]), seed=given["seed"], low=given["low"], high=given["high"])
    reflectance = np.clip(values, 0, 10_000) / np.float32(10_000)
    low, high = reflectance.min(), reflectance.max()
    grey = np.trunc(np.clip((reflectance - low) / (high - low) * np.float32(255), 0, 255))
    return torch.from_numpy(grey / np.float32(255))[None]  # [1, 3, 224, 224]


def _chain(normalization: str = "minmax") -> Chain:
    card, _ = get_card("wildsat")
    return card.inputs[0].chain_for({"normalization": normalization})


# --- the network ---------------------------------------------------------------------------------------------


def test_cases_exist() -> None:
    assert {"tiny_vitb16_network", "tiny_resnet50_network", "tiny_swint_network"} == set(TINY_CASES)


@every_case
def test_network(name: str) -> None:
    case = load_case("wildsat", name)
    module, image = _build(case), _image(case)
    if "network_input" in case.tensors:
        case.check("network_input", image[0])
    logits: list[Tensor] = []
    module.decoder["backbone3"].register_forward_pre_hook(lambda _, arguments: logits.append(arguments[0]))
    with torch.inference_mode():
        features = module(image)
    case.check("logits", logits[0][0])  # the head's input: logits, not the features behind them
    case.check("image_head", features.pooled_mean[0])
    case.check("image_head", features.pooled_max[0])
    if case.spec["variant"] == "vitb16":
        assert features.grid.shape[2:] == (14, 14)
        patches = features.grid[0].flatten(1).T  # [196, D], row by row
        case.check("tokens", torch.cat([torch.from_numpy(case.tensors["tokens"][:1]), patches]))
    else:
        assert torch.equal(features.grid, features.pooled_mean[:, :, None, None])


@every_case
def test_state_dict_is_the_published_one(name: str) -> None:
    case = load_case("wildsat", name)
    module = build(**dict(layout.build(case.spec)))
    published = load_keys("wildsat", case.spec["keys"])
    shapes = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    assert shapes == {key: shape for key, shape in published.items() if key not in OTHER_HEADS}
    assert published.keys() >= OTHER_HEADS


@pytest.mark.parametrize("name", TINY_CASES)
def test_batch_equals_single_runs(name: str) -> None:
    case = load_case("wildsat", name)
    module, image = _build(case), _image(case)
    images = torch.cat([image, image.flip(-1), image * 0.5])
    with torch.inference_mode():
        together = module(images)
        alone = [module(images[i : i + 1]) for i in range(3)]
    for field in ("grid", "pooled_mean"):
        expected = torch.cat([getattr(single, field) for single in alone])
        torch.testing.assert_close(
            getattr(together, field), expected, rtol=0.0, atol=1e-5 * float(expected.abs().max())
        )
        assert not torch.allclose(expected[0], expected[1], rtol=1e-3, atol=0)  # the image matters


@pytest.mark.parametrize(("name", "eps"), [("tiny_vitb16_network", 1e-6), ("tiny_swint_network", 1e-5)])
def test_layer_norms_have_the_published_eps(name: str, eps: float) -> None:
    module = _build(load_case("wildsat", name))
    assert {layer.eps for layer in module.modules() if isinstance(layer, nn.LayerNorm)} == {eps}


@pytest.mark.parametrize("name", TINY_CASES)
@pytest.mark.parametrize("shape", [(1, 4, 224, 224), (1, 3, 192, 224), (3, 224, 224)])
def test_unfit_image_is_refused(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"image must be \[B, 3, 224, 224\]"):
        _build(load_case("wildsat", name))(torch.zeros(shape))


def test_unknown_backbone_is_refused() -> None:
    with pytest.raises(ValueError, match="vitb16, resnet50, swint"):
        build(backbone="vgg")


# --- what is prepared for it ---------------------------------------------------------------------------------


def test_all_bands_are_stretched_together_and_cut_to_eight_bits() -> None:
    image = np.tile(np.float32([[[-50]], [[3000]], [[1500]]]), (1, 224, 224))[None]  # [1, 3, 224, 224]
    after = _chain()(Sample({"image": image}, BANDS)).image
    assert after.shape == (3, 224, 224)
    grey = np.float32([0, 255, 127]) / np.float32(255)
    np.testing.assert_array_equal(after[:, 0, 0], grey)  # no mean, no deviation


def test_values_are_cut_before_they_are_stretched_to_size() -> None:
    image = np.zeros((1, 3, 2, 2), np.float32)
    image[..., 1] = 10_000
    image[0, :, 0, 0] = 50  # 1.275 of 255: cut to 1 before the resize
    cut = image.copy()
    cut[0, :, 0, 0] = 10_000 / 255 + 1e-2  # just above 1 of 255
    np.testing.assert_array_equal(*(_chain()(Sample({"image": i}, BANDS)).image for i in (image, cut)))


def test_an_image_without_contrast_is_black() -> None:
    image = np.full((1, 3, 30, 30), 1234, np.float32)
    assert not _chain()(Sample({"image": image}, BANDS)).image.any()


def test_missing_pixels_pin_the_low_end() -> None:
    request = plan(Ask("wildsat").at(PointBuffer(121.5, 31.2, 800)))
    values = np.full((3, 224, 224), 1000, np.float32)
    values[:, :, 112:] = 2000
    whole = prepare(ArrayProvider(values).fetch(request.fetch), request).samples[0].image
    assert (whole[0, 0, 0], whole[0, 0, -1]) == (0, 1)
    values[0, 0, 0] = np.inf
    holed = prepare(ArrayProvider(values).fetch(request.fetch), request).samples[0].image
    assert holed[0, 0, 0] == 0
    assert (holed[1, 0, 0], holed[0, 0, -1]) == (np.float32(127) / np.float32(255), 1)


@pytest.mark.parametrize("normalization", ["unit_scale", "none"])
def test_reflectances_can_be_kept(normalization: str) -> None:
    image = np.tile(np.float32([[[1000]], [[5000]], [[20_000]]]), (1, 224, 224))[None]
    after = _chain(normalization)(Sample({"image": image}, BANDS)).image
    np.testing.assert_array_equal(after[:, 0, 0], np.float32([25, 127, 255]) / np.float32(255))


def test_a_rectangle_keeps_the_head_of_its_square() -> None:
    request = plan(Ask("wildsat").at(BBox(11.5, 48.1, 11.6, 48.11)))
    prepared = prepare(ArrayProvider(recipe.patch((3, 64, 64))).fetch(request.fetch), request)
    assert prepared.samples[0].view.head
    assert "square_pooled" in [notice.code for notice in prepared.info.notices]


@pytest.mark.parametrize(
    ("spelled", "variant"),
    [
        ("ViT-B-16", "vitb16"),
        ("vit_base_16", "vitb16"),
        ("vit", "vitb16"),
        ("ResNet-50", "resnet50"),
        ("resnet", "resnet50"),
        ("Swin_Tiny", "swint"),
        ("swin-t", "swint"),
        ("swin", "swint"),
    ],
)
def test_case_and_dashes_of_a_variant_do_not_matter(spelled: str, variant: str) -> None:
    card, _ = get_card("wildsat")
    assert card.select(Ask("wildsat", model_config=(("variant", spelled),))).variant == variant


def test_another_variant_is_refused_with_those_there_are() -> None:
    card, _ = get_card("wildsat")
    with pytest.raises(UnknownOption, match="vitb16, resnet50, swint"):
        card.select(Ask("wildsat", output=OutputSpec.grid(), model_config=(("variant", "vgg16"),)))


# --- the published file --------------------------------------------------------------------------------------


def _weights() -> HubFile:
    card: ModelCard = get_card("wildsat")[0]
    weights = card.variants["vitb16"].weights
    assert weights is not None
    return weights


def _file(root: Path, case: Case) -> tuple[WildSat, Path]:
    """A filled network, and the path of its file as the authors publish it."""
    weights, module = _weights(), _build(case)
    path = root / weights.repo / weights.file
    path.parent.mkdir(parents=True)
    layout.write(module.state_dict(), path)
    return module, path


def _published(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(path, weights_only=True)
    return content


@pytest.mark.parametrize("name", TINY_CASES)
@pytest.mark.parametrize("prefix", ["", "module.", "module.satellite_model.", "model."])
@pytest.mark.parametrize("wrapper", ["satellite_state_dict", "state_dict", None])
def test_a_published_file_loads(name: str, prefix: str, wrapper: str | None, tmp_path: Path) -> None:
    case = load_case("wildsat", name)
    module, path = _file(tmp_path, case)
    content = _published(path)
    state = {f"{prefix}{key}": value for key, value in content.pop("satellite_state_dict").items()}
    torch.save({**content, wrapper: state} if wrapper else state, path)
    loaded = build(**dict(layout.build(case.spec)))
    Checkpoints(tmp_path, offline=True).load(_weights(), loaded)
    for (key, ours), theirs in zip(loaded.state_dict().items(), module.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), key


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"backbone.class_token": None}, "missing: backbone.class_token"),
        ({"backbone.norm.weight": torch.zeros(4)}, "unexpected: backbone.norm.weight"),
        ({HEAD: None} | dict.fromkeys(OTHER_HEADS), f"missing: {HEAD}"),
        ({"decoder.backbone3.2.weight": torch.zeros(16, 16)}, r"unexpected: decoder.backbone3.2.weight"),
        ({HEAD: torch.zeros(16, 64)}, f"misshapen: {HEAD}"),  # a head on the features
    ],
)
def test_a_file_that_does_not_fit_is_refused(change: dict[str, Tensor | None], named: str, tmp_path: Path) -> None:
    case = load_case("wildsat", "tiny_vitb16_network")
    module, path = _file(tmp_path, case)
    content = _published(path)
    state = content["satellite_state_dict"] | change
    content["satellite_state_dict"] = {key: value for key, value in state.items() if value is not None}
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=named):
        Checkpoints(tmp_path, offline=True).load(_weights(), module)


def test_only_plain_records_may_come_with_the_tensors(tmp_path: Path) -> None:
    module, path = _file(tmp_path, load_case("wildsat", "tiny_vitb16_network"))
    content = _published(path)
    assert isinstance(content["opt"], argparse.Namespace)
    torch.save({**content, "when": dt.timedelta(1)}, path)
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        Checkpoints(tmp_path, offline=True).load(_weights(), module)


def test_the_third_head_is_taken_else_the_last() -> None:
    head = {branch: torch.full((1, 1), float(branch)) for branch in range(1, 6)}
    for branches, chosen in (((1, 2, 3), 3), ((3, 4, 5), 3), ((1, 2), 2), ((1,), 1)):
        for dot in ("", "."):
            state = {f"module.decoder.backbone{dot}{branch}.0.weight": head[branch] for branch in branches}
            assert image_head(state) == {HEAD: head[chosen]}
    assert image_head({"model.model.backbone.fc.bias": head[1]}) == {"backbone.fc.bias": head[1]}
