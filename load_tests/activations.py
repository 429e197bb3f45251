"""``python -m load_tests.activations``: what a forward takes beside its weights, per sample, for every card.

Networks run at their true sizes under torch's fake tensors, which have shapes and no memory, so the 2.6 billion
parameters of the largest fit any machine; those whose forward looks at values run for real. What is counted is every
storage that is alive at once, between the first and the last operation of a forward; kernels' own workspaces are not.
The numbers are ``Variant.sample_mb``.
"""

from __future__ import annotations

import argparse
import importlib
import math
import sys
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rs_embed_core.plan import recipe
from rs_embed_core.prepare import example
from rs_embed_core.registry import get_card, list_models
from rs_embed_core.sample import join
from rs_embed_core.specs.request import Ask

_SAMPLES = 4  # so that what does not grow with the batch (tables, masks) counts for little


class _Alive(TorchDispatchMode):
    """Bytes of the storages that operations made and that are still held, and the most there were at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def know(self, tensors: Iterator[torch.Tensor]) -> None:
        """Leave out what was there before."""
        for tensor in tensors:
            self._seen.add(tensor.untyped_storage())

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # noqa: ANN001, ANN204 - torch's protocol
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self._count(leaf.untyped_storage())
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage in self._seen:
            return
        self._seen.add(storage)
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self.now -= size


def sample_mb(model: str, modality: str, variant: str) -> float:
    """Peak MB of a forward's activations per sample of the default input."""
    ask = Ask(model, modality=modality, model_config=(("variant", variant),))
    try:
        with FakeTensorMode(allow_non_fake_inputs=True) as fake:
            peak = _peak(ask, fake.from_tensor)
    except DataDependentOutputException:
        peak = _peak(ask, torch.Tensor.clone)
    values = math.prod(example(ask).arrays["image"].shape[1:])
    return peak / 1e6 / _SAMPLES * get_card(model)[0].usual_values(modality) / values


def _peak(ask: Ask, given: Callable[[torch.Tensor], torch.Tensor]) -> int:
    """Bytes of activations of a forward of some samples."""
    card, selection = get_card(ask.model)[0], recipe(ask).selection
    one = example(ask)
    batch = join([replace(one, arrays=dict(one.arrays))] * _SAMPLES)
    shapes = {name: array.shape[1:] for name, array in one.arrays.items()}
    module, function = str(card.network).split(":")
    build: Callable[..., nn.Module] = vars(importlib.import_module(module))[function]
    with torch.inference_mode():
        network = build(**card.build_arguments(selection, shapes)).eval()
        arrays = {name: given(torch.from_numpy(array)) for name, array in batch.arrays.items()}
        with _Alive() as alive:
            alive.know(iter([*network.parameters(), *network.buffers(), *arrays.values()]))
            network(**arrays, **dict(one.params))
    return alive.peak


def main() -> None:
    """A line for every network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="one model")
    given = parser.parse_args()
    for model in list_models():
        card, _ = get_card(model)
        if card.product is not None or given.only not in (None, model):
            continue
        for entry in card.inputs:
            for variant in card.variants_of(entry.modality):
                now = card.variant(variant, entry.modality).sample_mb
                found = sample_mb(model, entry.modality, variant)
                sys.stdout.write(f"{model} {entry.modality} {variant}: {found:.1f} MB (card: {now})\n")


if __name__ == "__main__":
    main()
