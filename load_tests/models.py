"""``make bench-models``: the forward of every network against the same operations in plain timm, torchvision or torch.

    python -m load_tests.models [--out FILE] [--only MODEL] [--rounds N]

Each network runs at its true size (but for ``_REDUCED``) in a process of its own, with random weights: speed does not
depend on them. ``plain_networks.py`` has the other side of the ratio. Rounds alternate. Time counts per floating-point
operation, because a network may do more than its blocks (a projection, generated kernels); and it is CPU time, because
the machine may have other work. Wall times stand beside it.
"""

from __future__ import annotations

import argparse
import importlib
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from load_tests import machine
from load_tests.plain_networks import Run, arrange
from rs_embed_core.card import ModelCard
from rs_embed_core.plan import recipe
from rs_embed_core.prepare import example
from rs_embed_core.registry import get_card, list_models
from rs_embed_core.sample import Batch, join
from rs_embed_core.specs.request import Ask, ModelConfig, OptionValue
from rs_embed_core.specs.temporal import TemporalSpec

_BATCH = 2


@dataclass(frozen=True)
class _Reduced:
    """What is smaller than a model's default: an input that takes a minute, a network that fits no usual machine.

    Attributes:
        says: what the row says of it.
        build: arguments of the network in the place of the variant's.
    """

    says: str
    config: ModelConfig = ()
    temporal: TemporalSpec | None = None
    build: Mapping[str, OptionValue] = field(default_factory=dict)


_REDUCED = {
    "olmoearth": _Reduced(
        "one frame of 128 pixels",
        config=(("image_size", 128),),
        temporal=TemporalSpec.range("2022-06-01", "2022-07-01"),
    ),
    "satvision": _Reduced("dim 128, depths 2, 2, 6 and 2", build={"dim": 128, "third_stage": 6}),
}
_WHOLE = _Reduced("")


def networks() -> list[tuple[str, str]]:
    """Model and modality of every network."""
    cards = [get_card(model)[0] for model in list_models()]
    return [(card.id, entry.modality) for card in cards if card.product is None for entry in card.inputs]


def measure(model: str, modality: str, rounds: int) -> dict[str, object]:
    """One row: samples per second, parameters, memory, and the ratio to the plain arrangement."""
    reduced, card = _REDUCED.get(model, _WHOLE), get_card(model)[0]
    ask = Ask(model, modality=modality, model_config=reduced.config, temporal=reduced.temporal)
    selection, one = recipe(ask).selection, example(ask)
    batch = join([replace(one, arrays=dict(one.arrays))] * _BATCH)
    arrays = {name: torch.from_numpy(array.copy()) for name, array in batch.arrays.items()}
    network = _build(card, ask, batch, reduced.build)

    def ours() -> object:
        return network(**arrays, **dict(batch.params))

    with torch.inference_mode():
        plain, what = arrange(network, arrays["image"], ours)
        sides = {"ours": ours, "plain": plain}
        work = {name: _operations(run) for name, run in sides.items()}
        walls, cpus = _times(sides, rounds)
    cost = {name: statistics.median(cpus[name][1:]) / work[name] for name in sides}
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return {
        "model": model,
        "modality": modality,
        "variant": selection.variant,
        "reduced": reduced.says or None,
        "samples_per_s": _BATCH / statistics.median(walls["ours"][1:]),
        "plain_over_ours": cost["plain"] / cost["ours"],
        "plain": what,
        "parameters_m": round(parameters / 1e6, 1),
        "weights_mb": round(4e-6 * parameters, 1),
        "sample_mb": card.variant(selection.variant, modality).sample_mb,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
        "gflop": {name: count / 1e9 for name, count in work.items()},
        "walls_s": walls,
        "cpu_s": cpus,
    }


def _build(card: ModelCard, ask: Ask, batch: Batch, instead: Mapping[str, OptionValue]) -> nn.Module:
    if card.network is None:
        raise ValueError(f"{card.id} has no network")
    module, function = card.network.split(":")
    build: Callable[..., nn.Module] = vars(importlib.import_module(module))[function]
    shapes = {name: array.shape[1:] for name, array in batch.arrays.items()}
    return build(**{**card.build_arguments(recipe(ask).selection, shapes), **instead}).eval()


def _operations(run: Run) -> int:
    """Floating-point operations of matrix products, convolutions and attention."""
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


def _times(sides: Mapping[str, Run], rounds: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Wall and CPU seconds of each side in every round, the first of which warms up."""
    walls: dict[str, list[float]] = {name: [] for name in sides}
    cpus: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds + 1):
        for name, run in sides.items():
            began, cpu = time.perf_counter(), time.process_time()
            run()
            walls[name].append(time.perf_counter() - began)
            cpus[name].append(time.process_time() - cpu)
    return walls, cpus


def main() -> None:
    """Run every network, or one in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="file to write; the JSON is printed in any case")
    parser.add_argument("--only", help="one model: its rows are printed, one a line")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each side")
    parser.add_argument("--here", metavar="MODALITY", help="measure --only in this process and print its row")
    given = parser.parse_args()
    if given.here:
        sys.stdout.write(json.dumps(measure(given.only, given.here, given.rounds)) + "\n")
        return
    rows = []
    for model, modality in networks():
        if given.only in (None, model):
            rows.append(_elsewhere(model, modality, given.rounds))
            sys.stderr.write(f"{model} {modality}: {rows[-1]['plain_over_ours']:.2f} of {rows[-1]['plain']}\n")
    text = json.dumps({"machine": machine.facts(), "batch": _BATCH, "models": rows}, indent=2)
    shown = "\n".join(map(json.dumps, rows)) if given.only else text
    sys.stdout.write(shown + "\n")
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(text + "\n")


def _elsewhere(model: str, modality: str, rounds: int) -> dict[str, object]:
    """The row that a process of its own measures."""
    command = [sys.executable, "-m", "load_tests.models", "--only", model, "--here", modality, "--rounds", str(rounds)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    row: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return row


if __name__ == "__main__":
    main()
