"""The library's own engine: all stages in a row, in this process, without Ray."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from rs_embed_core.errors import CheckpointError, RSEmbedError
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
    """Prepare ROIs in threads, a batch ahead of the forwards; assemble in order.

    Raises:
        RSEmbedError: of the first ROI that failed; its ``index`` is in the context.
    """
    results: list[Embedding] = []
    card, _ = get_card(selection.model)
    size = card.variant(selection.variant, selection.modality).batch_size
    pool = ThreadPoolExecutor(_FETCHES_AHEAD, thread_name_prefix="fetch")
    try:
        for batch in _batches(pool, reads, size):
            results.extend(_embed(batch, size, device))
    finally:
        pool.shutdown(cancel_futures=True)
    return results


def _batches(pool: ThreadPoolExecutor, reads: Sequence[Read], size: int) -> Iterator[list[_Ready]]:
    """Yield ROIs in order, ``size`` samples and more at a time, while about as many are read ahead.

    How many samples an ROI has is not known before it is read: as many as those so far, one with another.
    """
    todo, ahead = deque(enumerate(reads)), deque[Future[_Ready]]()
    batch: list[_Ready] = []
    rois = samples = waiting = 0

    def read_ahead() -> None:
        most = max(_FETCHES_AHEAD, size * rois // samples) if samples else _FETCHES_AHEAD
        while todo and len(ahead) < most:
            ahead.append(pool.submit(_prepared, *todo.popleft()))

    while todo or ahead:
        read_ahead()
        batch.append(ahead.popleft().result())
        count = len(batch[-1].prepared.samples)
        rois, samples, waiting = rois + 1, samples + count, waiting + count
        read_ahead()
        if waiting >= size:
            yield batch
            batch, waiting = [], 0
    if batch:
        yield batch


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
            outputs = _forwarded(forward, collate([samples[i] for i in indices]), [owners[i] for i in indices])
            elapsed = 1e3 * (time.perf_counter() - started)
            tokens.update({i: (out, info, elapsed) for i, (out, info) in zip(indices, outputs, strict=True)})
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


def _forwarded(forward: Forward, batch: Batch, owners: Sequence[int]) -> list[tuple[Tokens, EncoderInfo]]:
    """The tokens of every sample; where a forward fails they go one by one, to find whose fault it is.

    Args:
        owners: the ROI of each sample.
    """
    try:
        outputs, info = forward(batch)
    except RSEmbedError as error:
        if len(batch) == 1 or isinstance(error, CheckpointError):
            raise error.again(index=owners[0]) from error
    else:
        return [(out, info) for out in outputs]
    return [one for i in range(len(batch)) for one in _forwarded(forward, batch.take(i, i + 1), owners[i : i + 1])]
