"""The OlmoEarth encoders against the published implementation, and the files that they are loaded from."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from rs_embed_core.checkpoints import Checkpoints
from rs_embed_core.errors import CheckpointError, UnknownOption
from rs_embed_core.networks.olmoearth import OlmoEarth, build
from rs_embed_core.networks.series import Block, in_parts
from rs_embed_core.plan import recipe as recipe_of
from rs_embed_core.registry import get_card
from rs_embed_core.sample import Sample
from rs_embed_core.specs.request import Ask, ModelConfig
from rs_embed_core.specs.temporal import TemporalSpec
from tests.parity.golden import Case, assert_close, cases, fill, golden_file, load_case, load_keys, recipe
from tests.parity.layouts import olmoearth as layout

NETWORK_CASES = cases("olmoearth", level="network")
FAMILIES = {
    "v1": {},
    "v1_1": {"pixel_features": 12},
    "v1_2": {"pixel_features": 12, "rotary": True},
}
VARIANTS = tuple(get_card("olmoearth")[0].variants)
every_family = pytest.mark.parametrize("family", FAMILIES)


def _tiny(family: str, **changes: int) -> OlmoEarth:
    module = build(**{"dim": 32, "depth": 2, "heads": 2} | FAMILIES[family] | changes)
    fill(module)
    return module.eval()


def _series(batch: int = 1, frames: int = 2, channels: int = 12, size: int = 16) -> tuple[Tensor, Tensor]:
    image = torch.from_numpy(recipe.patch((batch, frames, channels, size, size), seed=5)) / 5000
    dates = [[(1 + i + t, (i + 2 * t) % 12, 2020 + i) for t in range(frames)] for i in range(batch)]
    return image, torch.tensor(dates)


def _from_case(case: Case) -> OlmoEarth:
    module = build(**dict(layout.build(case.spec)))
    layout.fill_network(case, module)
    return module.eval()


def _shapes(module: OlmoEarth) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in module.state_dict().items()}


def test_cases_exist() -> None:
    assert {f"tiny_network_{family}_{kind}" for family in FAMILIES for kind in ("s2_p4", "s2_p8", "s1_p4")} == set(
        NETWORK_CASES
    )


@pytest.mark.parametrize("name", NETWORK_CASES)
def test_network(name: str) -> None:
    case = load_case("olmoearth", name)
    module = _from_case(case)
    assert _shapes(module) == load_keys("olmoearth", case.spec["keys"])
    sides = case.spec["side_inputs"]
    image = torch.from_numpy(case.tensors["network_input"])[None]  # [1, T, C, H, W]
    dates = torch.tensor([sides["timestamps_day_month0_year"]])
    with torch.inference_mode():
        features = module(image, dates, patch_size=sides["patch_size"])
    tokens = case.tensors["tokens"][0]  # [h, w, T, S, D]
    most = features.grid if features.grid_max is None else features.grid_max
    assert_close(features.grid[0].permute(1, 2, 0), tokens.mean(axis=(2, 3)))
    assert_close(most[0].permute(1, 2, 0), tokens.max(axis=(2, 3)))
    case.check("pooled_mean", features.grid[0].mean(dim=(1, 2)))
    case.check("pooled_max", most[0].amax(dim=(1, 2)))
    assert features.pooled_mean is None  # that of the cells
    assert features.pooled_max is None


@pytest.mark.parametrize("name", NETWORK_CASES)
def test_sensor_values_are_scaled_as_published(name: str) -> None:
    case = load_case("olmoearth", name)
    given = case.spec["input"]
    pixels = recipe.patch(tuple(given["shape"]), seed=given["seed"], low=given["low"], high=given["high"])
    pixels = pixels * np.float32(given.get("scale", 1)) + np.float32(given.get("offset", 0))
    entry = get_card("olmoearth")[0].input(case.spec["modality"])
    chain = entry.chain_for(get_card("olmoearth")[0].defaults | {"image_size": pixels.shape[-1]})
    case.check("network_input", chain(Sample({"image": pixels}, entry.bands)).image)


@pytest.mark.parametrize("variant", VARIANTS)
def test_state_dict_is_the_published_one(variant: str) -> None:
    file = f"{variant}.keys.json"
    if not golden_file("olmoearth", file).exists():
        pytest.skip("the full-size keys are in ../shared/golden")
    with torch.device("meta"):
        module = build(**dict(get_card("olmoearth")[0].variants[variant].build))
    assert _shapes(module) == load_keys("olmoearth", file)


@every_family
@pytest.mark.parametrize(("channels", "patch_size"), [(12, 4), (12, 8), (2, 1)])
def test_batch_equals_single_runs(family: str, channels: int, patch_size: int) -> None:
    module = _tiny(family)
    image, dates = _series(batch=3, channels=channels)
    with torch.inference_mode():
        together = module(image, dates, patch_size=patch_size)
        for i in range(3):
            alone = module(image[i : i + 1], dates[i : i + 1], patch_size=patch_size)
            torch.testing.assert_close(together.grid[i], alone.grid[0], rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(together.grid_max[i], alone.grid_max[0], rtol=1e-5, atol=1e-5)


@every_family
def test_every_input_matters(family: str) -> None:
    module = _tiny(family)
    image, dates = _series()
    with torch.inference_mode():
        base = module(image, dates).grid
        for channel in range(12):
            changed = image.clone()
            changed[:, :, channel] += 1
            assert not torch.allclose(module(changed, dates).grid, base, atol=1e-6)
        month = dates + torch.tensor([0, 1, 0])
        assert not torch.allclose(module(image, month).grid, base, atol=1e-6)
        assert not torch.allclose(module(image.flip(1), dates).grid, base, atol=1e-6)


def _apart(module: OlmoEarth, moved: Tensor) -> float:
    """How far the features move with the dates, where attention is sharp and rotations reach far."""
    for block in module.blocks:
        for weight in (block.attn.rope_mixed_freqs, block.attn.q.weight, block.attn.k.weight):
            weight.data.mul_(20)
    image, dates = _series()
    with torch.inference_mode():
        return float((module(image, dates + moved).grid - module(image, dates).grid).abs().max())


def test_rotary_attention_sees_the_time_between_frames_and_not_the_date() -> None:
    """The months' own code aside: whole years move both frames alike, days of one frame do not."""
    years, days = torch.tensor([0, 0, 8]), torch.tensor([[[0, 0, 0], [9, 0, 0]]])
    assert _apart(_tiny("v1_2"), years) < 1e-6
    assert _apart(_tiny("v1_2"), days) > 1e-4


def test_rotations_are_those_of_the_published_formula() -> None:
    """Scores of two tokens from the angles of golden/olmoearth/spec.md, in float64 and with dates from 2000 on."""
    module = _tiny("v1_2")
    attention = module.blocks[0].attn
    frequencies = attention.rope_mixed_freqs.data.mul_(10)
    dates = torch.tensor([[[15, 1, 2021], [20, 6, 2022]]])  # 15 February 2021 and 20 July 2022
    layout_ = torch.Size([1, 2, 2, 2, 1, 32])
    query, key = torch.randn(2, 1, 8, 2, 16, generator=torch.Generator().manual_seed(0))
    turned = attention.turn(query, key, *module._places(layout_, dates, 4))  # noqa: SLF001 - the formula is inside
    ours = torch.einsum("nhd,mhd->hnm", *(part[0] for part in turned))
    days = [21 * 365.25 + 31 + 14, 22 * 365.25 + 181 + 19]
    places = torch.tensor([(t / 30, 4.0 * y, 4.0 * x) for y in (0, 1) for x in (0, 1) for t in days]).double()
    angles = torch.einsum("na,ahj->nhj", places, frequencies.double())
    turns = torch.polar(torch.ones_like(angles), angles)
    first, second = (torch.view_as_complex(part[0].double().view(8, 2, 8, 2)) * turns for part in (query, key))
    expected = torch.einsum("nhj,mhj->hnm", first, second.conj()).real
    torch.testing.assert_close(ours.double(), expected, rtol=0, atol=1e-4)


def test_patches_of_a_size_that_divides_no_kernel() -> None:
    module = _tiny("v1_1")
    image, dates = _series(size=15)
    with torch.inference_mode():
        assert module(image, dates, patch_size=5).grid.shape == (1, 32, 3, 3)
        assert module(image[..., :9], dates, patch_size=3).grid.shape == (1, 32, 5, 3)


def test_rows_in_parts_are_those_at_once() -> None:
    rows = torch.arange(21.0).view(7, 3)
    seen = []

    def run(part: Tensor) -> Tensor:
        seen.append(len(part))
        return part * 2

    assert torch.equal(in_parts(run, rows, at_most=3), rows * 2)
    assert torch.equal(in_parts(run, rows, at_most=7), rows * 2)
    assert seen == [3, 3, 1, 7]


def test_a_long_sequence_goes_through_in_parts() -> None:
    """20,000 tokens, more than the rows of a part: as the block's definition says."""
    block = _tiny("v1_1").blocks[0]
    assert isinstance(block, Block)
    tokens = torch.randn(20, 1000, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        after = tokens + block.attn(block.norm1(tokens))
        torch.testing.assert_close(block(tokens), after + block.mlp(block.norm2(after)), rtol=1e-5, atol=1e-5)


@every_family
def test_a_network_run_in_inference_mode_still_trains(family: str) -> None:
    module = _tiny(family)
    inputs = _series()
    with torch.inference_mode():
        module(*inputs)
    module(*inputs).grid.sum().backward()
    used = [*module.patch_embeddings.per_modality_embeddings["sentinel2_l2a"].parameters(), *module.blocks.parameters()]
    used += [module.composite_encodings.month_embed.weight]
    assert all(parameter.grad is not None for parameter in used)


@pytest.mark.parametrize(
    ("image", "dates", "patch_size", "message"),
    [
        ((1, 1, 10, 16, 16), (1, 1, 3), 4, r"image must be \[B, T, 12 or 2, H, W\]"),
        ((1, 12, 16, 16), (1, 1, 3), 4, r"image must be \[B, T, 12 or 2, H, W\]"),
        ((1, 0, 12, 16, 16), (1, 0, 3), 4, r"image must be \[B, T, 12 or 2, H, W\]"),
        ((1, 2, 12, 16, 16), (1, 1, 3), 4, r"timestamps must be \[1, 2, 3\]"),
        ((1, 2, 12, 16, 16), (1, 2), 4, r"timestamps must be \[1, 2, 3\]"),
        ((1, 1, 12, 16, 18), (1, 1, 3), 4, "multiples of 4 pixels, got 16 x 18"),
        ((1, 1, 12, 16, 16), (1, 1, 3), 16, "patch_size must be 1 to 8, got 16"),
        ((1, 1, 12, 16, 16), (1, 1, 3), 0, "patch_size must be 1 to 8, got 0"),
    ],
)
def test_unfit_input_is_refused(image: tuple[int, ...], dates: tuple[int, ...], patch_size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _tiny("v1")(torch.zeros(image), torch.zeros(dates, dtype=torch.int64), patch_size=patch_size)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dim": 24, "heads": 2}, "multiple of 16"),
        ({"dim": 48, "heads": 5}, "multiple of 16"),
        ({"dim": 32, "heads": 2, "rotary": True}, "rotary network has pixel_features"),
    ],
)
def test_an_unfit_network_is_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(depth=1, **arguments)


def test_the_published_layout_loads_strictly(tmp_path: Path) -> None:
    weights = get_card("olmoearth")[0].variants["base_v1_2"].weights
    assert weights is not None
    path = tmp_path / weights.repo / weights.file
    path.parent.mkdir(parents=True)
    module = _tiny("v1_2")
    state = module.state_dict()

    layout.write(state, path)
    loaded = build(**{"dim": 32, "depth": 2, "heads": 2} | FAMILIES["v1_2"])
    Checkpoints(tmp_path, offline=True).load(weights, loaded)
    assert all(torch.equal(value, state[key]) for key, value in loaded.state_dict().items())

    layout.write({key: value for key, value in state.items() if key != "norm.weight"}, path)
    with pytest.raises(CheckpointError, match=r"1 missing: norm\.weight"):
        Checkpoints(tmp_path, offline=True).load(weights, loaded)
    layout.write({**state, "blocks.9.norm1.bias": torch.zeros(32)}, path)
    with pytest.raises(CheckpointError, match=r"1 unexpected: blocks\.9\.norm1\.bias"):
        Checkpoints(tmp_path, offline=True).load(weights, loaded)


# --- the card ----------------------------------------------------------------------------------------------


def _prepared(image: np.ndarray, modality: str = "s2", **options: str | int) -> np.ndarray:
    card = get_card("olmoearth")[0]
    entry = card.input(modality)
    chain = entry.chain_for(card.defaults | {"image_size": image.shape[-1]} | options)
    return chain(Sample({"image": image.astype(np.float32)}, entry.bands)).image


def test_nan_is_zero_before_scaling_in_a_series_and_after_it_in_a_single_frame() -> None:
    image = np.full((1, 12, 4, 4), 1000.0)
    image[0, 0, 0] = [np.nan, np.inf, -np.inf, 0]  # of B2: mean 1188.94, std 1859.19
    raw_zero = -(1188.9412572078477 - 2 * 1859.1923971769581) / (4 * 1859.1923971769581)
    twice = np.concatenate([image, image + 1])
    for pixels, mode, first in (
        (image, "auto", 0.0),
        (image, "single", 0.0),
        (image, "multi", raw_zero),
        (twice, "auto", raw_zero),
    ):
        row = _prepared(pixels, temporal_mode=mode)[0, 0, 0]
        np.testing.assert_allclose(row, [first, 1, 0, raw_zero], rtol=1e-5, atol=1e-7)


def test_decibels_are_scaled_and_power_becomes_decibels() -> None:
    decibels = np.full((1, 2, 4, 4), -11.648990747328444)
    np.testing.assert_allclose(_prepared(decibels, "s1")[0, 0], 0.5, rtol=1e-5)  # the mean of VV
    np.testing.assert_allclose(_prepared(10 ** (decibels / 10), "s1"), _prepared(decibels, "s1"), rtol=1e-4)


@pytest.mark.parametrize(
    ("days", "mode", "starts"),
    [
        (24, "auto", ["06-01"]),
        (92, "auto", ["06-01", "07-01", "07-31", "08-30"]),
        (92, "multi", ["06-01", "07-01", "07-31", "08-30"]),
        (92, "single", ["06-01"]),
    ],
)
def test_frames_are_thirty_days(days: int, mode: str, starts: list[str]) -> None:
    end = dt.date(2022, 6, 1) + dt.timedelta(days)
    config: ModelConfig = (("temporal_mode", mode),)
    frames = recipe_of(
        Ask("olmoearth", temporal=TemporalSpec.range("2022-06-01", str(end)), model_config=config)
    ).frames
    assert [f"{frame.start:%m-%d}" for frame in frames] == starts
    assert str(frames[-1].end) == str(end)


def test_variants_have_the_spellings_of_rs_embed() -> None:
    card = get_card("olmoearth")[0]
    for name, key in (
        ("Base-v1.2", "base_v1_2"),
        ("nano_v1.1", "nano_v1_1"),
        ("small", "small_v1_2"),
        ("large_v1", "large"),
    ):
        assert card.select(Ask("olmoearth", model_config=(("variant", name),))).variant == key
    assert card.select(Ask("olmoearth")).variant == "base_v1_2"


def test_an_image_of_parts_of_patches_is_refused() -> None:
    card = get_card("olmoearth")[0]
    for config in ((("image_size", 250),), (("patch_size", 3),), (("image_size", 64), ("patch_size", 5))):
        with pytest.raises(UnknownOption, match="no multiple of patch_size"):
            card.select(Ask("olmoearth", model_config=config))
    assert card.select(Ask("olmoearth", model_config=(("image_size", 63), ("patch_size", 3))))
