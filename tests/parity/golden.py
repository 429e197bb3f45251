"""Golden cases: where they lie, what they hold and how close an answer must come.

The small cases are part of this repository (``tests/golden``); the full-size ones lie in a folder next to the
project (``../shared/golden``) and are simply not listed where that folder is absent.

    @pytest.mark.parametrize("name", cases("dofa", level="network"))
    def test_network(name: str) -> None:
        case = load_case("dofa", name)
        module = build(...)
        fill(module)
        ours = module(torch.from_numpy(recipe.patch(...))).grid[0]
        case.check("grid", ours)
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from rs_embed_core.networks.features import Features
from tests.golden import recipe

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "Case",
    "assert_close",
    "cases",
    "fill",
    "fill_sharp",
    "golden_dir",
    "golden_file",
    "load_case",
    "load_keys",
    "present",
    "recipe",
    "strided",
]

TOLERANCE = 1e-4
"""Largest allowed difference, as a share of the largest expected magnitude (golden/README.md)."""

_PROJECT = Path(__file__).resolve().parents[2]
_ROOTS = (_PROJECT / "tests" / "golden", _PROJECT.parent / "shared" / "golden")
_STRIDE_FIELDS = ("stride", "stored_stride")  # two spellings of the same thing, one per group of models


@dataclass(frozen=True, kw_only=True)
class Case:
    """One golden case.

    Attributes:
        model: Folder of the case, a model family.
        name: File name without its ending.
        spec: The case's json: level, variant, config, recipe arguments, side inputs.
        tensors: Expected outputs and, where small, the network's direct input.
    """

    model: str
    name: str
    spec: dict[str, Any]  # Any: JSON
    tensors: dict[str, NDArray[np.float32]]

    def stored(self, tensor: str, full: torch.Tensor | NDArray[Any]) -> NDArray[Any]:
        """The elements of ``full`` that the case keeps of the tensor of that name."""
        entries = self.spec.get("tensors", {})
        entry = entries.get(tensor, 1) if isinstance(entries, Mapping) else 1
        if not isinstance(entry, Mapping):
            entry = self.spec.get("grid_stride", 1) if tensor.startswith("grid") else 1
        return strided(full, entry)

    def check(self, tensor: str, ours: torch.Tensor | NDArray[Any]) -> float:
        """Compare a full, unbatched tensor with the stored one; returns what `assert_close` returns."""
        return assert_close(self.stored(tensor, ours), self.tensors[tensor])


def golden_file(model: str, filename: str) -> Path:
    """The path of a golden file: in the repository if it is there, else in the shared folder."""
    candidates = [root / model / filename for root in _ROOTS]
    return next((path for path in candidates if path.exists()), candidates[-1])


def golden_dir(model: str, case: str | None = None) -> Path:
    """The folder of a case; without a case the repository's folder of the model, else the shared one."""
    if case is not None:
        return golden_file(model, f"{case}.json").parent
    return golden_file(model, "")


def cases(model: str, *, level: str | None = None) -> list[str]:
    """Sorted names of all cases of a model in either folder, if asked only those of one level.

    A case is a json with an npz of the same name; other json files (keys, configurations) are not cases. Those with
    real weights are listed where the weights are: they are not part of this repository.
    """
    names = {
        path.stem for root in _ROOTS for path in (root / model).glob("*.npz") if path.with_suffix(".json").exists()
    }
    specs = {name: _spec(model, name) for name in names}
    return sorted(
        name
        for name, spec in specs.items()
        if level in (None, spec.get("level")) and all(golden_file(model, file).exists() for file in _real(spec))
    )


def _real(spec: Mapping[str, Any]) -> list[str]:
    """The files of real weights that a case needs."""
    weights = spec.get("weights")
    source = weights.get("source", "") if isinstance(weights, Mapping) else ""
    return [source] if source.endswith(".safetensors") else []


def load_case(model: str, case: str) -> Case:
    """The case with all its tensors in memory."""
    with np.load(golden_file(model, f"{case}.npz")) as stored:
        tensors = {name: stored[name] for name in stored.files}
    return Case(model=model, name=case, spec=_spec(model, case), tensors=tensors)


def load_keys(model: str, filename: str) -> dict[str, tuple[int, ...]]:
    """State-dict names and shapes of a ``*.keys.json``."""
    entries = json.loads(golden_file(model, filename).read_text())
    return {key: tuple(shape) for key, shape in entries.items()}


def present(features: Features) -> tuple[torch.Tensor, ...]:
    """The tensors that a network gave, in the order of the fields."""
    return tuple(value for value in features if value is not None)


def fill(module: nn.Module, *, prefix: str = "") -> None:
    """Give the module the recipe's weights; ``prefix`` + its own names are the names that the recipe sees.

    As ``recipe.fill_module``: floating parameters and batch-norm statistics; other buffers stay as built.
    """
    statistics = ((k, v) for k, v in module.named_buffers() if k.endswith(("running_mean", "running_var")))
    with torch.no_grad():
        for key, value in (*module.named_parameters(), *statistics):
            if value.is_floating_point():
                value.copy_(torch.from_numpy(recipe.tensor(prefix + key, tuple(value.shape))))


def fill_sharp(case: Case, module: nn.Module) -> None:
    """The recipe's weights, those of two or more dimensions multiplied as the case says (golden/README.md)."""
    fill(module)
    with torch.no_grad():
        for value in module.parameters():
            if value.ndim > 1:
                value.mul_(case.spec.get("weights_multiplier", 1.0))


def strided(
    array: torch.Tensor | NDArray[Any],
    spec: Mapping[str, Any] | Sequence[int] | int,  # Any: JSON
) -> NDArray[Any]:
    """The elements of an array that a case stores.

    Args:
        array: The full tensor.
        spec: An entry of the case's ``tensors`` (its ``stride`` or ``stored_stride``, if any, has a step for
            every axis), or such a list of steps, or the one number of ``grid_stride``: a step for the last
            two axes. An entry that is only a shape says nothing of strides: pass 1 for it.
    """
    full = array.detach().cpu().numpy() if isinstance(array, torch.Tensor) else array
    if isinstance(spec, Mapping):
        spec = next((spec[field] for field in _STRIDE_FIELDS if field in spec), 1)
    if isinstance(spec, int):
        return full if spec == 1 else full[..., ::spec, ::spec]
    if len(spec) != full.ndim:
        message = f"{len(spec)} strides {list(spec)} for an array of shape {full.shape}"
        raise ValueError(message)
    return full[tuple(slice(None, None, step) for step in spec)]


def assert_close(ours: torch.Tensor | NDArray[Any], expected: torch.Tensor | NDArray[Any]) -> float:
    """Assert equal shapes, NaN at the same places and ``max|ours - expected| <= 1e-4 * max|expected|``.

    Returns:
        The largest difference as a share of the largest expected magnitude.
    """
    got, want = (np.asarray(strided(value, 1), dtype=np.float64) for value in (ours, expected))
    assert got.shape == want.shape, f"shape {got.shape}, expected {want.shape}"
    missing = np.isnan(want)
    assert np.array_equal(np.isnan(got), missing), f"NaN in {np.isnan(got).sum()} places, expected in {missing.sum()}"
    error = float(np.abs(got - want)[~missing].max(initial=0.0))
    scale = float(np.abs(want)[~missing].max(initial=0.0))
    assert error <= TOLERANCE * scale, f"off by {error:.3e}, {error / scale if scale else np.inf:.1e} of {scale:.3e}"
    return error / scale if scale else 0.0


def _spec(model: str, case: str) -> dict[str, Any]:  # Any: JSON
    spec: dict[str, Any] = json.loads(golden_file(model, f"{case}.json").read_text())
    return spec
