"""The CROMA encoders, their preparation and their weights against the published implementation."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import rs_embed_core
from rs_embed_core import BBox, Embedding, OutputSpec, get_embedding
from rs_embed_core.checkpoints import Checkpoints
from rs_embed_core.errors import CheckpointError
from rs_embed_core.models.croma import CARD
from rs_embed_core.networks.croma import Croma, build, distance_bias
from rs_embed_core.providers import register_provider
from rs_embed_core.registry import register_model
from rs_embed_core.sample import Sample
from rs_embed_core.weights import HubFile
from tests.parity.asked import arguments, imagery
from tests.parity.golden import Case, assert_close, cases, fill, load_case, load_keys, present, recipe
from tests.parity.layouts.croma import write
from tests.parity.published import publish

MODALITIES = {"s2": "optical", "s1": "sar", "joint": "joint"}  # ours, and what the cases call them
CHANNELS = {"s2": 12, "s1": 2, "joint": 14}
KEYS = {"tiny": (64, 2), "base": (768, 12), "large": (1024, 24)}
NETWORK_CASES = cases("croma", level="network")
every_modality = pytest.mark.parametrize("modality", MODALITIES)


def _build(case: Case, modality: str) -> Croma:
    config = case.spec["config"]
    module = build(modality=modality, dim=config["encoder_dim"], depth=config["encoder_depth"])  # type: ignore[arg-type]
    fill(module)
    return module.eval()


def _tiny(modality: str) -> Croma:
    return _build(load_case("croma", "tiny_network"), modality)


def _pixels(case: Case, modality: str) -> NDArray[np.float32]:
    """Raw values ``[C, H, W]``."""
    if modality == "joint":
        return np.concatenate([_pixels(case, "s2"), _pixels(case, "s1")])
    given = case.spec["input"][MODALITIES[modality]]
    drawn = recipe.patch(tuple(given["shape"]), seed=given["seed"], low=given["low"], high=given["high"])
    return drawn * np.float32(given.get("scale", 1)) + np.float32(given.get("offset", 0))


def _prepared(
    pixels: NDArray[np.float32], modality: str, valid: NDArray[np.bool_] | None = None, *, eight_bit: bool = False
) -> NDArray[np.float32]:
    """What the card makes of raw values ``[C, H, W]``."""
    entry = CARD.input(modality)
    chain = entry.chain_for({"image_size": pixels.shape[-1], "eight_bit": eight_bit})
    return chain(Sample({"image": pixels[None]}, entry.bands, valid)).image


def _image(modality: str, batch: int = 1, side: int = 32) -> Tensor:
    return torch.from_numpy(recipe.patch((batch, CHANNELS[modality], side, side), seed=5) / np.float32(4200))


def test_cases_exist() -> None:
    assert {"tiny_network"} <= set(NETWORK_CASES)
    assert {"tiny_s2", "tiny_s1", "tiny_joint"} <= set(cases("croma", level="end_to_end"))


@every_modality
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name.startswith("tiny") else pytest.mark.full) for name in NETWORK_CASES],
)
def test_network(name: str, modality: str) -> None:
    case = load_case("croma", name)
    image = torch.from_numpy(_prepared(_pixels(case, modality), modality))[None]
    with torch.inference_mode():
        features = _build(case, modality)(image)
    tokens, published = features.grid[0], MODALITIES[modality]
    case.check(f"{published}_grid", tokens)
    case.check(f"{published}_pooled_mean", tokens.mean(dim=(1, 2)))
    case.check(f"{published}_pooled_max", tokens.amax(dim=(1, 2)))
    assert (features.pooled_mean is None) == (modality == "joint")  # whose published vector is the mean of its tokens
    case.check(f"{published}_gap", tokens.mean(dim=(1, 2)) if features.pooled_mean is None else features.pooled_mean[0])
    assert features.pooled_max is None
    assert features.grid_max is None


@pytest.mark.parametrize("size", KEYS)
def test_state_dicts_are_the_published_ones(size: str) -> None:
    dim, depth = KEYS[size]
    published = load_keys("croma", f"{size}.keys.json")
    bias = published.pop("attn_bias")  # a buffer that is in no file
    found: dict[str, tuple[int, ...]] = {}
    for modality in MODALITIES:
        with torch.device("meta"):
            module = build(modality=modality, dim=dim, depth=depth)  # type: ignore[arg-type]
        found |= {key: tuple(value.shape) for key, value in module.state_dict().items()}
        assert not list(module.buffers())
    assert found == published
    assert tuple(distance_bias(round(bias[-1] ** 0.5), torch.device("cpu")).shape) == bias


@every_modality
def test_a_modality_has_the_parts_that_it_needs(modality: str) -> None:
    variant = CARD.variant("base", modality)
    assert variant.weights is not None
    parts = {key.split(".")[0] for key in _tiny(modality).state_dict()}
    assert parts == set(variant.weights.parts)


def test_the_bias_by_hand() -> None:
    bias = distance_bias(3, torch.device("cpu"))
    assert bias.shape == (1, 16, 9, 9)
    assert torch.equal(bias, bias.transpose(2, 3))
    np.testing.assert_allclose(bias[0, :, 0, 1], [-(2 ** (-(head + 1) / 2)) for head in range(16)], rtol=1e-6)
    # From the first patch to all nine, row by row, of the head whose slope is one half.
    far = [0, 1, 2, 1, 2**0.5, 5**0.5, 2, 5**0.5, 8**0.5]
    np.testing.assert_allclose(bias[0, 1, 0], [-0.5 * distance for distance in far], rtol=1e-6)


class _Roots(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's gap
    """Counts square roots: the bias is what takes them."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]  # torch's protocol
        self.count += func is torch.ops.aten.sqrt.default
        return func(*args, **(kwargs or {}))


def test_the_bias_is_made_once_per_size() -> None:
    module = _tiny("s1")
    with torch.inference_mode(), _Roots() as roots:  # type: ignore[no-untyped-call]
        for side in (32, 32, 40, 32, 40):
            module(_image("s1", side=side))
    assert roots.count == 2
    assert not list(module.buffers())


def test_a_network_that_has_answered_still_trains() -> None:
    module = _tiny("s1")
    with torch.inference_mode():
        module(_image("s1"))
    module(_image("s1")).grid.sum().backward()
    assert module.s1_encoder.linear_input.weight.grad is not None


def test_threads_share_a_network() -> None:
    module, sides = _tiny("s2"), [16, 24, 32, 40] * 3
    with torch.inference_mode():
        expected = {side: module(_image("s2", side=side)).grid for side in set(sides)}
    found: list[tuple[int, Tensor]] = []

    def run(side: int) -> None:
        with torch.inference_mode():
            found.append((side, module(_image("s2", side=side)).grid))

    threads = [threading.Thread(target=run, args=(side,)) for side in sides]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len(sides)
    for side, grid in found:
        torch.testing.assert_close(grid, expected[side], rtol=0.0, atol=1e-5)


@every_modality
def test_batch_equals_single_runs(modality: str) -> None:
    module, image = _tiny(modality), _image(modality, batch=3)
    with torch.inference_mode():
        together = present(module(image))
        alone = [present(module(image[i : i + 1])) for i in range(3)]
    for index, tensor in enumerate(together):
        torch.testing.assert_close(tensor, torch.cat([one[index] for one in alone]), rtol=0.0, atol=1e-5)


@every_modality
def test_every_channel_matters(modality: str) -> None:
    module, image = _tiny(modality), _image(modality)
    with torch.inference_mode():
        base = module(image).grid
        for channel in range(CHANNELS[modality]):
            changed = image.clone()
            changed[:, channel, :8, :8] += 1
            assert not torch.allclose(module(changed).grid, base, atol=1e-5)


@every_modality
def test_sixteen_bits_are_close(modality: str) -> None:
    module, image = _tiny(modality), _image(modality)
    with torch.inference_mode():
        full = module(image).grid
        with torch.autocast("cpu", dtype=torch.bfloat16):
            short = module(image).grid.float()
    assert float((short - full).abs().max()) <= 0.05 * float(full.abs().max())


@pytest.mark.parametrize(
    ("modality", "shape"),
    [
        ("s2", (1, 13, 32, 32)),
        ("s2", (1, 2, 32, 32)),
        ("s1", (1, 3, 32, 32)),
        ("joint", (1, 12, 32, 32)),
        ("s2", (1, 12, 32, 24)),
        ("s2", (1, 12, 36, 36)),
        ("s2", (1, 12, 0, 0)),
        ("s2", (12, 32, 32)),
    ],
)
def test_unfit_images_are_refused(modality: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"\[B, {CHANNELS[modality]}, H, H\] with H a multiple of 8"):
        _tiny(modality)(torch.zeros(shape))


def test_unfit_width_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 16"):
        build(modality="s2", dim=40, depth=2)


# --- preparation -------------------------------------------------------------------------------------------


@every_modality
def test_scaling_is_the_authors_for_one_sample(modality: str) -> None:
    """README.md of antofuller/CROMA, ``normalize``, with the sample as its batch."""
    pixels = _pixels(load_case("croma", "tiny_network"), modality)
    low, high = (pixels.mean((1, 2)) + sign * 2 * pixels.std((1, 2), ddof=1) for sign in (-1, 1))
    expected = (pixels - low[:, None, None]) / (high - low)[:, None, None]
    assert expected.min() < 0  # something is there to be clipped
    assert_close(_prepared(pixels, modality), np.clip(expected, 0, 1))


def test_eight_bits_are_rounded_down() -> None:
    pixels = _pixels(load_case("croma", "tiny_network"), "s2")
    plain, rounded = _prepared(pixels, "s2"), _prepared(pixels, "s2", eight_bit=True)
    np.testing.assert_array_equal(rounded, np.trunc(plain * np.float32(255)) / np.float32(255))
    assert 0 < (plain - rounded).max() < 1 / 255


def test_missing_pixels_take_no_part_in_the_scaling() -> None:
    pixels = _pixels(load_case("croma", "tiny_network"), "joint")
    valid = np.ones((1, 32, 32), np.bool_)
    valid[0, :8, :8] = False
    holes = np.where(valid, pixels, np.float32(0))
    holes[12:, 24:, 24:] = np.nan  # no radar there
    image = _prepared(holes, "joint", valid)
    np.testing.assert_array_equal(image[:, :8, :8], 0.5)
    np.testing.assert_array_equal(image[12:, 24:, 24:], 0.5)
    left = pixels[:, 8:]  # rows without the hole
    middle = np.stack([np.where(valid[0], band, np.nan) for band in pixels[:12]])
    mean, std = np.nanmean(middle, axis=(1, 2)), np.nanstd(middle, axis=(1, 2), ddof=1)
    expected = np.clip((left[:12] - mean[:, None, None]) / (4 * std[:, None, None]) + 0.5, 0, 1)
    np.testing.assert_allclose(image[:12, 8:], expected, atol=1e-5)
    assert np.isfinite(image).all()


@every_modality
def test_a_flat_band_is_grey(modality: str) -> None:
    image = _prepared(np.full((CHANNELS[modality], 32, 32), -7, np.float32), modality)
    np.testing.assert_array_equal(image, 0.5)


# --- weights -----------------------------------------------------------------------------------------------


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """All parts of a small network with the recipe's weights, in one published file; its folder."""
    weights = _weights("s2")
    state = {key: value for modality in MODALITIES for key, value in _tiny(modality).state_dict().items()}
    path = tmp_path / weights.repo / weights.file
    path.parent.mkdir(parents=True)
    write(state, path)
    return tmp_path


def _weights(modality: str) -> HubFile:
    weights = CARD.variant("base", modality).weights
    assert weights is not None
    return weights


@every_modality
def test_one_file_fills_every_modality(whole: Path, modality: str) -> None:
    module = build(modality=modality, dim=64, depth=2).eval()  # type: ignore[arg-type]
    Checkpoints(whole, offline=True).load(_weights(modality), module)
    image = _image(modality)
    with torch.inference_mode():
        assert torch.equal(module(image).grid, _tiny(modality)(image).grid)


@every_modality
def test_a_file_with_other_keys_is_refused(whole: Path, modality: str) -> None:
    weights = _weights(modality)
    path = whole / weights.repo / weights.file
    parts = torch.load(path, weights_only=True)
    module, checkpoints = build(modality=modality, dim=64, depth=2), Checkpoints(whole, offline=True)  # type: ignore[arg-type]
    part = weights.parts[-1]
    key = next(iter(parts[part]))
    without = {name: value for name, value in parts[part].items() if name != key}
    lost = {name: value for name, value in parts.items() if name != part}
    for changed, named in (
        ({**parts, part: without}, f"1 missing: {part}.{key}"),
        ({**parts, part: {**parts[part], "queries": torch.zeros(3)}}, f"1 unexpected: {part}.queries"),
        (lost, f"{len(parts[part])} missing: {part}."),
        ({**parts, part: 3}, f"{len(parts[part])} missing: {part}."),
    ):
        torch.save(changed, path)
        with pytest.raises(CheckpointError, match=named.replace(".", r"\.")):
            checkpoints.load(weights, module)


# --- the image vector of a place ---------------------------------------------------------------------------


@pytest.fixture
def restore() -> Iterator[None]:
    """The card and the defaults as they were."""
    yield
    register_model(CARD)
    rs_embed_core.configure()


@pytest.mark.usefixtures("restore")
@every_modality
def test_a_rectangle_has_the_image_vector_of_its_square(modality: str, tmp_path: Path) -> None:
    case = load_case("croma", f"tiny_{modality}")
    register_model(publish(case, tmp_path))
    rs_embed_core.configure(checkpoints_root=tmp_path, offline=True)
    register_provider("golden", imagery(case))
    asked = arguments(case) | {"spatial": BBox(121.5, 31.2, 121.503, 31.201)}

    def embed(output: OutputSpec) -> Embedding:
        return get_embedding("croma", output=output, backend="golden", device="cpu", **asked)

    vector, grid = embed(OutputSpec.pooled()), embed(OutputSpec.grid())
    case.check("pooled_mean", np.asarray(vector.data))
    assert "square_pooled" in str(vector.meta["notices"])
    assert grid.data.shape[1] < grid.data.shape[2] == 4  # the ROI's cells


def test_joint_reads_both_sensors_on_one_grid() -> None:
    entry = CARD.input("joint")
    assert entry.collections == ("COPERNICUS/S2_SR_HARMONIZED", "COPERNICUS/S1_GRD")
    assert entry.own_bands == CARD.input("s2").bands
    assert entry.bands == (*CARD.input("s2").bands, *CARD.input("s1").bands)
    (radar,) = entry.also
    assert (radar.linear, radar.cloudy_pct) == (CARD.input("s1").linear, CARD.input("s1").cloudy_pct) == (False, None)
