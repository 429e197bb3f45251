"""The FoMo encoder and its preparation against the published implementation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rs_embed_core.checkpoints import Checkpoints
from rs_embed_core.errors import CheckpointError
from rs_embed_core.models.fomo import CARD
from rs_embed_core.networks.fomo import Fomo, build
from rs_embed_core.prepare import example
from rs_embed_core.sample import Sample
from rs_embed_core.specs.request import Ask
from tests.parity.golden import Case, cases, fill, golden_file, load_case, load_keys, present, recipe
from tests.parity.layouts.fomo import options, write
from tests.parity.published import publish

KEYS = [6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 17, 18]  # golden/fomo/spec.md: B1 to B12 without B10
SIZES = {
    "tiny": {"dim": 64, "depth": 2, "heads": 2, "mlp_dim": 96, "classes": 10},
    "base": {"dim": 768, "depth": 12, "heads": 12, "mlp_dim": 2048, "classes": 1000},
}
PREPARED = [name for name in cases("fomo", level="end_to_end") if "network_input" in load_case("fomo", name).tensors]


def _marked(names: list[str]) -> list[object]:
    return [pytest.param(name, marks=() if name.startswith("tiny") else pytest.mark.full) for name in names]


def _tiny() -> Fomo:
    module = build(**SIZES["tiny"])
    fill(module)
    return module.eval()


def _inputs(batch: int = 1) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(recipe.patch((batch, 12, 64, 64), seed=5)) / 10_000, torch.tensor([KEYS] * batch)


def _pixels(case: Case) -> NDArray[np.float32]:
    given = case.spec["input"]
    return recipe.patch(tuple(given["shape"]), seed=given["seed"], low=given["low"], high=given["high"])


def _prepared(pixels: NDArray[np.float32], **config: str) -> NDArray[np.float32]:
    entry = CARD.inputs[0]
    chosen = CARD.select(Ask("fomo", model_config=tuple(config.items()))).options
    return entry.chain_for(dict(chosen))(Sample({"image": pixels[None]}, entry.bands)).image


def test_cases_exist() -> None:
    assert "tiny_network" in cases("fomo", level="network")
    assert {"tiny_downsample", "tiny_minmax", "tiny_native"} <= set(PREPARED)


@pytest.mark.parametrize("name", _marked(cases("fomo", level="network")))
def test_network(name: str) -> None:
    case = load_case("fomo", name)
    module = build(**SIZES[case.spec["network"]["name"]])
    fill(module, prefix=case.spec["network"]["recipe_prefix"])
    tokens: list[Tensor] = []
    module.eval().transformer.register_forward_hook(lambda *call: tokens.append(call[2]))
    image = _pixels(case) / np.float32(10_000)
    case.check("network_input", image)
    with torch.inference_mode():
        features = module(torch.from_numpy(image)[None], torch.tensor([case.spec["side_inputs"]["spectral_keys"]]))
    case.check("tokens", tokens[0][0])
    assert features.pooled_mean is not None
    assert features.pooled_max is not None
    by_band = tokens[0][0].reshape(12, 4, 4, -1)  # band after band, each row by row
    torch.testing.assert_close(features.grid[0], by_band.mean(0).permute(2, 0, 1))
    torch.testing.assert_close(features.pooled_mean[0], features.grid[0].mean((1, 2)))
    assert torch.equal(features.pooled_max[0], tokens[0][0].amax(0))
    assert (features.pooled_max[0] >= features.grid[0].amax((1, 2))).all()


@pytest.mark.parametrize("name", PREPARED)
def test_preparation(name: str) -> None:
    """The outputs hardly tell one scale from another, so the network's input is compared too."""
    case = load_case("fomo", name)
    case.check("network_input", _prepared(_pixels(case), **options(case)))


def test_every_way_to_scale_by_hand() -> None:
    pixels = np.zeros((12, 64, 64), np.float32)
    pixels[:, 0, :3] = [-5, 2_500, 12_000]
    for name, expected in (("unit_scale", [0, 0.25, 1]), ("none", [0, 2_500, 10_000])):
        assert _prepared(pixels, normalization=name)[3, 0, :3].tolist() == expected
    pixels[3] += 1_000  # the smallest of a band becomes 0, its largest 1
    stretched = _prepared(pixels, normalization="per_tile_minmax")[3, 0]
    np.testing.assert_allclose(stretched[:4], [0, (3_500 - 995) / 9_005, 1, 5 / 9_005], rtol=1e-5)


def test_a_rectangle_is_padded() -> None:
    rows = np.broadcast_to(np.arange(40, dtype=np.float32)[:, None] * 100, (12, 40, 64))
    image = _prepared(np.ascontiguousarray(rows))
    expected = [*range(12, 0, -1), *range(40), *range(38, 26, -1)]  # mirrored above and below
    np.testing.assert_allclose(image[0, :, 0], np.array(expected) / 100, rtol=1e-6)


@pytest.mark.parametrize("size", _marked(list(SIZES)))
def test_state_dict_is_the_published_one(size: str) -> None:
    if not golden_file("fomo", f"{size}.keys.json").exists():
        pytest.skip("the full-size keys are in ../shared/golden")
    with torch.device("meta"):
        module = build(**SIZES[size])
    shapes = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    assert shapes == load_keys("fomo", f"{size}.keys.json")


def test_layer_norms_have_the_published_eps() -> None:
    assert {layer.eps for layer in _tiny().modules() if isinstance(layer, nn.LayerNorm)} == {1e-5}


def test_batch_equals_single_runs() -> None:
    module = _tiny()
    image, keys = _inputs(batch=3)
    with torch.inference_mode():
        together = module(image, keys)
        for i in range(3):
            alone = module(image[i : i + 1], keys[i : i + 1])
            for ours, single in zip(present(together), present(alone), strict=True):
                torch.testing.assert_close(ours[i], single[0], rtol=1e-5, atol=1e-5)


def test_bands_are_known_by_their_keys_not_their_places() -> None:
    module = _tiny()
    image, keys = _inputs()
    with torch.inference_mode():
        base, flipped = module(image, keys), module(image.flip(1), keys.flip(1))
        other = module(image, keys - 6)
    torch.testing.assert_close(base.grid, flipped.grid, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(base.grid, other.grid, rtol=1e-3, atol=1e-3)


def test_the_card_gives_every_band_its_key() -> None:
    batch = example(Ask("fomo"))
    assert CARD.inputs[0].bands == ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B11", "B12")
    assert batch.arrays["spectral_keys"].tolist() == [KEYS]


def test_a_constant_patch_is_no_error() -> None:
    module = _tiny()
    _, keys = _inputs()
    with torch.inference_mode():
        dark, bright = (module(torch.full((1, 12, 64, 64), value), keys).grid for value in (0.0, 0.5))
    assert torch.isfinite(dark).all()
    torch.testing.assert_close(dark, bright)


@pytest.mark.parametrize(
    ("shape", "keys", "message"),
    [
        ((1, 12, 224, 224), (1, 12), r"image must be \[B, C, 64, 64\]"),
        ((12, 64, 64), (1, 12), r"image must be \[B, C, 64, 64\]"),
        ((1, 12, 64, 64), (1, 11), r"spectral_keys must be \[1, 12\]"),
    ],
)
def test_unfit_inputs_are_refused(shape: tuple[int, ...], keys: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _tiny()(torch.zeros(shape), torch.zeros(keys, dtype=torch.int64))


def test_a_file_with_other_keys_is_refused(tmp_path: Path) -> None:
    variant = publish(load_case("fomo", "tiny_native"), tmp_path).variants["tiny"]
    assert variant.weights is not None
    network = build(**SIZES["tiny"])
    checkpoints = Checkpoints(tmp_path, offline=True)
    checkpoints.load(variant.weights, network)
    state = network.state_dict()
    path = tmp_path / variant.weights.repo / variant.weights.file
    without = {key: value for key, value in state.items() if key != "cls_token"}
    for changed, named in (
        (without, "missing: cls_token"),
        ({**state, "extra": state["cls_token"]}, "unexpected: extra"),
    ):
        write(changed, path)
        with pytest.raises(CheckpointError, match=named):
            checkpoints.load(variant.weights, network)
