"""Stages batch and forward: the encoder deployment, one model variant on one device per replica."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import time
from collections.abc import Awaitable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypedDict

from rs_embed_core.errors import CheckpointError, RSEmbedError
from rs_embed_core.prepare import example
from rs_embed_core.registry import get_card
from rs_embed_core.sample import Batch
from rs_embed_core.specs.request import Ask
from rs_embed_core.tokens import TokenBlock, Tokens
from serve_app.deployments.batcher import Batcher, Forwarded, Outcome
from serve_app.observe import metrics, tracing
from serve_app.observe.forwarding import forward_failed
from serve_app.observe.origin import NOBODY, Origin, under
from serve_app.observe.process import watch_process
from serve_app.settings import CheckpointSettings, ModelSettings, ObserveSettings
from serve_app.wire.blocks import Encoded, EncodedBatch, Payload

if TYPE_CHECKING:
    from rs_embed_core.card import Selection
    from rs_embed_core.embedding import EncoderInfo

_log = logging.getLogger(__name__)
_CPU_BATCH = 8  # a ViT on the CPU is fastest at 8 and slower at 32 (ray_serve_notes.md, 2)
_RETRY_LOAD_S = 30.0


class LiveConfig(TypedDict, total=False):
    """What ``user_config`` changes without a restart."""

    batch_size: int | None


class EncoderReplica:
    """One replica: payloads in, tokens out.

    Weights that cannot be loaded do not fail the replica: every request hears the ``CheckpointError`` at once,
    other models keep serving, and the load is tried again when half a minute has passed.

    Args:
        ask: the model and variant, with everything else at its default.
        settings: of this deployment.
        checkpoints: where weights come from.
        observe: logs and traces of the process; None leaves it as it is.
    """

    def __init__(
        self,
        ask: Ask,
        settings: ModelSettings,
        checkpoints: CheckpointSettings,
        observe: ObserveSettings | None = None,
    ) -> None:
        from rs_embed_core.checkpoints import Checkpoints  # noqa: PLC0415 - torch, only in the replica
        from rs_embed_core.encoder import Encoder  # noqa: PLC0415

        card, alias = get_card(ask.model)
        self._ask = ask
        self._name = card.select(ask, alias).encoder
        watch_process(self._name, observe)
        self._variant = card.variants[card.select(ask, alias).variant]
        self._encoder = Encoder(
            card,
            card.select(ask, alias).variant,
            checkpoints=Checkpoints(checkpoints.root, checkpoints.offline),
            device=settings.device,
            precision=settings.precision,
            cpu_threads=settings.cpu_threads or os.cpu_count(),
        )
        self._device_thread = ThreadPoolExecutor(1, thread_name_prefix="forward")
        self._batcher: Batcher[Selection] = Batcher(
            self._forward, max_batch=self._default_batch(), on_forward=self._count
        )
        self._info = self._encoder.info()
        self._failure: tuple[CheckpointError, float] | None = None
        self._forward_ms = 0.0
        if settings.warm_up:
            self._warm_up()

    def _default_batch(self) -> int:
        return _CPU_BATCH if self._encoder.device == "cpu" and self._needs_cpu_batch else self._variant.batch_size

    @property
    def _needs_cpu_batch(self) -> bool:
        return self._variant.weights is not None  # random convolutions are fastest in large batches

    def _warm_up(self) -> None:
        card, alias = get_card(self._ask.model)
        try:
            self._encoder.forward(example(self._ask), card.select(self._ask, alias))
        except CheckpointError as error:
            self._failure = (error, time.monotonic())
            _log.warning("weights not loaded", extra={"model": self._ask.model, "error": str(error)})

    def reconfigure(self, user_config: LiveConfig) -> None:
        """Apply a new ``user_config`` in place."""
        self._batcher.max_batch = user_config.get("batch_size") or self._default_batch()

    def check_health(self) -> None:
        """Serve asks every few seconds: then levels are told. One told while the process starts would be lost."""
        metrics.FORWARD_WEIGHTS_LOADED.set(float(self._failure is None), self._name)
        metrics.BATCH_LIMIT_SAMPLES.set(self._batcher.max_batch, self._name)
        metrics.BATCH_WAITING_SAMPLES.set(self._batcher.waiting, self._name)

    async def status(self) -> dict[str, str | int | float | None]:
        """State for the catalogue: whether weights are loaded, samples waiting, device, batch size, process id."""
        failure = None if self._failure is None else str(self._failure[0])
        return {
            "state": "ready" if failure is None else "no_weights",
            "message": failure,
            "waiting": self._batcher.waiting,
            "device": self._encoder.device,
            "pid": os.getpid(),
            "batch_size": self._batcher.max_batch,
            "forward_cpu_s": self._forward_ms / 1e3,
        }

    async def encode(
        self, payloads: Sequence[Awaitable[Payload] | Payload], selection: Selection, caller: Origin = NOBODY
    ) -> Encoded:
        """Compute a group of blocks.

        Args:
            payloads: references (read here, straight from shared memory) or the payloads themselves.
            selection: variant, modality and options; equal for the whole group.
            caller: the request that it is done for.

        Raises:
            CheckpointError: the weights are missing or do not fit.
        """
        with under(caller), tracing.span("encode", model=self._name, blocks=len(payloads)):
            return await self._encoded(payloads, selection)

    async def _encoded(self, payloads: Sequence[Awaitable[Payload] | Payload], selection: Selection) -> Encoded:
        self._check_weights()
        arrived = time.perf_counter()
        ready = [item if isinstance(item, Payload) else await item for item in payloads]
        batches = [batch for payload in ready for batch in payload.batches]
        outcomes = await asyncio.gather(
            *(self._batcher.submit(batch, selection, selection.options) for batch in batches)
        )
        encoded = iter([_pack(entry) for entry in outcomes])
        blocks = tuple(tuple(next(encoded) for _ in payload.batches) for payload in ready)
        total = 1e3 * (time.perf_counter() - arrived)
        return Encoded(blocks, self._info, total)

    def _check_weights(self) -> None:
        if self._failure is None:
            return
        error, when = self._failure
        if time.monotonic() - when < _RETRY_LOAD_S:
            raise error
        self._failure = None

    async def _forward(self, batch: Batch, selection: Selection) -> tuple[list[Tokens], EncoderInfo]:
        """One forward in the device's own thread, so that the replica keeps answering."""
        loop = asyncio.get_running_loop()
        run = contextvars.copy_context().run  # the thread's log lines name the requests too
        started = time.perf_counter()
        try:
            tokens, info = await loop.run_in_executor(self._device_thread, run, self._timed_forward, batch, selection)
        except Exception as error:
            forward_failed(self._name, len(batch), error)
            if isinstance(error, CheckpointError):
                self._failure = (error, time.monotonic())
            raise
        finally:
            metrics.FORWARD_BUSY_SECONDS.add(time.perf_counter() - started, self._name)
        metrics.FORWARD_SECONDS.observe(time.perf_counter() - started, self._name)
        self._info = info
        return tokens, info

    def _count(self, done: Forwarded) -> None:
        """Metrics of a forward, and its span in the trace of every request that had samples in it."""
        metrics.BATCH_SAMPLES.observe(done.samples, self._name)
        metrics.BATCH_FORWARDED_SAMPLES.add(done.samples, self._name)
        metrics.BATCH_WAIT_SECONDS.observe(done.waited_s, self._name)
        facts: dict[str, tracing.Fact] = {"samples": done.samples, "waited_s": done.waited_s}
        for origin in done.origins:
            tracing.past("forward", origin, done.began_ns, done.ended_ns, {**facts, "requests": len(done.origins)})

    def _timed_forward(self, batch: Batch, selection: Selection) -> tuple[list[Tokens], EncoderInfo]:
        started = time.process_time()
        halvings = self._encoder.halvings
        try:
            return self._encoder.forward(batch, selection)
        finally:
            metrics.FORWARD_HALVINGS.add(self._encoder.halvings - halvings, self._name)
            self._forward_ms += 1e3 * (time.process_time() - started)


def _pack(outcomes: Sequence[Outcome]) -> EncodedBatch:
    errors = tuple((i, entry) for i, entry in enumerate(outcomes) if isinstance(entry, RSEmbedError))
    tokens = [entry for entry in outcomes if isinstance(entry, Tokens)]
    return EncodedBatch(TokenBlock.pack(tokens), errors)
