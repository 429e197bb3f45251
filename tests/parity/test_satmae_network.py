"""SatMAE's encoder against the published one with the recipe's weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from rs_embed_core.checkpoints import Checkpoints
from rs_embed_core.errors import CheckpointError
from rs_embed_core.networks.vit import Vit, build
from rs_embed_core.registry import get_card
from rs_embed_core.specs.request import Ask
from rs_embed_core.weights import HubFile
from tests.parity.golden import Case, cases, fill, load_case, load_keys, recipe
from tests.parity.published import publish

# fMoW-RGB's statistics, golden/satmae/spec.md.
MEAN = np.array([0.4182007312774658, 0.4214799106121063, 0.3991275727748871], np.float32)[:, None, None]
STD = np.array([0.28774282336235046, 0.27541765570640564, 0.2764017581939697], np.float32)[:, None, None]
SIZES = {"tiny": {"dim": 64, "depth": 2, "heads": 4}, "large": {"dim": 1024, "depth": 24, "heads": 16}}
REFERENCE_EPS = 1e-5
DECODER = ("mask_token", "decoder_")
NETWORK_CASES = cases("satmae", level="network")


def _full_size(name: str) -> object:
    return pytest.param(name, marks=() if name.startswith("tiny") else pytest.mark.full)


def _filled(size: str, eps: float = REFERENCE_EPS) -> Vit:
    module = build(**SIZES[size], eps=eps)
    fill(module)
    return module.eval()


def _image(case: Case) -> torch.Tensor:
    arguments = case.spec["input"]
    values = recipe.patch(
        tuple(arguments["shape"]), seed=arguments["seed"], low=arguments["low"], high=arguments["high"]
    )
    grey = np.trunc(np.clip(values / np.float32(10_000), 0, 1) * np.float32(255))
    image = (grey / np.float32(255) - MEAN) / STD
    if "network_input" in case.tensors:
        case.check("network_input", image)
    return torch.from_numpy(image)[None]  # [1, 3, 224, 224]


def test_cases_exist() -> None:
    assert "tiny_network" in NETWORK_CASES


@pytest.mark.parametrize("name", [_full_size(name) for name in NETWORK_CASES])
def test_network(name: str) -> None:
    case = load_case("satmae", name)
    module = _filled(case.spec["variant"])
    published = load_keys("satmae", case.spec["keys"])
    encoder = {key: shape for key, shape in published.items() if not key.startswith(DECODER)}
    assert {key: tuple(value.shape) for key, value in module.state_dict().items()} == encoder
    tokens: list[torch.Tensor] = []
    module.norm.register_forward_hook(lambda *call: tokens.append(call[2]))

    with torch.inference_mode():
        features = module(_image(case))

    case.check("tokens", tokens[0][0])
    assert features.pooled_mean is None
    assert features.pooled_max is None
    patches = features.grid[0].flatten(1).T  # [196, D], row by row
    assert torch.equal(patches, tokens[0][0, 1:])


def test_batch_equals_single_runs() -> None:
    module = _filled("tiny")
    image = _image(load_case("satmae", "tiny_network"))
    batch = torch.cat([image, image.flip(-1), image * 0.5])
    with torch.inference_mode():
        together = module(batch).grid
        alone = torch.cat([module(batch[i : i + 1]).grid for i in range(len(batch))])
    torch.testing.assert_close(together, alone, rtol=0.0, atol=1e-5 * float(alone.abs().max()))


def test_cells_are_in_order_and_the_same_on_every_call() -> None:
    """The reference shuffles them; here a change in one corner is strongest in that corner."""
    module = _filled("tiny")
    image = _image(load_case("satmae", "tiny_network"))
    changed = image.clone()
    changed[..., :16, -16:] += 3
    with torch.inference_mode():
        first, second, other = (module(batch).grid for batch in (image, image, changed))
    assert torch.equal(first, second)
    change = (other - first).abs().sum(dim=1)[0]  # [14, 14]
    assert divmod(int(change.argmax()), 14) == (0, 13)


@pytest.mark.parametrize(("choice", "eps"), [("rs-embed", 1e-5), ("official", 1e-6)])
def test_layer_norms_have_the_eps_of_the_reference_or_of_the_authors(choice: str, eps: float) -> None:
    card, _ = get_card("satmae")
    selection = card.select(Ask("satmae", model_config=(("preprocessing", choice),)))
    module = build(**card.build_arguments(selection, {}) | SIZES["tiny"])
    norms = [layer for layer in module.modules() if isinstance(layer, nn.LayerNorm)]
    assert {norm.eps for norm in norms} == {eps}
    assert len(norms) == 5  # two in each block, and the last

    fill(module)
    small = torch.linspace(-1e-3, 1e-3, 64)  # its variance is of the size of eps, so that eps shows
    by_hand = (small - small.mean()) / torch.sqrt(small.var(correction=0) + eps)
    last = norms[-1]
    torch.testing.assert_close(last(small), by_hand * last.weight + last.bias)


@pytest.mark.parametrize("shape", [(1, 4, 224, 224), (1, 3, 192, 224), (3, 224, 224)])
def test_unfit_image_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"image must be \[B, 3, 224, 224\]"):
        _filled("tiny")(torch.zeros(shape))


def _published(root: Path) -> tuple[HubFile, Path]:
    card = publish(load_case("satmae", "tiny_resize"), root)
    weights = card.variants["tiny"].weights
    assert weights is not None
    return weights, root / weights.repo / weights.file


@pytest.mark.parametrize(("what", "key"), [("missing", "blocks.1.mlp.fc2.bias"), ("unexpected", "blocks.2.norm1.bias")])
def test_a_file_that_lacks_a_key_or_has_another_one_is_refused(tmp_path: Path, what: str, key: str) -> None:
    weights, path = _published(tmp_path)
    state = load_file(path)
    assert "decoder_pos_embed" in state  # the decoder's entries are no reason
    if what == "missing":
        del state[key]
    else:
        state[key] = torch.zeros(64)
    save_file(state, path)
    with pytest.raises(CheckpointError, match=f"1 {what}: {key}"):
        Checkpoints(tmp_path, offline=True).load(weights, build(**SIZES["tiny"], eps=REFERENCE_EPS))
