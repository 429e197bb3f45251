"""TerraMind's encoder against the published implementation, and the files that it is loaded from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rs_embed_core import PointBuffer
from rs_embed_core.card import Selection
from rs_embed_core.checkpoints import Checkpoints
from rs_embed_core.errors import CheckpointError, UnknownOption
from rs_embed_core.networks.terramind import TerraMind, build
from rs_embed_core.plan import plan
from rs_embed_core.plan import recipe as recipe_of
from rs_embed_core.prepare import prepare
from rs_embed_core.providers.array import ArrayProvider
from rs_embed_core.registry import get_card
from rs_embed_core.sample import Sample
from rs_embed_core.specs.request import Ask, model_config_from
from tests.parity.golden import Case, cases, load_case, load_keys, recipe
from tests.parity.layouts import terramind as layout

EMBEDDING = "encoder_embeddings.untok_sen2l2a@224"
NETWORK_CASES = cases("terramind", level="network")
FLAVOURS = ("tiny_plain_network", "tiny_gated_network")


def _full_size(name: str) -> object:
    return pytest.param(name, marks=() if name.startswith("tiny") else pytest.mark.full)


every_case = pytest.mark.parametrize("name", [_full_size(name) for name in NETWORK_CASES])


def _build(case: Case) -> TerraMind:
    module = build(**dict(layout.build(case.spec)))
    layout.fill_network(case, module)
    return module.eval()


def _image(case: Case) -> Tensor:
    """The case's image, standardised with the statistics that it names."""
    given = case.spec["input"]["patch"]
    variant = "v01_base" if case.spec["preprocessing"]["normalization"].endswith("v01") else "v1_base"
    entry = get_card("terramind")[0].inputs[0]
    chain = entry.chain_for({"variant": variant, "normalization": "zscore"})
    pixels = recipe.patch(tuple(given["shape"]), seed=given["seed"])
    return torch.from_numpy(chain(Sample({"image": pixels[None]}, entry.bands)).image)[None]


def test_cases_exist() -> None:
    assert {*FLAVOURS, "tiny_plain_sharp_network", "tiny_gated_sharp_network"} <= set(NETWORK_CASES)


@every_case
def test_network(name: str) -> None:
    case = load_case("terramind", name)
    module, image = _build(case), _image(case)
    for tensor in case.tensors:
        block = tensor.removeprefix("tokens").removeprefix("_block")
        with torch.inference_mode():
            features = module(image, int(block or -1))
        case.check(tensor, features.grid[0].flatten(1).T)  # [196, D], row by row
        assert features.pooled_mean is features.pooled_max is features.grid_max is None  # those of the cells


@every_case
def test_state_dict_is_the_published_one(name: str) -> None:
    case = load_case("terramind", name)
    with torch.device("meta"):
        module = build(**dict(layout.build(case.spec)))
    shapes = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    assert shapes == load_keys("terramind", case.spec["keys"])
    assert not any(key.startswith("encoder") and key.endswith("norm.bias") for key, _ in module.named_parameters())


@pytest.mark.parametrize("name", FLAVOURS)
def test_the_last_block_by_either_number_is_the_normed_one(name: str) -> None:
    case = load_case("terramind", name)
    module, image = _build(case), _image(case)
    with torch.inference_mode():
        first, last, same, before = (module(image, index).grid for index in (0, -1, 1, -2))
    assert torch.equal(last, same)
    assert torch.equal(first, before)  # two blocks
    assert not torch.allclose(first, last, rtol=1e-2, atol=0)


@pytest.mark.parametrize("name", FLAVOURS)
def test_batch_equals_single_runs(name: str) -> None:
    case = load_case("terramind", name)
    module, image = _build(case), _image(case)
    images = torch.cat([image, image.flip(-1), image * 0.5])
    with torch.inference_mode():
        together = module(images).grid
        alone = torch.cat([module(images[i : i + 1]).grid for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=0.0, atol=1e-5 * float(alone.abs().max()))
    assert not torch.allclose(alone[0], alone[1], rtol=1e-3, atol=0)  # the image matters


def test_positions_put_the_row_first() -> None:
    codes = build(dim=8, depth=1, heads=1, gated=False).get_buffer(f"{EMBEDDING}.pos_emb")
    row, column, slow = 3.0, 5.0, 10_000**-0.5  # frequencies 1 and 10000 ** (-1 / 2)
    expected = [f(x * w) for x in (row, column) for f in (np.sin, np.cos) for w in (1.0, slow)]
    np.testing.assert_allclose(codes[0, 3 * 14 + 5], expected, rtol=1e-6)


def test_pixels_of_a_patch_go_row_by_row_with_the_bands_fastest() -> None:
    module = build(dim=4, depth=1, heads=1, gated=False).encoder_embeddings["untok_sen2l2a@224"]
    with torch.no_grad():
        module.proj.weight.zero_()
        module.proj.weight[0, (2 * 16 + 7) * 12 + 9] = 1  # row 2, column 7, the tenth band
        module.pos_emb.zero_()
    image = torch.zeros(1, 12, 224, 224)
    image[0, 9, 16 * 4 + 2, 16 * 6 + 7] = 5
    tokens = module(image)[0, :, 0].detach()
    assert (int(tokens.argmax()), float(tokens.max()), float(tokens.sum())) == (4 * 14 + 6, 5, 5)


@pytest.mark.parametrize("shape", [(1, 13, 224, 224), (1, 12, 224, 208), (12, 224, 224)])
def test_unfit_image_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"image must be \[B, 12, 224, 224\]"):
        build(dim=8, depth=1, heads=1, gated=True)(torch.zeros(shape))


@pytest.mark.parametrize("index", [2, -3])
def test_a_block_that_is_not_there_is_refused(index: int) -> None:
    with pytest.raises(ValueError, match=rf"layer_index must lie in -2\.\.1, got {index}"):
        build(dim=8, depth=2, heads=1, gated=True)(torch.zeros(1, 12, 224, 224), index)


# --- what is prepared for it, and what may be asked ----------------------------------------------------------


def _prepared(**config: str) -> np.ndarray:
    """What the network gets of a pixel that is 1000 in B1, 20000 in B2, missing in B3 and 3000 in the others."""
    pixels = np.full((12, 20, 30), 3000, np.float32)
    pixels[0], pixels[1], pixels[2, :, :15] = 1000, 20_000, np.nan
    request = plan(Ask("terramind", model_config=model_config_from(config)).at(PointBuffer(121.5, 31.2, 150)))
    sample = prepare(ArrayProvider(pixels).fetch(request.fetch), request).samples[0]
    assert sample.image.shape == (12, 224, 224)
    first: np.ndarray = sample.image[:, 100, 50]
    return first


def test_each_release_has_its_own_statistics() -> None:
    v1 = [(1000 - 1390.458) / 2106.761, (10_000 - 1503.317) / 2141.107, -1718.197 / 2038.973]
    v01 = [(1000 - 794.311) / 1164.883, (10_000 - 925.161) / 1205.586, -1183.128 / 1223.713]
    np.testing.assert_allclose(_prepared()[:3], v1, rtol=1e-5)
    np.testing.assert_allclose(_prepared(variant="v1_large")[:3], v1, rtol=1e-5)
    np.testing.assert_allclose(_prepared(variant="v01_base")[:3], v01, rtol=1e-5)
    np.testing.assert_allclose(_prepared(model_key="terramind_v01_base")[11], (3000 - 1841.645) / 1365.08, rtol=1e-5)


@pytest.mark.parametrize("name", ["none", "off", "raw"])
def test_numbers_can_be_kept(name: str) -> None:
    np.testing.assert_array_equal(_prepared(normalization=name)[:4], [1000, 10_000, 0, 3000])


def _selected(**config: str | int) -> Selection:
    return recipe_of(Ask("terramind", model_config=model_config_from(config))).selection


@pytest.mark.parametrize(
    "config",
    [
        {"variant": "v1_base"},
        {"model_key": "terramind_v1_base"},
        {"model_key": "TerraMind-v1-base"},
        {"model_key": "terramind_v1_base", "variant": "v1_base"},
        {"model_key": "terramind_v1_base", "modality": "S2L2A"},
        {"variant": "terramind_v1_base", "modality": "s2-l2a"},
    ],
)
def test_names_of_the_reference_are_known(config: dict[str, str]) -> None:
    assert _selected(**config) == _selected(variant="v1_base")
    assert _selected(**config).encoder == "terramind-v1-base"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_key": "terramind_v1_base", "variant": "v1_tiny"}, "variant 'v1_tiny' and the model_key"),
        ({"model_key": "terramind_v1_base_tim"}, "no variant 'terramind_v1_base_tim'"),
        ({"modality": "S1GRD"}, "no modality 'S1GRD'"),
        ({"layer_index": 24}, "layer_index=24"),
        ({"merge_method": "mean"}, "merge_method"),
    ],
)
def test_what_it_cannot_do_is_refused_at_once(config: dict[str, str | int], message: str) -> None:
    with pytest.raises(UnknownOption, match=message) as caught:
        _selected(**config)
    assert caught.value.hint


@pytest.mark.parametrize("modality", ["S2L2A", "s2_l2a", "s2-l2a"])
def test_the_modality_has_several_spellings(modality: str) -> None:
    assert recipe_of(Ask("terramind", modality=modality)).selection.modality == "s2_l2a"
    with pytest.raises(UnknownOption, match="no modality 'S2L1C'"):
        recipe_of(Ask("terramind", modality="S2L1C"))


# --- the published file --------------------------------------------------------------------------------------


def _load(change: Callable[[dict[str, Tensor]], dict[str, Tensor]], root: Path) -> tuple[nn.Module, nn.Module]:
    """A filled network, and one loaded from its file after a change."""
    case = load_case("terramind", "tiny_gated_network")
    weights = get_card("terramind")[0].variants["v1_base"].weights
    assert weights is not None
    path = root / weights.repo / weights.file
    path.parent.mkdir(parents=True)
    module = _build(case)
    layout.write(change(module.state_dict()), path)
    loaded = build(**dict(layout.build(case.spec)))
    Checkpoints(root, offline=True).load(weights, loaded)
    return module, loaded


def _is_norm_bias(key: str) -> bool:
    return "norm" in key and key.endswith(".bias")


def _biases_left(count: int) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    def change(state: dict[str, Tensor]) -> dict[str, Tensor]:
        kept = [key for key in state if _is_norm_bias(key)][:count]
        return {key: value for key, value in state.items() if not _is_norm_bias(key) or key in kept}

    return change


@pytest.mark.parametrize("biases", [0, 5])
def test_a_published_file_loads_with_and_without_zero_biases(biases: int, tmp_path: Path) -> None:
    module, loaded = _load(_biases_left(biases), tmp_path)
    ours, theirs = loaded.state_dict(), module.state_dict()
    assert sum(map(_is_norm_bias, theirs)) == 5  # two blocks of two norms, and the last
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_biases_left(4), r"1 missing: encoder_norm\.bias"),
        (lambda state: state | {"encoder.2.norm1.weight": torch.ones(96)}, r"unexpected: encoder\.2\.norm1\.weight"),
        (lambda state: state | {f"{EMBEDDING}.proj.bias": torch.ones(96)}, r"unexpected: .*proj\.bias"),
        (lambda state: state | {"encoder.0.mlp.fc1.bias": torch.ones(256)}, r"unexpected: encoder\.0\.mlp\.fc1\.bias"),
        (lambda state: {k: v for k, v in state.items() if k != "encoder.1.mlp.fc3.weight"}, r"missing: .*fc3\.weight"),
        (lambda state: {k: v for k, v in state.items() if not k.endswith("mod_emb")}, r"missing: .*@224\.mod_emb"),
        (lambda state: state | {"encoder_norm.weight": torch.ones(64)}, r"misshapen: encoder_norm\.weight"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]], named: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=named):
        _load(change, tmp_path)
