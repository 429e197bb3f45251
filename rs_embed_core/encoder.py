"""Stage forward: ``Encoder``, one model variant on one device."""

from __future__ import annotations

import importlib
import logging
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import groupby
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rs_embed_core.card import ModelCard, Selection
from rs_embed_core.checkpoints import Checkpoints
from rs_embed_core.embedding import CheckpointInfo, EncoderInfo
from rs_embed_core.errors import ForwardError, InvalidInput, OutOfMemory, Unsupported
from rs_embed_core.memory import Room, free_mb
from rs_embed_core.networks.features import Features
from rs_embed_core.release import package_version
from rs_embed_core.sample import Batch, View
from rs_embed_core.tiling import crop_cells
from rs_embed_core.tokens import Tokens

_log = logging.getLogger(__name__)

type Precision = Literal["float32", "bfloat16", "float16"]

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_NO_HOST_MEMORY = "DefaultCPUAllocator"  # torch has no class for an allocation that fails on the CPU
_NETWORKS_KEPT = 4  # a model whose constructor has options (mosaiks) holds at most so many networks
_VERSIONS = (("rs-embed-serve", package_version()), *((name, version(name)) for name in ("torch", "numpy")))


@dataclass(frozen=True)
class Loaded:
    """A network on its device, and the room beside it."""

    network: nn.Module
    checkpoint: CheckpointInfo | None
    room: Room


class Encoder:
    """One model variant on one device: batches in, tokens out.

    Args:
        card: the model's family.
        variant: one of its variants.
        checkpoints: where weights come from.
        device: ``auto`` takes cuda, then mps, then cpu.
        precision: float32 gives golden's numbers; the 16-bit ones run under autocast.
        cpu_threads: threads of a forward on the CPU, for the whole process; None leaves torch's own choice.

    Attributes:
        halvings: how often a batch did not fit the device, so far.

    Raises:
        Unsupported: the device or the precision is not to be had.
    """

    def __init__(  # noqa: PLR0913 - one value per setting of a deployment
        self,
        card: ModelCard,
        variant: str,
        *,
        checkpoints: Checkpoints,
        device: str = "auto",
        precision: Precision = "float32",
        cpu_threads: int | None = None,
    ) -> None:
        if cpu_threads is not None:
            torch.set_num_threads(cpu_threads)
        self._card = card
        self._variant = variant
        self._checkpoints = checkpoints
        if precision not in _DTYPES:
            msg = f"there is no precision {precision!r}."
            raise Unsupported(msg, hint=f"Use {', '.join(_DTYPES)}.")
        self.halvings = 0
        self._device = resolve_device(device)
        self._precision: Precision = precision
        self._networks: OrderedDict[tuple[object, ...], Loaded] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def device(self) -> str:
        """Where it computes: ``cpu``, ``cuda`` or ``mps``."""
        return self._device.type

    def alive(self) -> bool:
        """Whether the device still computes. A CUDA context that a fault has ended answers nothing any more."""
        try:
            torch.ones(1, device=self._device).add(1).item()  # waits for the device
        except RuntimeError as error:
            return isinstance(error, torch.OutOfMemoryError)
        return True

    def load(self, selection: Selection, batch: Batch) -> Loaded:
        """The network for a selection, built and filled on first use.

        Raises:
            CheckpointError: its weights are missing or do not fit.
        """
        shapes = {name: array.shape[1:] for name, array in batch.arrays.items()}
        arguments = self._card.build_arguments(selection, shapes)
        weights = self._card.variant(self._variant, selection.modality).weights
        key = (weights, *sorted(arguments.items()))
        with self._lock:
            if key in self._networks:
                self._networks.move_to_end(key)
                return self._networks[key]
            if self._card.network is None:
                raise Unsupported(f"{self._card.id} is precomputed: it has no network to load.")
            if weights is not None:
                self._checkpoints.locate(weights)  # a network that nothing fills is not worth building
            module, name = self._card.network.split(":")
            build: Callable[..., nn.Module] = vars(importlib.import_module(module))[name]
            network = build(**arguments).eval().requires_grad_(requires_grad=False)
            checkpoint = None if weights is None else self._checkpoints.load(weights, network)
            loaded = self._placed(network, checkpoint, selection)
            self._networks[key] = loaded
            if len(self._networks) > _NETWORKS_KEPT:
                self._networks.popitem(last=False)
            return loaded

    def _placed(self, network: nn.Module, checkpoint: CheckpointInfo | None, selection: Selection) -> Loaded:
        """The network on the device, which is asked what room it leaves."""
        network = network.to(self._device)
        known = self._card.variant(self._variant, selection.modality).sample_mb is not None
        return Loaded(network, checkpoint, Room(free_mb(self._device) if known else None))

    def info(self, checkpoint: CheckpointInfo | None = None) -> EncoderInfo:
        """What is reported with every result of a network that these weights fill."""
        return EncoderInfo(str(self._device), self._precision, checkpoint, _VERSIONS)

    def forward(self, batch: Batch, selection: Selection) -> tuple[list[Tokens], EncoderInfo]:
        """The tokens of every sample of a batch, in order, and what computed them.

        A batch that the device has no room for is computed in parts; parts that still do not fit are halved, and
        later ones are no larger.

        Raises:
            CheckpointError: the weights are missing or do not fit.
            InvalidInput: the network refuses these shapes (it raised ``ValueError``).
            OutOfMemory: not even one sample fits the device.
            ForwardError: the network failed, or its output is not finite.
        """
        loaded = self.load(selection, batch)
        size = self._sample_mb(batch, selection)
        tokens: list[Tokens] = []
        while len(tokens) < len(batch):
            done = len(tokens)
            part = batch.take(done, min(len(batch), done + (loaded.room.samples(size) or len(batch))))
            try:
                tokens += self._tokens(part, loaded)
            except OutOfMemory:
                if len(part) == 1:
                    raise
                self.halvings += 1
                loaded.room.exceeded(len(part), size)
                _log.warning("out of memory", extra={"model": self._card.id, "samples": len(part)})
            if len(tokens) == done and self._device.type == "cuda":
                torch.cuda.empty_cache()  # outside of the handler, whose traceback holds the failed forward's tensors
        return tokens, self.info(loaded.checkpoint)

    def _sample_mb(self, batch: Batch, selection: Selection) -> float:
        """What a sample of this batch takes: the card's number, in proportion to the pixels."""
        usual = self._card.variant(self._variant, selection.modality).sample_mb or 1.0
        values = math.prod(batch.arrays["image"].shape[1:])
        return usual * values / self._card.usual_values(selection.modality)

    def _tokens(self, batch: Batch, loaded: Loaded) -> list[Tokens]:
        """One forward."""
        try:
            with torch.inference_mode(), self._autocast():
                arrays = {name: self._to_device(array) for name, array in batch.arrays.items()}
                features = loaded.network(**arrays, **dict(batch.params))
                tokens = list(_reduce(features, batch.views))
        except torch.OutOfMemoryError as error:
            raise self._too_large(batch) from error
        except ValueError as error:
            msg = f"{self._card.id} does not take {_describe(batch)}: {error}"
            raise InvalidInput(msg, hint="Ask for a larger ROI or another scale_m.") from error
        except RuntimeError as error:
            if _NO_HOST_MEMORY in str(error):
                raise self._too_large(batch) from error
            msg = f"{self._card.id} failed on {_describe(batch)}: {error}"
            raise ForwardError(msg) from error
        if not all(np.isfinite(token.data.sum(dtype=np.float64)) for token in tokens):
            msg = f"{self._card.id} gave values that are not finite for {_describe(batch)}."
            raise ForwardError(msg, hint="Look at the imagery's values; 16-bit precision may overflow.")
        return tokens

    def _too_large(self, batch: Batch) -> OutOfMemory:
        msg = f"{self._card.id} ran out of memory on {self._device} with {_describe(batch)}."
        hint = "Ask for a smaller ROI or image, fewer frames, or a device with more memory."
        return OutOfMemory(msg, hint=hint)

    def _autocast(self) -> torch.autocast:
        dtype = _DTYPES[self._precision]
        return torch.autocast(self._device.type, dtype=dtype, enabled=dtype is not torch.float32)

    def _to_device(self, array: NDArray[np.generic]) -> Tensor:
        if not array.flags.writeable or not array.flags.c_contiguous:
            array = array.copy()  # torch refuses views of shared memory; this is the one copy of the pixels
        tensor = torch.from_numpy(array)
        if self._device.type == "cuda":
            return tensor.pin_memory().to(self._device, non_blocking=True)
        return tensor.to(self._device)


def resolve_device(device: str) -> torch.device:
    """The torch device of a name; ``auto`` is cuda, then mps, then cpu.

    Raises:
        Unsupported: no such device here.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError) as error:
        msg = f"device {device!r} is not to be had here: {error}"
        raise Unsupported(msg, hint="Use auto, cpu, cuda or mps.") from error
    return resolved


def _describe(batch: Batch) -> str:
    shapes = ", ".join(f"{name} {array.shape}" for name, array in batch.arrays.items())
    return f"{len(batch)} samples ({shapes})"


def _reduce(features: Features, views: Sequence[View]) -> Iterator[Tokens]:
    """Crop and pool on the device; yield what each view asked for, neighbours of equal view together."""
    start = 0
    for view, run in groupby(views):
        stop = start + len(list(run))
        data = _look(features, view, start, stop).float().cpu().numpy()
        cells = (features.grid.shape[2], features.grid.shape[3])
        yield from (Tokens(row, cells) for row in data)
        start = stop


def _look(features: Features, view: View, start: int, stop: int) -> Tensor:
    """One view of samples ``start`` to ``stop``: ``[n, D]`` or ``[n, D, h, w]``."""
    if view.output == "pooled" and view.head:
        own = features.pooled_mean if view.pooling == "mean" else features.pooled_max
        if own is not None:
            return own[start:stop]
    cells = features.grid if view.pooling == "mean" or features.grid_max is None else features.grid_max
    if view.output == "pooled" and features.cells is not None:
        cells = features.cells
    grid = cells[start:stop]  # [n, D, h, w]
    rows, columns = grid.shape[2], grid.shape[3]
    if view.tile is not None:
        layout, index = view.tile
        r0, r1, c0, c1 = layout.kept(index, rows, columns)
        return grid[:, :, r0:r1, c0:c1]
    if view.inset is not None and not (view.output == "pooled" and view.head):
        r0, r1, c0, c1 = crop_cells(rows, columns, view.inset)
        grid = grid[:, :, r0:r1, c0:c1]
    if view.output == "grid":
        return grid
    return grid.mean(dim=(2, 3)) if view.pooling == "mean" else grid.amax(dim=(2, 3))
