"""The AnySat encoder against the published implementation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from rs_embed_core.checkpoints import Checkpoints
from rs_embed_core.errors import CheckpointError
from rs_embed_core.networks.anysat import AnySat, build
from rs_embed_core.networks.features import Features
from rs_embed_core.registry import get_card
from tests.parity.golden import cases, fill, golden_file, load_case, load_keys, present, recipe
from tests.parity.layouts import anysat as layout

SIZES = {"tiny": {"dim": 256, "depth": 2, "heads": 4}, "base": {"dim": 768, "depth": 6, "heads": 12}}
SMALL = {"dim": 64, "depth": 1, "heads": 4}
NETWORK_CASES = cases("anysat", level="network")
SIDES = (1, 2, 3)  # pixels of a patch that cases have


def _full_size(name: str) -> object:
    return pytest.param(name, marks=() if name.startswith("tiny") else pytest.mark.full)


def _small() -> AnySat:
    """A small network whose attention sees something: plain recipe weights leave it nearly blind."""
    module = build(**SMALL)
    fill(module)
    with torch.no_grad():
        for value in module.parameters():
            if value.ndim > 1:
                value.mul_(6)
    return module.eval()


def _inputs(batch: int = 1, frames: int = 3, size: int = 6, inside: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Standardised series, dates and offsets; each sample has its own dates."""
    image = torch.from_numpy(recipe.patch((batch, frames, 10, size, size), seed=5)) / 1000 - 2
    dates = (torch.arange(frames) * 40 + torch.arange(batch)[:, None] * 7) % 365
    return image, dates, (10 * torch.arange(inside)).float().expand(batch, -1)


def test_cases_exist() -> None:
    assert {"tiny_network", "tiny_sharp_network"} <= set(NETWORK_CASES)


@pytest.mark.parametrize("name", [_full_size(name) for name in NETWORK_CASES])
def test_network(name: str) -> None:
    case = load_case("anysat", name)
    module = build(**dict(layout.build(case.spec))).eval()
    layout.fill_network(case, module)
    image = torch.from_numpy(case.tensors["network_input"])
    dates = torch.tensor([case.spec["side_inputs"]["s2_dates"]])
    checked = 0
    for inside in SIDES:
        wanted = {kind: f"{kind}_{10 * inside}m" for kind in ("dense", "patch", "tile")}
        if wanted["patch"] not in case.tensors:
            continue
        offsets = torch.arange(inside)[None] * 10.0
        with torch.inference_mode():
            dense = module(image, dates, offsets, pooled_source="tile")
            patch = module(image, dates, offsets, grid_feature_mode="patch")
        ours = {"dense": dense.grid, "patch": patch.grid}
        for kind in wanted.keys() & ours.keys():
            if wanted[kind] in case.tensors:
                case.check(wanted[kind], ours[kind][0].permute(1, 2, 0))
                checked += 1
        if wanted["tile"] in case.tensors:
            case.check(wanted["tile"], dense.pooled_mean[0])
            checked += 1
        torch.testing.assert_close(patch.pooled_mean, patch.grid.mean(dim=(2, 3)))
        assert torch.equal(patch.pooled_max, patch.grid.amax(dim=(2, 3)))
        assert dense.pooled_max is dense.pooled_mean
    assert checked == len(case.tensors) - 1  # all but the input


@pytest.mark.parametrize("mode", ["dense", "patch"])
def test_the_vector_of_a_part_is_pooled_from_the_patches(mode: str) -> None:
    inputs = _inputs(inside=2)
    with torch.inference_mode():
        patch = _small()(*inputs, grid_feature_mode=mode)
        tile = _small()(*inputs, grid_feature_mode=mode, pooled_source="tile")
    assert patch.cells is not None
    assert tile.cells is not None
    assert patch.cells.shape == (1, *patch.pooled_mean.shape[1:], 3, 3)
    torch.testing.assert_close(patch.cells.mean(dim=(2, 3)), patch.pooled_mean)
    assert torch.equal(patch.cells.amax(dim=(2, 3)), patch.pooled_max)
    assert torch.equal(tile.cells[:, :, 0, 0], tile.pooled_mean)
    assert tile.cells.shape[2:] == (1, 1)


@pytest.mark.parametrize("size", [_full_size(size) for size in SIZES])
def test_state_dict_is_the_published_one(size: str) -> None:
    if not golden_file("anysat", f"{size}_network.keys.json").exists():
        pytest.skip("the full-size keys are in ../shared/golden")
    with torch.device("meta"):
        module = build(**SIZES[size])
    shapes = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    published = load_keys("anysat", f"{size}_network.keys.json")
    others = {key.split(".")[0] for key in published if key.startswith("projector_")} - {"projector_s2"}
    assert others == {key.split(".")[0] for key in layout.OTHERS}
    assert shapes == {key: shape for key, shape in published.items() if key.split(".")[0] not in others}


def test_layer_norms_have_the_published_eps() -> None:
    module = _small()
    for part, eps in ((module.spatial_encoder, 1e-5), (module.blocks, 1e-6)):
        assert {layer.eps for layer in part.modules() if isinstance(layer, nn.LayerNorm)} == {eps}


@pytest.mark.parametrize("inside", [1, 2, 6])
def test_batch_equals_single_runs(inside: int) -> None:
    module = _small()
    inputs = _inputs(batch=3, inside=inside)
    with torch.inference_mode():
        together = present(module(*inputs))
        for i in range(3):
            alone = present(module(*(value[i : i + 1] for value in inputs)))
            for all_, one in zip(together, alone, strict=True):
                torch.testing.assert_close(all_[i], one[0], rtol=1e-5, atol=1e-5)


def test_what_goes_through_in_parts_comes_out_whole() -> None:
    module = _small()
    image, dates, offsets = _inputs(batch=5, frames=4, size=22)
    assert len(image) * 2 * image.shape[3] ** 2 > 1 << 12  # both pixels and patches are parted
    with torch.inference_mode():
        together = module(image, dates, offsets)
        alone = module(image[4:], dates[4:], offsets[4:])
    torch.testing.assert_close(together.grid[4], alone.grid[0], rtol=1e-5, atol=1e-5)


def test_every_input_matters() -> None:
    module = _small()
    image, dates, offsets = _inputs(size=12, inside=2)
    with torch.inference_mode():
        base = module(image, dates, offsets).grid
        others = [(image, dates + 30, offsets), (image, dates.flip(1), offsets), (image, dates, offsets * 2)]
        for channel in range(10):
            changed = image.clone()
            changed[:, :, channel] *= -1
            others.append((changed, dates, offsets))
        for other in others:
            assert not torch.allclose(module(*other).grid, base, atol=1e-4)


def test_order_of_frames_is_in_their_dates() -> None:
    module = _small()
    image, dates, offsets = _inputs()
    with torch.inference_mode():
        torch.testing.assert_close(
            module(image.flip(1), dates.flip(1), offsets).grid, module(image, dates, offsets).grid
        )


@pytest.mark.parametrize("inside", [1, 3])
def test_a_dense_cell_is_its_patch_and_then_its_pixel(inside: int) -> None:
    module = _small()
    inputs = _inputs(inside=inside)
    with torch.inference_mode():
        dense = module(*inputs).grid  # [1, 2 D, 6, 6]
        patch = module(*inputs, grid_feature_mode="patch").grid  # [1, D, 6 / p, 6 / p]
    torch.testing.assert_close(dense[:, :64], functional.interpolate(patch, size=(6, 6), mode="nearest"))
    image, dates, offsets = inputs
    changed = image.clone()
    changed[..., 0, 5] += 3  # row 0, the last column
    with torch.inference_mode():
        own = module(changed, dates, offsets).grid[0, 64:] - dense[0, 64:]
    row, column = torch.where(own.abs().amax(dim=0) > 1e-3)
    assert set(row.tolist()) == set(range(inside))  # pixels see no other patch
    assert set(column.tolist()) == set(range(6 - inside, 6))


def test_a_norm_of_vectors_is_a_group_norm() -> None:
    norm = _small().projector_s2.patch_embed.inconv[1]
    vectors = torch.randn(2, 7, 8)
    expected = functional.group_norm(vectors.view(14, 8), 4, norm.weight, norm.bias, 1e-5).view(2, 7, 8)
    torch.testing.assert_close(norm(vectors), expected)


def test_attention_over_time_is_that_of_keys_and_queries() -> None:
    heads = _small().projector_s2.patch_embed.attention_heads
    vectors = torch.randn(5, 3, 16, 4)  # [pixels, T, 16, d]
    keys = heads.fc1_k(vectors.flatten(-2)).view(5, 3, 16, 8)
    weights = torch.softmax((keys * heads.Q).sum(-1) / 8**0.5, dim=1)  # [pixels, T, 16]
    expected = torch.stack([sum(weights[:, t, h, None] * vectors[:, t, h] for t in range(3)) for h in range(16)], dim=1)
    torch.testing.assert_close(heads(vectors), expected.flatten(1))


def test_distances_add_what_the_first_head_asks_to_all_heads() -> None:
    attention = _small().spatial_encoder.predictor_blocks[0].attn
    tokens, buckets = torch.randn(2, 5, 64), torch.randint(8, (5, 5))
    query, key, value = attention.qkv(tokens).view(2, 5, 3, 4, 16).permute(2, 0, 3, 1, 4)
    query = query * 16**-0.5
    table = attention.rpe_k.lookup_table_weight[0]  # [16, 8]
    term = torch.einsum("bid,dij->bij", query[:, 0], table[:, buckets])
    scores = torch.softmax(query @ key.transpose(2, 3) + term[:, None], dim=-1)
    expected = attention.proj((scores @ value).transpose(1, 2).reshape(2, 5, 64))
    torch.testing.assert_close(attention(tokens, buckets), expected)


def test_tables_made_in_inference_mode_still_train() -> None:
    module = _small()
    inputs = _inputs(size=9, inside=3)
    with torch.inference_mode():
        module(*inputs)
    _total(module(*inputs)).backward()
    unused = {"projector_s2.pad_parameter", "projector_s2.patch_embed.attention_heads.fc1_k.bias"}  # cancels out
    assert {name for name, value in module.named_parameters() if value.grad is None} == unused


def test_sixteen_bits_come_close() -> None:
    module = _small()
    inputs = _inputs(size=12)
    with torch.inference_mode():
        exact = module(*inputs).pooled_mean
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = module(*inputs).pooled_mean
    assert (rough - exact).abs().max() < 0.05 * exact.abs().max()


def _total(features: Features) -> Tensor:
    return features.grid.sum() + features.pooled_max.sum()


@pytest.mark.parametrize(
    ("image", "dates", "offsets", "message"),
    [
        ((1, 3, 9, 6, 6), (1, 3), (1, 1), r"image must be \[B, T, 10, S, S\]"),
        ((1, 0, 10, 6, 6), (1, 0), (1, 1), r"image must be \[B, T, 10, S, S\]"),
        ((3, 10, 6, 6), (1, 3), (1, 1), r"image must be \[B, T, 10, S, S\]"),
        ((1, 3, 10, 6, 5), (1, 3), (1, 1), "must be square.* got 6 x 5"),
        ((1, 3, 10, 6, 6), (1, 3), (1, 4), "whole patches of 4 pixels, got 6 x 6"),
        ((1, 3, 10, 6, 6), (1, 2), (1, 1), r"s2_dates must be \[1, 3\], got \[1, 2\]"),
        ((1, 3, 10, 6, 6), (1, 3), (1, 0), r"offsets_m must be \[1, p\]"),
        ((2, 3, 10, 6, 6), (2, 3), (1, 1), r"offsets_m must be \[2, p\], got \[1, 1\]"),
    ],
)
def test_unfit_input_is_refused(
    image: tuple[int, ...], dates: tuple[int, ...], offsets: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        _small()(torch.zeros(image), torch.zeros(dates, dtype=torch.long), torch.zeros(offsets))


@pytest.mark.parametrize(("dim", "heads"), [(48, 4), (64, 5)])
def test_unfit_width_is_refused(dim: int, heads: int) -> None:
    with pytest.raises(ValueError, match="multiple of 32"):
        build(dim=dim, depth=1, heads=heads)


def test_the_published_layout_loads_strictly(tmp_path: Path) -> None:
    weights = get_card("anysat")[0].variants["base"].weights
    assert weights is not None
    path = tmp_path / weights.repo / weights.file
    path.parent.mkdir(parents=True)
    module = _small()
    state = module.state_dict()

    layout.write(state, path)
    loaded = build(**SMALL)
    Checkpoints(tmp_path, offline=True).load(weights, loaded)
    assert all(torch.equal(value, state[key]) for key, value in loaded.state_dict().items())
    torch.save({**state, **layout.OTHERS}, path)  # without the wrapper
    Checkpoints(tmp_path, offline=True).load(weights, loaded)

    layout.write({key: value for key, value in state.items() if key != "blocks.1.attn.q_learned"}, path)
    with pytest.raises(CheckpointError, match=r"1 missing: blocks\.1\.attn\.q_learned"):
        Checkpoints(tmp_path, offline=True).load(weights, loaded)
    for strange in ("projector_s2.patch_embed.positional_encoder.table", "projector_s3.pad_parameter"):
        layout.write({**state, strange: torch.zeros(8)}, path)
        with pytest.raises(CheckpointError, match=f"1 unexpected: {strange}"):
            Checkpoints(tmp_path, offline=True).load(weights, loaded)
