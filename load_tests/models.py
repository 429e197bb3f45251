"""``make bench-models``: the forward of every network against the same operations in plain timm, torchvision or torch.

    python -m load_tests.models [--out FILE] [--only MODEL] [--rounds N]

Each network runs at its true size in a process of its own, with random weights: speed does not depend on them. The
other side of the ratio is what anybody would write down for the same tokens: a patch convolution and a row of timm's
``Block`` of equal width, heads and hidden layer; torchvision's or open_clip's own class; the definition of random
convolutional features. Rounds alternate. Time counts per floating-point operation, because a network may do more than
its blocks (a projection, generated kernels).
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
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from load_tests import machine
from rs_embed_core.networks.blocks import Attention, FeedForward
from rs_embed_core.networks.series import Block as SeriesBlock
from rs_embed_core.plan import recipe
from rs_embed_core.prepare import example
from rs_embed_core.registry import get_card, list_models
from rs_embed_core.sample import join
from rs_embed_core.specs.request import Ask

_BATCH = 2
_LIBRARIES = ("torchvision.", "open_clip.", "timm.models.resnet")
type Run = Callable[[], object]


@dataclass(frozen=True)
class Stack:
    """What a network's transformer does: so many blocks on ``[B, N, D]``."""

    depth: int
    tokens: tuple[int, int, int]
    heads: int
    hidden: int


def networks() -> list[tuple[str, str]]:
    """Model and modality of every network."""
    cards = [get_card(model)[0] for model in list_models()]
    return [(card.id, entry.modality) for card in cards if card.product is None for entry in card.inputs]


def measure(model: str, modality: str, rounds: int) -> dict[str, object]:
    """One row: samples per second, parameters, memory, and the ratio to the plain arrangement."""
    ask = Ask(model, modality=modality)
    selection, card = recipe(ask).selection, get_card(model)[0]
    one = example(ask)
    batch = join([replace(one, arrays=dict(one.arrays))] * _BATCH)
    arrays = {name: torch.from_numpy(array.copy()) for name, array in batch.arrays.items()}
    shapes = {name: array.shape[1:] for name, array in batch.arrays.items()}
    if card.network is None:
        raise ValueError(f"{model} has no network")
    module, function = card.network.split(":")
    build: Callable[..., nn.Module] = vars(importlib.import_module(module))[function]
    network = build(**card.build_arguments(selection, shapes)).eval()

    def ours() -> object:
        return network(**arrays, **dict(batch.params))

    with torch.inference_mode():
        plain, what = _plain(network, arrays["image"], ours)
        work = {"ours": _operations(ours), "plain": _operations(plain)}
        walls: dict[str, list[float]] = {"ours": [], "plain": []}
        for _ in range(rounds + 1):  # the first warms up
            walls["ours"].append(_timed(ours))
            walls["plain"].append(_timed(plain))
    median = {name: statistics.median(values[1:]) for name, values in walls.items()}
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return {
        "model": model,
        "modality": modality,
        "variant": selection.variant,
        "samples_per_s": _BATCH / median["ours"],
        "plain_over_ours": median["plain"] / work["plain"] / (median["ours"] / work["ours"]),
        "plain": what,
        "parameters_m": round(parameters / 1e6, 1),
        "weights_mb": round(4e-6 * parameters, 1),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
        "gflop": {name: count / 1e9 for name, count in work.items()},
        "walls_s": walls,
    }


def _operations(run: Run) -> int:
    """Floating-point operations of matrix products, convolutions and attention."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def _timed(run: Run) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def _plain(network: nn.Module, image: Tensor, ours: Run) -> tuple[Run, str]:
    """The plain arrangement, and its name."""
    for base in type(network).__mro__[1:]:
        if base.__module__.startswith(_LIBRARIES):
            return lambda base=base: base.forward(network, image), f"{base.__module__.split('.')[0]}'s {base.__name__}"
    for child in network.children():
        if type(child).__module__.startswith(_LIBRARIES):
            return lambda child=child: child(image), f"{type(child).__module__.split('.')[0]}'s {type(child).__name__}"
    stack = _stack_of(network, ours)
    if stack is None:
        return _random_features(network, image), "relu, pooling and mean of a convolution, as defined"
    return _blocks(stack, image), f"{stack.depth} timm blocks on {list(stack.tokens)} tokens"


def _stack_of(network: nn.Module, run: Run) -> Stack | None:
    """The transformer blocks that a forward really goes through, and on what."""
    seen: list[tuple[nn.Module, torch.Size]] = []
    hooks = [
        part.register_forward_hook(lambda part, given, _out: seen.append((part, given[0].shape)))
        for part in network.modules()
        if isinstance(part, Block | Attention | SeriesBlock)
    ]
    run()
    for hook in hooks:
        hook.remove()
    if not seen:
        return None
    part, shape = seen[0]
    tokens = (shape[0], shape[1], shape[2])
    if isinstance(part, Attention):
        feed = next(each for each in network.modules() if isinstance(each, FeedForward))
        hidden = next(layer.out_features for layer in feed.net if isinstance(layer, nn.Linear))
        return Stack(len(seen), tokens, part.heads, hidden)
    inner = [layer.out_features for layer in part.modules() if isinstance(layer, nn.Linear)]
    wide = max(width for width in inner if width != 3 * tokens[2])  # not the joint projection of the attention
    return Stack(len(seen), tokens, _heads_of(part), wide)


def _heads_of(block: nn.Module) -> int:
    for part in block.modules():
        for name in ("num_heads", "heads"):
            if name in vars(part):
                return int(vars(part)[name])
    raise ValueError(f"{type(block).__name__} does not say how many heads it has")


def _blocks(stack: Stack, image: Tensor) -> Run:
    batch, count, dim = stack.tokens
    blocks = nn.Sequential(
        *(Block(dim, stack.heads, mlp_ratio=stack.hidden / dim, qkv_bias=True) for _ in range(stack.depth))
    ).eval()
    pixels = image.flatten(0, -4) if image.ndim > 4 else image  # frames are images of their own
    channels, side = pixels.shape[1], pixels.shape[-1]
    patch = max(1, round((side * side * len(pixels) / batch / count) ** 0.5))
    embed = nn.Conv2d(channels, dim, patch, patch).eval()
    tokens = torch.randn(batch, count, dim)

    def run() -> Tensor:
        embed(pixels)
        return blocks(tokens)  # type: ignore[no-any-return]  # a module's call has no type

    return run


def _random_features(network: nn.Module, image: Tensor) -> Run:
    weights, biases = network.get_buffer("weights"), network.get_buffer("biases")

    def run() -> tuple[Tensor, Tensor]:
        y = F.conv2d(image, weights, biases)
        features = torch.cat([F.relu(y), F.relu(-y)], dim=1)
        return F.adaptive_avg_pool2d(features, image.shape[-1] // 8), features.mean(dim=(2, 3))

    return run


def main() -> None:
    """Run every network, or one in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="file to write; the JSON is printed in any case")
    parser.add_argument("--only", help="one model")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each side")
    parser.add_argument("--here", metavar="MODALITY", help="measure --only in this process and print its row")
    given = parser.parse_args()
    if given.here:
        sys.stdout.write(json.dumps(measure(given.only, given.here, given.rounds)) + "\n")
        return
    rows = []
    for model, modality in networks():
        if given.only in (None, model):
            command = [sys.executable, "-m", "load_tests.models", "--only", model, "--here", modality]
            done = subprocess.run(
                [*command, "--rounds", str(given.rounds)], check=True, stdout=subprocess.PIPE, text=True
            )
            rows.append(json.loads(done.stdout.splitlines()[-1]))
            sys.stderr.write(f"{model} {modality}: {rows[-1]['plain_over_ours']:.2f} of {rows[-1]['plain']}\n")
    text = json.dumps({"machine": machine.facts(), "batch": _BATCH, "models": rows}, indent=2)
    sys.stdout.write(text + "\n")
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
