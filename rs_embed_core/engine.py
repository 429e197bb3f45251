"""The library's own engine: all stages in a row, in this process, without Ray."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from rs_embed_core.assemble import assemble
from rs_embed_core.card import Selection
from rs_embed_core.checkpoints import Checkpoints
from rs_embed_core.chip import Chip
from rs_embed_core.embedding import Embedding, EncoderInfo
from rs_embed_core.encoder import Encoder
from rs_embed_core.errors import RSEmbedError
from rs_embed_core.passthrough import INFO, passed
from rs_embed_core.plan import Plan
from rs_embed_core.prepare import prepare
from rs_embed_core.prepared import Prepared
from rs_embed_core.registry import generation, get_card
from rs_embed_core.sample import Batch, collate, group_by_signature
from rs_embed_core.tokens import Tokens

_FETCHES_AHEAD = 8  # as many reads as rs-embed has at once; a local run has no quota to share
_ENCODERS_KEPT = 2  # models held at a time: a laptop has room for no more


@dataclass(frozen=True)
class Defaults:
    """What the library otherwise takes from its own defaults.

    Attributes:
        checkpoints: where weights come from.
        backend: what ``backend="auto"`` reads from.
    """

    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    backend: str = "synthetic"


_defaults = [Defaults()]


def configure(
    *,
    checkpoints_root: str | Path | None = None,
    offline: bool | None = None,
    default_backend: str | None = None,
) -> None:
    """Set the library's defaults for this process; None leaves one as it is."""
    old = _defaults[0]
    checkpoints = old.checkpoints
    if checkpoints_root is not None:
        checkpoints = replace(checkpoints, root=Path(checkpoints_root))
    if offline is not None:
        checkpoints = replace(checkpoints, offline=offline)
    _defaults[0] = Defaults(checkpoints, default_backend or old.backend)
    _encoder.cache_clear()


def default_backend() -> str:
    """What ``backend="auto"`` reads from."""
    return _defaults[0].backend


@lru_cache(maxsize=_ENCODERS_KEPT)
def _encoder(model: str, variant: str, device: str, _generation: int) -> Encoder:
    card, _ = get_card(model)
    return Encoder(card, variant, checkpoints=_defaults[0].checkpoints, device=device)


type Forward = Callable[[Batch], tuple[list[Tokens], EncoderInfo]]


def _forward(selection: Selection, device: str) -> Forward:
    """What computes a batch: the network, or nothing for a precomputed product."""
    if get_card(selection.model)[0].product is not None:
        return lambda batch: (passed(batch).unpack(), INFO)
    encoder = _encoder(selection.model, selection.variant, device, generation())
    return lambda batch: encoder.forward(batch, selection)


type Read = Callable[[], tuple[Plan, Callable[[], Chip]]]


def run(reads: Sequence[Read], selection: Selection, device: str) -> list[Embedding]:
    """Prepare batches of ROIs in threads, one batch ahead of the forwards; assemble in order.

    Raises:
        RSEmbedError: of the first ROI that failed; its ``index`` is in the context.
    """
    results: list[Embedding] = []
    card, _ = get_card(selection.model)
    size = card.variant(selection.variant, selection.modality).batch_size
    pool = ThreadPoolExecutor(_FETCHES_AHEAD, thread_name_prefix="fetch")
    try:
        ahead: list[Future[_Ready]] = []
        for start in range(0, len(reads) + size, size):
            batch = ahead
            ahead = [pool.submit(_prepared, i, reads[i]) for i in range(start, min(start + size, len(reads)))]
            if batch:
                results.extend(_embed([future.result() for future in batch], size, device))
    finally:
        pool.shutdown(cancel_futures=True)
    return results


@dataclass(frozen=True)
class _Ready:
    index: int
    plan: Plan
    prepared: Prepared
    fetch_ms: float


def _prepared(index: int, read: Read) -> _Ready:
    try:
        resolved, fetch_chip = read()
        started = time.perf_counter()
        chip = fetch_chip()
        fetch_ms = 1e3 * (time.perf_counter() - started)
        return _Ready(index, resolved, prepare(chip, resolved), fetch_ms)
    except RSEmbedError as error:
        raise error.again(index=index) from error


def _embed(ready: Sequence[_Ready], size: int, device: str) -> Iterable[Embedding]:
    """Forward the samples of several ROIs of one model, batched by signature, and assemble each ROI."""
    selection = ready[0].plan.selection
    forward = _forward(selection, device)
    samples = [sample for item in ready for sample in item.prepared.samples]
    owners = [item.index for item in ready for _ in item.prepared.samples]
    tokens: dict[int, tuple[Tokens, EncoderInfo, float]] = {}
    for group in group_by_signature(samples).values():
        for start in range(0, len(group), size):
            indices = group[start : start + size]
            started = time.perf_counter()
            try:
                outputs, info = forward(collate([samples[i] for i in indices]))
            except RSEmbedError as error:
                raise error.again(index=owners[indices[0]]) from error
            elapsed = 1e3 * (time.perf_counter() - started)
            tokens.update({i: (out, info, elapsed) for i, out in zip(indices, outputs, strict=True)})
    position = 0
    for item in ready:
        own = [tokens[i] for i in range(position, position + len(item.prepared.samples))]
        position += len(item.prepared.samples)
        timings = {
            "fetch": item.fetch_ms,
            "prepare": item.prepared.info.prepare_ms,
            "forward": max(entry[2] for entry in own),
        }
        yield assemble([entry[0] for entry in own], item.plan, item.prepared.info, own[0][1], timings_ms=timings)
