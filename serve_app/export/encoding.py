"""Stages forward and assemble of an export: samples become rows."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rs_embed_core.embedding import EncoderInfo
from rs_embed_core.errors import CheckpointError, ForwardError, RSEmbedError
from rs_embed_core.passthrough import INFO, passed
from rs_embed_core.plan import recipe
from rs_embed_core.prepare import example
from rs_embed_core.sample import Batch
from rs_embed_core.specs.request import Ask
from rs_embed_core.specs.spatial import Spatial
from rs_embed_core.tokens import Tokens
from serve_app.assembled import assembled
from serve_app.export.job import Workers
from serve_app.export.planning import plan_of
from serve_app.export.reading import Block
from serve_app.observe.fetching import km2
from serve_app.observe.forwarding import count_rows
from serve_app.settings import CheckpointSettings
from serve_app.wire.blocks import BlockItem, Encoded, EncodedBatch
from serve_app.wire.rows import Row

type _Forward = Callable[[Batch], tuple[list[Tokens], EncoderInfo]]


@dataclass(frozen=True)
class _Model:
    ask: Ask
    forward: _Forward
    batch_size: int


class Encoding:
    """Every model of a job, on one device.

    Args:
        asks: the question to each model, by the caller's name for it.

    Raises:
        CheckpointError: weights are missing or do not fit.
    """

    def __init__(self, asks: Mapping[str, Ask], workers: Workers, checkpoints: CheckpointSettings) -> None:
        self._models = {label: _model(ask, workers, checkpoints) for label, ask in asks.items()}
        self._device = threading.Lock()  # one forward at a time; the rows before it are assembled meanwhile
        for model in self._models.values():
            if recipe(model.ask).card.product is None:
                model.forward(example(model.ask))  # weights that are missing are said before anything is read

    def rows(self, label: str, block: Block, rois: Mapping[int, Spatial]) -> tuple[list[Row], float]:
        """One row for each ROI of a block, and the seconds that its forwards took.

        Args:
            rois: by index.

        Raises:
            CheckpointError: the weights do not fit.
        """
        info, payload = block
        model = self._models[label]
        encoder, packed = INFO, []
        with self._device:
            started = time.perf_counter()
            for batch in payload.batches:
                outcomes, encoder = _encoded(model, batch, encoder)
                packed.append(EncodedBatch.of(outcomes))
            seconds = time.perf_counter() - started
        plans = {item.index: plan_of(model.ask, rois[item.index]) for item in info.good}
        encoded = Encoded((tuple(packed),), encoder, 1e3 * seconds)
        failed = [_failed(item) for item in info.items if item.error is not None]
        rows = [*assembled(info, plans, packed, encoded), *failed]
        ground = sum(km2(plans[row.index].fetch.grid, plans[row.index].roi) for row in rows if row.error is None)
        count_rows(
            (row.error for row in rows), model=recipe(model.ask).selection.encoder, busy_s=seconds, ground=ground
        )
        return rows, seconds


def _model(ask: Ask, workers: Workers, checkpoints: CheckpointSettings) -> _Model:
    shared = recipe(ask)
    card, selection = shared.card, shared.selection
    size = card.variant(selection.variant, selection.modality).batch_size
    if card.product is not None:
        return _Model(ask, lambda batch: (passed(batch).unpack(), INFO), size)
    from rs_embed_core.checkpoints import Checkpoints  # noqa: PLC0415 - torch, only where something is computed
    from rs_embed_core.encoder import Encoder  # noqa: PLC0415 - see above

    encoder = Encoder(
        card,
        selection.variant,
        checkpoints=Checkpoints(checkpoints.root, checkpoints.offline),
        device=workers.device,
        precision=workers.precision,
        cpu_threads=workers.cpu_threads,
    )
    return _Model(ask, lambda batch: encoder.forward(batch, selection), size)


def _encoded(model: _Model, batch: Batch, info: EncoderInfo) -> tuple[list[Tokens | RSEmbedError], EncoderInfo]:
    """The outcome of every sample of a batch, and what computed them (``info`` where nothing did)."""
    outcomes: list[Tokens | RSEmbedError] = []
    waiting = [batch.take(i, min(len(batch), i + model.batch_size)) for i in range(0, len(batch), model.batch_size)]
    while waiting:
        part = waiting.pop(0)
        try:
            tokens, info = model.forward(part)
        except CheckpointError:
            raise
        except Exception as error:  # noqa: BLE001 - a process edge: one sample must not fail its neighbours
            if len(part) > 1:
                waiting = [part.take(i, i + 1) for i in range(len(part))] + waiting
            else:
                outcomes.append(ForwardError.of(error))
        else:
            outcomes.extend(tokens)
    return outcomes, info


def _failed(item: BlockItem) -> Row:
    return Row(item.index, error=item.error)
