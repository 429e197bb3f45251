"""The Copernicus-FM encoder and its card against the published implementation."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rs_embed_core.checkpoints import Checkpoints
from rs_embed_core.chip import Period
from rs_embed_core.errors import CheckpointError
from rs_embed_core.models.copernicusfm import CARD
from rs_embed_core.networks.copernicusfm import CopernicusFM, build
from rs_embed_core.preprocessing.side_inputs import Scene
from rs_embed_core.preprocessing.values import Standardize
from tests.parity.golden import Case, cases, fill, load_case, load_keys, present, recipe
from tests.parity.layouts import copernicusfm as layout

CASES = cases("copernicusfm", level="network")
TINY = {"dim": 64, "depth": 2, "heads": 4, "code_dim": 32, "image_size": 64}
NAN = float("nan")


def _marked(names: list[str]) -> list[object]:
    return [pytest.param(name, marks=() if name.startswith("tiny") else pytest.mark.full) for name in names]


def _build(case: Case) -> CopernicusFM:
    module = build(**dict(layout.build(case.spec)))
    layout.fill_network(case, module)
    return module.eval()


def _arguments(case: Case) -> dict[str, Tensor | int]:
    given, side = case.spec["input"], case.spec["side_inputs"]
    image = recipe.patch(tuple(given["shape"]), seed=given["seed"], low=given["low"], high=given["high"])
    image = image * np.float32(given.get("scale", 1)) + np.float32(given.get("offset", 0))
    known = [NAN if value is None else value for value in side["metadata_lon_lat_days_area"]]
    out: dict[str, Tensor | int] = {
        "lonlat": torch.tensor([known[:2]]),
        "day": torch.tensor([known[2]]),
        "patch_km2": torch.tensor([known[3]]),
        "kernel_size": side["kernel_size"],
    }
    if "language_embed" in side:
        out["language_embed"] = torch.from_numpy(recipe.tensor("language_embed", (2048,)) * 10)[None]
        return out | {"image": torch.from_numpy(image / np.float32(1000))[None]}
    mean, std = (np.float32(side[name])[:, None, None] for name in ("mean", "std"))
    out |= {name: torch.tensor([side[name]], dtype=torch.float32) for name in ("wavelengths_nm", "bandwidths_nm")}
    return out | {"image": torch.from_numpy((image - mean) / std)[None]}


def _tiny() -> CopernicusFM:
    module = build(**TINY)
    fill(module)
    return module.eval()


def _inputs(batch: int = 1, side: int = 64) -> dict[str, Tensor]:
    """Three bands; each sample has its own place, day and area."""
    values = recipe.patch((batch, 3, side, side), seed=5)
    steps = torch.arange(batch, dtype=torch.float32)
    return {
        "image": torch.from_numpy((values - np.float32(2000)) / np.float32(1000)),
        "wavelengths_nm": torch.tensor([[490.0, 842.0, 2190.0]] * batch),
        "bandwidths_nm": torch.tensor([[65.0, 115.0, 180.0]] * batch),
        "lonlat": torch.stack([121.5 + steps, 31.2 - steps], dim=1),
        "day": 19158 + 40.25 * steps,
        "patch_km2": 0.0256 * (1 + steps),
    }


def _variable(batch: int = 2) -> dict[str, Tensor]:
    inputs = _inputs(batch)
    text = torch.from_numpy(recipe.tensor("language_embed", (2048,)) * 10).expand(batch, -1)
    kept = {name: inputs[name] for name in ("lonlat", "day", "patch_km2")}
    return {**kept, "image": inputs["image"][:, :1], "language_embed": text}


def test_cases_exist() -> None:
    assert {"tiny_network_s1", "tiny_network_s2", "tiny_network_variable"} <= set(CASES)


@pytest.mark.parametrize("name", _marked(CASES))
def test_network(name: str) -> None:
    case = load_case("copernicusfm", name)
    module = _build(case)
    tokens: list[Tensor] = []
    module.blocks.register_forward_hook(lambda *call: tokens.append(call[2]))
    with torch.inference_mode():
        features = module(**_arguments(case))
    case.check("grid", features.grid[0])
    case.check("pooled_mean", features.pooled_mean[0])
    case.check("pooled_max", features.grid[0].amax(dim=(1, 2)))
    case.check("cls_token", tokens[0][0, 0])
    assert features.pooled_max is None


@pytest.mark.parametrize("name", _marked(CASES))
def test_state_dict_is_the_published_one(name: str) -> None:
    case = load_case("copernicusfm", name)
    with torch.device("meta"):
        module = build(**dict(layout.build(case.spec)))
    shapes = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    assert shapes == load_keys("copernicusfm", case.spec["keys"])


def test_layer_norms_have_the_published_eps() -> None:
    assert {layer.eps for layer in _tiny().modules() if isinstance(layer, nn.LayerNorm)} == {1e-5}


@pytest.mark.parametrize("inputs", [_inputs(batch=3), _variable(batch=3)], ids=["spectral", "variable"])
def test_batch_equals_single_runs(inputs: dict[str, Tensor]) -> None:
    module = _tiny()
    inputs["lonlat"][1, 1] = NAN  # what is unknown of one sample is no other's concern
    inputs["patch_km2"][2] = NAN
    with torch.inference_mode():
        together = module(**inputs)
        for i in range(3):
            alone = module(**{name: value[i : i + 1] for name, value in inputs.items()})
            for ours, single in zip(present(together), present(alone), strict=True):
                torch.testing.assert_close(ours[i], single[0], rtol=1e-5, atol=1e-5)


def test_any_set_of_bands_with_its_own_wavelengths() -> None:
    module, inputs = _tiny(), _inputs()
    names = ("image", "wavelengths_nm", "bandwidths_nm")
    with torch.inference_mode():
        first = module(**inputs).grid
        swapped = module(**inputs | {name: inputs[name].flip(1) for name in names}).grid
        torch.testing.assert_close(swapped, first, rtol=1e-4, atol=1e-4)
        for name in names:
            assert not torch.allclose(module(**inputs | {name: inputs[name].flip(1)}).grid, first, atol=1e-4), name


def test_place_day_and_area_matter_and_may_be_unknown() -> None:
    module, inputs = _tiny(), _inputs()
    with torch.inference_mode():
        base = module(**inputs).grid
        for name in ("lonlat", "day", "patch_km2"):
            other = module(**inputs | {name: inputs[name] + 0.3}).grid
            unknown = module(**inputs | {name: torch.full_like(inputs[name], NAN)}).grid
            assert unknown.isfinite().all()
            assert not torch.allclose(other, base, atol=1e-4), name
            assert not torch.allclose(unknown, base, atol=1e-4), name


def test_what_is_known_by_hand() -> None:
    """The vector of each sample: sines, then cosines, of a place of its own; its token where there is none."""
    module, dim = _tiny(), TINY["dim"]
    inputs = _inputs(batch=2)
    inputs["day"][1] = NAN
    with torch.inference_mode():
        known = module._known(inputs["lonlat"], inputs["day"], inputs["patch_km2"])[:, 0].numpy()  # noqa: SLF001

    def code(value: np.float32, low: float, high: float, width: int) -> np.ndarray:
        angle = 2 * np.pi * np.float64(value) / np.geomspace(low, high, width // 2)
        return np.concatenate([np.sin(angle), np.cos(angle)])

    state = {key: value.double().numpy() for key, value in module.state_dict().items()}
    for i, (lon, lat) in enumerate(inputs["lonlat"].numpy()):
        axes = [code(lon + np.float32(180), 1e-4, 720, dim // 2), code(lat + np.float32(90), 1e-4, 720, dim // 2)]
        day = code(inputs["day"][i].numpy(), 1, 365.25, dim) if i == 0 else state["time_token"][0, 0]
        area = code(inputs["patch_km2"][i].numpy(), 1e-3, 5.1e8, dim)
        parts = {"coord_fc": np.concatenate(axes), "scale_fc": area, "time_fc": day}
        expected = sum(state[f"{fc}.weight"] @ vector + state[f"{fc}.bias"] for fc, vector in parts.items())
        np.testing.assert_allclose(known[i], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("kernel_size", "cells"), [(4, 16), (8, 8), (16, 4), (32, 2)])
def test_a_patch_may_have_another_size(kernel_size: int, cells: int) -> None:
    with torch.inference_mode():
        features = _tiny()(**_inputs(), kernel_size=kernel_size)
    assert features.grid.shape == (1, 64, cells, cells)
    assert CARD.input("s2").shape_for({"kernel_size": kernel_size}).patch_size == kernel_size


def test_an_image_may_be_a_rectangle() -> None:
    module, inputs = _tiny(), _inputs()
    with torch.inference_mode():
        wide = module(**inputs | {"image": inputs["image"][:, :, :32]})
        tall = module(**inputs | {"image": inputs["image"][:, :, :, :32]})
    assert wide.grid.shape == (1, 64, 2, 4)
    assert tall.grid.shape == (1, 64, 4, 2)


def test_kernel_is_made_once_per_set_of_bands_and_size() -> None:
    module, inputs = _tiny(), _inputs()
    calls: list[object] = []
    module.patch_embed_spectral.weight_generator.register_forward_pre_hook(lambda *_: calls.append(None))
    with torch.inference_mode():
        fresh = module(**inputs).grid
        assert torch.equal(module(**inputs).grid, fresh)
        assert len(calls) == 1
        module(**inputs, kernel_size=8)
        module(**inputs | {"bandwidths_nm": inputs["bandwidths_nm"] + 1})
        module(**inputs)
    assert len(calls) == 3


def test_kernel_follows_new_weights() -> None:
    module, inputs = _tiny(), _inputs(side=32)  # of other positions than those stored, too
    with torch.inference_mode():
        before = module(**inputs).grid
    state = {key: value * 1.5 for key, value in module.state_dict().items()}
    module.load_state_dict(state)
    other = build(**TINY).eval()
    other.load_state_dict(state)
    with torch.inference_mode():
        after = module(**inputs).grid
        assert torch.equal(after, other(**inputs).grid)
    assert not torch.allclose(before, after)


def test_what_does_not_fit_is_refused() -> None:
    module, inputs, variable = _tiny(), _inputs(batch=2), _variable()
    waves = inputs["wavelengths_nm"]
    differs = torch.stack([waves[0], waves[1] + 1])
    for changed, message in (
        (inputs | {"image": inputs["image"][0]}, r"image must be \[B, C, H, W\]"),
        (inputs | {"image": inputs["image"][..., :60]}, "multiples of 16 pixels, got 64 x 60"),
        (inputs | {"image": inputs["image"][:, :2]}, r"must be \[2, 2\], got \[2, 3\]"),
        (inputs | {"wavelengths_nm": differs}, "rows that differ"),
        (inputs | {"bandwidths_nm": None}, "must be given, or language_embed"),
        (variable | {"image": inputs["image"]}, "a variable is one channel"),
        (variable | {"language_embed": variable["language_embed"][:, :9]}, r"\[B, 2048\]"),
        (variable | {"language_embed": differs.new_tensor([[1.0], [2.0]]).expand(2, 2048)}, "rows that differ"),
    ):
        with pytest.raises(ValueError, match=message):
            module(**changed)


@pytest.mark.parametrize("modality", ["s2", "s1"])
def test_the_card_has_the_constants_of_the_cases(modality: str) -> None:
    side = load_case("copernicusfm", f"tiny_network_{modality}").spec["side_inputs"]
    entry = CARD.input(modality)
    step = next(step for step in entry.chain_for({}).steps if isinstance(step, Standardize))
    summer = Period(dt.date(2022, 6, 15), dt.date(2022, 6, 16))
    scene = Scene(entry.bands, (summer,), (121.5, 31.2), 10.0, {"kernel_size": 16})
    arrays = {side_input.name: side_input(scene) for side_input in entry.side_inputs}
    for name in ("wavelengths_nm", "bandwidths_nm"):
        assert arrays[name].tolist() == side[name]
    assert [dict(step.mean)[band] for band in entry.bands] == side["mean"]
    assert [dict(step.std)[band] for band in entry.bands] == side["std"]
    known = np.float32([121.5, 31.2, 19158, 0.0256])  # golden/copernicusfm/base_s2.json
    np.testing.assert_array_equal([*arrays["lonlat"], arrays["day"], arrays["patch_km2"]], known)


def test_the_published_layout_loads_strictly(tmp_path: Path) -> None:
    weights = CARD.variants["base"].weights
    assert weights is not None
    path = tmp_path / weights.repo / weights.file
    path.parent.mkdir(parents=True)
    state, loaded = _tiny().state_dict(), build(**TINY)
    checkpoints = Checkpoints(tmp_path, offline=True)
    layout.write(state, path)
    loaded.fc_norm.weight.data.fill_(7)
    checkpoints.load(weights, loaded)
    start = {"fc_norm.weight": torch.ones(64), "fc_norm.bias": torch.zeros(64)}  # the file has neither
    assert all(torch.equal(value, (state | start)[key]) for key, value in loaded.state_dict().items())
    for changed, named in (
        ({key: value for key, value in state.items() if key != "coord_token"}, "1 missing: coord_token"),
        ({key: value for key, value in state.items() if key != "cls_token"}, "missing: cls_token"),
        ({**state, "head.bias": torch.zeros(8)}, "1 unexpected: head.bias"),
        ({**state, "cls_token": torch.zeros(1, 1, 8)}, "misshapen: cls_token"),
    ):
        layout.write(changed, path)
        with pytest.raises(CheckpointError, match=named):
            checkpoints.load(weights, loaded)
