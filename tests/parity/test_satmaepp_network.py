"""SatMAE++'s two encoders against the published ones with the recipe's weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from rs_embed_core.checkpoints import Checkpoints
from rs_embed_core.chip import Chip
from rs_embed_core.errors import CheckpointError, InvalidInput, UnknownOption, Unsupported
from rs_embed_core.networks.satmaepp import build
from rs_embed_core.plan import Plan
from rs_embed_core.plan import recipe as resolve
from rs_embed_core.prepare import prepare
from rs_embed_core.registry import get_card
from rs_embed_core.sample import Sample
from rs_embed_core.specs.output import InputPrepSpec
from rs_embed_core.specs.request import Ask
from tests.parity.golden import Case, cases, fill, load_case, load_keys, recipe
from tests.parity.published import publish

# golden/satmaepp/spec.md
RGB_MEAN = np.array([0.4182007312774658, 0.4214799106121063, 0.3991275727748871], np.float32)[:, None, None]
RGB_STD = np.array([0.28774282336235046, 0.27541765570640564, 0.2764017581939697], np.float32)[:, None, None]
S2_MEAN, S2_STD = np.array(
    [
        (1184.3824625, 650.2842772),
        (1120.77120066, 712.12507725),
        (1136.26026392, 965.23119807),
        (1263.73947144, 948.9819932),
        (1645.40315151, 1108.06650639),
        (1846.87040806, 1258.36394548),
        (1762.59530783, 1233.1492281),
        (1972.62420416, 1364.38688993),
        (1732.16362238, 1310.36996126),
        (1247.91870117, 1087.6020813),
    ],
    np.float32,
).T[:, :, None, None]
SIZES = {
    "tiny": {"dim": 64, "depth": 2, "heads": 4, "channel_dim": 16},
    "large": {"dim": 1024, "depth": 24, "heads": 16, "channel_dim": 256},
}
EPS = {"rgb": 1e-5, "s2_10b": 1e-6}
DECODER = ("mask_token", "decoder_", "proj_up_", "up_block")
NETWORK_CASES = cases("satmaepp", level="network")
TINY_CASES = [name for name in NETWORK_CASES if name.startswith("tiny")]


def _full_size(name: str) -> object:
    return pytest.param(name, marks=() if name.startswith("tiny") else pytest.mark.full)


def _filled(case: Case) -> nn.Module:
    modality = case.spec["modality"]
    module = build(modality=modality, **SIZES[case.spec["variant"]], eps=EPS[modality])
    fill(module)
    return module.eval()


def _prepare(values: np.ndarray, modality: str) -> np.ndarray:
    if modality == "rgb":
        grey = np.trunc(np.clip(values / np.float32(10_000), 0, 1) * np.float32(255))
        return (grey / np.float32(255) - RGB_MEAN) / RGB_STD
    low, high = S2_MEAN - 2 * S2_STD, S2_MEAN + 2 * S2_STD
    return np.trunc(np.clip((values - low) / (high - low) * np.float32(255), 0, 255)) / np.float32(255)


def _image(case: Case) -> torch.Tensor:
    arguments = case.spec["input"]
    values = recipe.patch(
        tuple(arguments["shape"]), seed=arguments["seed"], low=arguments["low"], high=arguments["high"]
    )
    image = _prepare(values, case.spec["modality"])
    if "network_input" in case.tensors:
        case.check("network_input", image)
    return torch.from_numpy(image)[None]


def test_cases_exist() -> None:
    assert TINY_CASES == ["tiny_rgb_network", "tiny_s2_10b_network"]


@pytest.mark.parametrize("name", [_full_size(name) for name in NETWORK_CASES])
def test_network(name: str) -> None:
    case = load_case("satmaepp", name)
    module = _filled(case)
    published = load_keys("satmaepp", case.spec["keys"])
    encoder = {key: shape for key, shape in published.items() if not key.startswith(DECODER)}
    assert {key: tuple(value.shape) for key, value in module.state_dict().items()} == encoder
    tokens: list[torch.Tensor] = []
    module.norm.register_forward_hook(lambda *call: tokens.append(call[2]))

    with torch.inference_mode():
        features = module(_image(case))

    case.check("tokens", tokens[0][0])
    patches = tokens[0][0, 1:]  # [G * N, D]
    height, width = features.grid.shape[2:]
    groups = patches.unflatten(0, (-1, height * width))
    assert torch.equal(features.grid[0].flatten(1).T, groups.mean(dim=0))  # row by row
    if len(groups) == 1:
        assert features.pooled_max is None
    else:
        assert torch.equal(features.pooled_max[0], patches.amax(dim=0))
        assert (features.pooled_max[0] > features.grid[0].amax(dim=(1, 2))).any()  # the grid's maximum is another
    assert features.pooled_mean is None


@pytest.mark.parametrize("name", TINY_CASES)
def test_batch_equals_single_runs(name: str) -> None:
    case = load_case("satmaepp", name)
    module = _filled(case)
    image = _image(case)
    batch = torch.cat([image, image.flip(-1), image * 0.5])
    with torch.inference_mode():
        together = module(batch)
        alone = [module(batch[i : i + 1]) for i in range(len(batch))]
    for field in ("grid", "pooled_max"):
        if getattr(together, field) is not None:
            expected = torch.cat([getattr(single, field) for single in alone])
            bound = 1e-5 * float(expected.abs().max())
            torch.testing.assert_close(getattr(together, field), expected, rtol=0.0, atol=bound)


@pytest.mark.parametrize("name", TINY_CASES)
def test_cells_are_in_order(name: str) -> None:
    """The reference shuffles them; here a change in one corner is strongest in that corner."""
    case = load_case("satmaepp", name)
    module = _filled(case)
    image = _image(case)
    changed = image.clone()
    changed[..., :8, -8:] += 3
    with torch.inference_mode():
        change = (module(changed).grid - module(image).grid).abs().sum(dim=1)[0]
    assert divmod(int(change.argmax()), change.shape[1]) == (0, change.shape[1] - 1)


@pytest.mark.parametrize("channel", range(10))
def test_every_band_goes_to_its_group(channel: int) -> None:
    case = load_case("satmaepp", "tiny_s2_10b_network")
    module = _filled(case)
    tokens: list[torch.Tensor] = []
    module.blocks.register_forward_pre_hook(lambda *call: tokens.append(call[1][0]))
    image = _image(case)
    changed = image.clone()
    changed[:, channel] += 1
    with torch.inference_mode():
        module(image)
        module(changed)
    differs = (tokens[0] != tokens[1])[0].any(dim=-1)  # [1 + 3 * 144]
    assert not differs[0]  # the class token
    groups = differs[1:].unflatten(0, (3, 144)).any(dim=1).tolist()
    home = 0 if channel in (0, 1, 2, 6) else 1 if channel in (3, 4, 5, 7) else 2
    assert groups == [group == home for group in range(3)]


def test_the_class_token_of_s2_has_no_position() -> None:
    case = load_case("satmaepp", "tiny_s2_10b_network")
    module = _filled(case)
    image = _image(case)
    with torch.inference_mode():
        before = module(image).grid
        module.pos_embed[:, 0] += 5
        assert torch.equal(module(image).grid, before)


@pytest.mark.parametrize(
    ("modality", "choice", "eps"),
    [
        ("rgb", "rs-embed", 1e-5),
        ("rgb", "official", 1e-6),
        ("s2_10b", "rs-embed", 1e-6),
        ("s2_10b", "official", 1e-6),
    ],
)
def test_layer_norms_have_the_eps_of_the_reference_or_of_the_authors(modality: str, choice: str, eps: float) -> None:
    card, _ = get_card("satmaepp")
    ask = Ask("satmaepp", modality=modality, model_config=(("preprocessing", choice),))
    module = build(**card.build_arguments(card.select(ask), {}) | SIZES["tiny"])
    norms = [layer for layer in module.modules() if isinstance(layer, nn.LayerNorm)]
    assert {norm.eps for norm in norms} == {eps}
    assert len(norms) == 5  # two in each block, and the last


@pytest.mark.parametrize(("name", "expected"), [("tiny_rgb_network", "3, 224"), ("tiny_s2_10b_network", "10, 96")])
@pytest.mark.parametrize("shape", [(1, 4, 224, 224), (1, 10, 96, 88), (10, 96, 96)])
def test_unfit_image_is_refused(name: str, expected: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"image must be \[B, {expected}"):
        _filled(load_case("satmaepp", name))(torch.zeros(shape))


# --- the card ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("modality", ["rgb", "s2_10b"])
def test_every_sensor_value_is_rounded_as_in_the_reference(modality: str) -> None:
    """One step of the 8 bits is 0.4 %, so limits that are off in the last digit would show."""
    entry = get_card("satmaepp")[0].input(modality)
    side = entry.shape.image_size  # no resizing: the values are compared
    values = np.arange(side * side, dtype=np.float32).reshape(side, side) / 2  # medians of two have halves
    image = np.broadcast_to(values, (1, len(entry.bands), side, side))
    ours = entry.chain(Sample({"image": image}, entry.bands)).image
    np.testing.assert_array_equal(ours, _prepare(image[0], modality))


def test_the_alias_stands_for_the_modality() -> None:
    large = resolve(Ask("satmaepp_s2_10b", model_config=(("variant", "L"),)))
    assert large.selection == resolve(Ask("satmaepp", modality="s2_10b")).selection
    assert resolve(Ask("satmae++")).selection.modality == "rgb"
    with pytest.raises(Unsupported, match="satmaepp_s2_10b stands for modality s2_10b, not rgb"):
        resolve(Ask("satmaepp_s2_10b", modality="rgb"))
    with pytest.raises(UnknownOption, match="no variant 'base'"):
        resolve(Ask("satmaepp_s2_10b", model_config=(("variant", "base"),)))


@pytest.mark.parametrize(("side", "tiles"), [(96, 1), (224, 1), (225, 1), (300, 4)])
def test_a_tile_has_224_pixels_in_either_modality(side: int, tiles: int) -> None:
    """96 is the size that s2_10b's network takes, not its tile's; of 225 pixels one is scaled away."""
    for modality, size in (("rgb", 224), ("s2_10b", 96)):
        ask = Ask("satmaepp", modality=modality, input_prep=InputPrepSpec.tile())
        shared = resolve(ask)
        read = replace(shared.read, grid=replace(shared.read.grid, height=side, width=side))
        pixels = recipe.patch((1, len(read.bands), side, side))
        chip = Chip(pixels, read.grid, read.bands, read.frames, "golden", read.collection)
        samples = prepare(chip, Plan(ask, shared.selection, shared.window, read)).samples
        assert [sample.image.shape for sample in samples] == [(len(read.bands), size, size)] * tiles


def test_bands_in_another_order_are_refused() -> None:
    entry = get_card("satmaepp")[0].input("s2_10b")
    with pytest.raises(InvalidInput, match="satmaepp got the 10 bands") as caught:
        entry.check_bands(entry.bands[::-1], "satmaepp")
    assert "B2, B3, B4, B5, B6, B7, B8, B8A, B11, B12, in this order" in caught.value.hint


@pytest.mark.parametrize("name", ["tiny_rgb_resize", "tiny_s2_10b_resize"])
@pytest.mark.parametrize(("what", "key"), [("missing", "blocks.1.mlp.fc2.bias"), ("unexpected", "blocks.2.norm1.bias")])
def test_a_file_that_lacks_a_key_or_has_another_one_is_refused(tmp_path: Path, name: str, what: str, key: str) -> None:
    case = load_case("satmaepp", name)
    card = publish(case, tmp_path)
    weights = card.variants["tiny"].weights
    path = tmp_path / weights.repo / weights.file
    content = torch.load(path, weights_only=True)
    state = content.get("model", content)
    assert "mask_token" in state  # the decoder's entries are no reason
    if what == "missing":
        del state[key]
    else:
        state[key] = torch.zeros(64)
    torch.save(content, path)
    network = build(**dict(card.variants["tiny"].build))
    with pytest.raises(CheckpointError, match=f"1 {what}: {key}"):
        Checkpoints(tmp_path, offline=True).load(weights, network)
