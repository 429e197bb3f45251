"""The Panopticon encoder and its card against the published implementation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rs_embed_core.card import Selection
from rs_embed_core.checkpoints import Checkpoints
from rs_embed_core.errors import CheckpointError, InvalidInput
from rs_embed_core.models.panopticon import CARD
from rs_embed_core.networks.panopticon import Panopticon, build
from rs_embed_core.preprocessing.side_inputs import Scene
from rs_embed_core.sample import Sample
from rs_embed_core.specs.request import Ask
from tests.parity.golden import Case, cases, fill, load_case, load_keys, present, recipe
from tests.parity.layouts.panopticon import write

CASES = cases("panopticon", level="network")
TINY = {"dim": 64, "depth": 2, "heads": 4, "channel_dim": 96, "image_size": 56}
IDS = (442.9, 842.0, 2203.6, -1.0, -7.0)


def _marked(names: list[str]) -> list[object]:
    return [pytest.param(name, marks=() if name.startswith("tiny") else pytest.mark.full) for name in names]


def _sizes(case: Case) -> dict[str, int]:
    config = case.spec["config"]
    sizes = {"channel_dim": config["attn_dim"], "image_size": config["img_size"]}
    return {"dim": config["embed_dim"], "depth": 12, "heads": 12, **sizes}


def _image(case: Case) -> Tensor:
    """The case's image, standardised by the card's own step."""
    given = case.spec["input"]
    image = recipe.patch(tuple(given["shape"]), seed=given["seed"], low=given["low"], high=given["high"])
    image = image * np.float32(given.get("scale", 1)) + np.float32(given.get("offset", 0))
    standardise, *_ = CARD.inputs[0].chain_for({}).steps
    return torch.from_numpy(standardise(Sample({"image": image[None]})).image)


def _tiny(*, sharp: bool = True) -> Panopticon:
    """A small network whose attention tells channels apart."""
    module = build(**TINY)
    fill(module)
    if sharp:
        module.patch_embed.chnfus.query.data *= 200
    return module.eval()


def _inputs(batch: int = 2, ids: tuple[float, ...] = IDS, side: int = 56) -> tuple[Tensor, Tensor]:
    values = (recipe.patch((batch, len(ids), side, side), seed=5) - np.float32(2000)) / np.float32(1000)
    return torch.from_numpy(values), torch.tensor([ids] * batch)


def _select(**config: str) -> Selection:
    return CARD.select(Ask("panopticon", model_config=tuple(config.items())))


def test_cases_exist() -> None:
    assert {"tiny_network_s1", "tiny_network_s2"} <= set(CASES)


@pytest.mark.parametrize("name", _marked(CASES))
def test_network(name: str) -> None:
    case = load_case("panopticon", name)
    module = build(**_sizes(case)).eval()
    fill(module)
    ids = torch.tensor([case.spec["side_inputs"]["chn_ids"]], dtype=torch.float32)
    with torch.inference_mode():
        features = module(_image(case), ids, **dict(CARD.params(_select(vector="class"))))
    case.check("grid", features.grid[0])
    case.check("cls_token", features.pooled_mean[0])
    case.check("pooled_mean", features.grid[0].mean(dim=(1, 2)))
    case.check("pooled_max", features.grid[0].amax(dim=(1, 2)))
    assert features.pooled_max is features.pooled_mean


def test_pooled_are_the_patches_unless_the_class_token_is_asked_for() -> None:
    params = dict(CARD.params(_select()))
    with torch.inference_mode():
        features = _tiny()(*_inputs(), **params)
    assert features.pooled_mean is features.pooled_max is None


@pytest.mark.parametrize("name", _marked(CASES))
def test_state_dict_is_the_published_one(name: str) -> None:
    case = load_case("panopticon", name)
    with torch.device("meta"):
        module = build(**_sizes(case))
    shapes = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    assert shapes == load_keys("panopticon", case.spec["keys"])


def test_positions_are_those_of_the_published_file() -> None:
    """The card's network holds the table of 518 pixels, as published, and the published width."""
    with torch.device("meta"):
        module = build(**dict(CARD.variants["vitb14"].build))
    assert module.pos_embed.shape == (1, 1 + 37 * 37, 768)
    assert module.patch_embed.chnfus.query.shape == (1, 1, 2304)


def test_layer_norms_have_the_published_eps() -> None:
    assert {layer.eps for layer in _tiny().modules() if isinstance(layer, nn.LayerNorm)} == {1e-6}


def _as_published(module: Panopticon, image: Tensor, ids: Tensor) -> Tensor:
    """The tokens of patches, one operation after the other: ``[B, h w, D]``."""
    embed = module.patch_embed
    attention = embed.chnfus
    each = embed.conv3d.conv3d(image[:, None])  # [B, width, C, h, w]
    each = each.flatten(3).permute(0, 3, 2, 1) + attention.chnemb(ids[0])  # [B, h w, C, width]
    query = attention.query.view(1, 1, 16, 1, -1)  # [1, 1, A, 1, d]
    keys, values = (
        layer(each).unflatten(3, (16, -1)).transpose(2, 3)  # [B, h w, A, C, d]
        for layer in (attention.xattn.inproj_k, attention.xattn.inproj_v)
    )
    scores = query @ keys.transpose(3, 4) * query.shape[-1] ** -0.5
    return embed.proj((scores.softmax(dim=-1) @ values).flatten(2))


def test_the_folded_attention_is_the_published_one() -> None:
    module = _tiny()
    image, ids = _inputs()
    with torch.inference_mode():
        ours, expected = module.patch_embed(image, ids[0]), _as_published(module, image, ids)
        blind = _as_published(_tiny(sharp=False), image, ids)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(blind, expected, rtol=1e-2, atol=1e-3)  # the scores really count


def test_codes_of_channels_by_hand() -> None:
    codes = _tiny().patch_embed.chnfus.chnemb
    transmit, receive, orbit = codes.embed_transmit, codes.embed_receive, codes.embed_orbit
    with torch.inference_mode():
        for number, (sends, hears, flies) in {
            -1: (transmit[0], receive[0], orbit.mean(dim=0)),  # VV, orbit unknown
            -2: (transmit[0], receive[1], orbit.mean(dim=0)),  # VH
            -7: (transmit[1], receive[1], orbit[0]),  # HH, ascending
            -12: (transmit[1], receive[0], orbit[1]),  # HV, descending
        }.items():
            assert torch.equal(codes(torch.tensor([float(number)]))[0], torch.cat([sends, hears, flies]))
        optical = codes(torch.tensor([664.6]))[0].numpy()
    angles = 664 / 10_000 ** (np.arange(48) / 48)
    np.testing.assert_allclose(optical, np.concatenate([np.sin(angles), np.cos(angles)]), atol=1e-4)


def test_the_callers_channels_stay_as_they_are() -> None:
    module, (image, ids) = _tiny(), _inputs()
    before = ids.clone()
    with torch.inference_mode():
        first = module(image, ids).grid
        assert torch.equal(module(image, ids.floor()).grid, first)
    assert torch.equal(ids, before)


def test_batch_equals_single_runs() -> None:
    module, (image, ids) = _tiny(), _inputs(batch=3)
    with torch.inference_mode():
        together = module(image, ids, "class")
        for i in range(3):
            alone = module(image[i : i + 1], ids[i : i + 1], "class")
            for ours, single in zip(present(together), present(alone), strict=True):
                torch.testing.assert_close(ours[i], single[0], rtol=1e-5, atol=1e-5)


def test_any_set_of_channels_in_any_order() -> None:
    module, (image, ids) = _tiny(), _inputs()
    with torch.inference_mode():
        first = module(image, ids).grid
        torch.testing.assert_close(module(image.flip(1), ids.flip(1)).grid, first, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(module(image, ids.flip(1)).grid, first, atol=1e-3)
        assert module(image[:, :1], ids[:, :1]).grid.shape == first.shape


def test_folding_is_done_once_and_follows_new_weights() -> None:
    module, (image, ids) = _tiny(), _inputs(side=84)  # of other positions than those stored, too
    calls: list[object] = []
    module.patch_embed.chnfus.chnemb.register_forward_pre_hook(lambda *_: calls.append(None))
    with torch.inference_mode():
        before = module(image, ids).grid
        assert before.shape == (2, 64, 6, 6)
        assert torch.equal(module(image, ids).grid, before)
        assert len(calls) == 1
    state = {key: value * 1.5 for key, value in module.state_dict().items()}
    module.load_state_dict(state)
    other = build(**TINY).eval()
    other.load_state_dict(state)
    with torch.inference_mode():
        after = module(image, ids).grid
        assert torch.equal(after, other(image, ids).grid)
    assert not torch.allclose(before, after)


def test_training_reaches_the_channels() -> None:
    module = _tiny().train()
    module(*_inputs()).grid.square().sum().backward()
    for parameter in module.patch_embed.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0


def test_what_does_not_fit_is_refused() -> None:
    module, (image, ids) = _tiny(), _inputs()
    for pixels, numbers, message in (
        (image[0], ids, r"image must be \[B, C, H, W\]"),
        (image, ids[:, :2], r"got \[2, 5, 56, 56\], \[2, 2\]"),
        (image[..., :50], ids, "multiples of 14 pixels, got 56 x 50"),
        (image, torch.stack([ids[0], ids[1] + 1]), "chn_ids that differ"),
        (image, torch.full_like(ids, -13), r"radar channels -1 to -12, got \[-13"),
        (image, torch.full_like(ids, 0.665), "wavelengths in nm"),
        (image[:1], torch.full_like(ids[:1], float("nan")), "wavelengths in nm"),
    ):
        with pytest.raises(ValueError, match=message):
            module(pixels, numbers)


def test_missing_pixels_count_as_average() -> None:
    entry = CARD.input("s1")
    image = np.random.default_rng(3).normal(-12, 3, (1, 2, 224, 224)).astype(np.float32)
    valid = np.ones((1, 224, 224), bool)
    valid[0, :100] = False
    image[0, :, :100] = -9999
    image[0, 1, 200, 200] = np.inf
    ready = entry.chain_for({})(Sample({"image": image}, entry.bands, valid)).image
    np.testing.assert_array_equal(ready[:, :100], 0)
    assert ready[1, 200, 200] == 0
    np.testing.assert_allclose(ready[:, 100:].std(axis=(1, 2)), 1, rtol=1e-3)
    np.testing.assert_allclose(ready.mean(axis=(1, 2)), 0, atol=1e-3)


def test_the_published_layout_loads_strictly(tmp_path: Path) -> None:
    weights = CARD.variants["vitb14"].weights
    assert weights is not None
    path = tmp_path / weights.repo / weights.file
    path.parent.mkdir(parents=True)
    state, loaded = _tiny().state_dict(), build(**TINY)
    checkpoints = Checkpoints(tmp_path, offline=True)
    write(state, path)
    checkpoints.load(weights, loaded)
    assert all(torch.equal(value, state[key]) for key, value in loaded.state_dict().items())
    for changed, named in (
        ({key: value for key, value in state.items() if key != "norm.bias"}, "1 missing: norm.bias"),
        ({**state, "register_tokens": torch.zeros(8)}, "1 unexpected: register_tokens"),
        ({**state, "pos_embed": torch.zeros(1, 26, 64)}, "misshapen: pos_embed"),
    ):
        write(changed, path)
        with pytest.raises(CheckpointError, match=named):
            checkpoints.load(weights, loaded)


def test_bands_of_any_sensor_are_known_by_name_or_wavelength() -> None:
    entry = CARD.input("s2")
    entry.check_bands(("443nm", "482nm", "B10", "2201.5nm", "VH_ASC", "HV_DESC"), CARD.id)
    scene = Scene(("443nm", "B10", "2201.5nm", "VH_ASC", "HV_DESC"), (), None, 10.0, {})
    (side,) = entry.side_inputs
    np.testing.assert_array_equal(side(scene), np.float32([443, 1373.4, 2201.5, -6, -12]))
    with pytest.raises(InvalidInput, match="no wavelength is known for SR_B4"):
        entry.check_bands(("SR_B4",), CARD.id)
