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

from rs_embed_core.errors import CheckpointError, ForwardError, InvalidInput, OutOfMemory
from rs_embed_core.prepare import example
from rs_embed_core.registry import get_card
from rs_embed_core.sample import Batch
from rs_embed_core.specs.request import Ask
from rs_embed_core.tokens import Tokens
from serve_app.deployments.batcher import Batcher, Forwarded
from serve_app.observe import metrics, tracing
from serve_app.observe.forwarding import forward_failed
from serve_app.observe.origin import NOBODY, Origin, under
from serve_app.observe.process import watch_process
from serve_app.settings import CheckpointSettings, ModelSettings, ObserveSettings
from serve_app.wire.blocks import Encoded, EncodedBatch, Payload

if TYPE_CHECKING:
    from rs_embed_core.card import Selection
    from rs_embed_core.embedding import EncoderInfo
    from rs_embed_core.weights import HubFile

_log = logging.getLogger(__name__)
_CPU_BATCH = 8  # a ViT on the CPU is fastest at 8 and slower at 32 (ray_serve_notes.md, 2)
_RETRY_LOAD_S = 30.0


class LiveConfig(TypedDict, total=False):
    """What ``user_config`` changes without a restart."""

    batch_size: int | None


class EncoderReplica:
    """One replica: payloads in, tokens out.

    Weights that cannot be loaded do not fail the replica: every request for them hears the ``CheckpointError`` at
    once, other models and other weights of this one keep serving, and the load is tried again when half a minute has
    passed.

    A device that is gone (an illegal access, an ECC error: CUDA answers that process nothing any more) fails the
    replica. Until Serve has ended it nobody is answered: a replica that fails at once looks the least busy and would be
    sent everything, while callers of one that ends send their groups to another.

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
        from rs_embed_core.encoder import Encoder  # noqa: PLC0415 - see above

        card, alias = get_card(ask.model)
        self._ask, self._card, self._selection = ask, card, card.select(ask, alias)
        self._name = self._selection.encoder
        watch_process(self._name, observe)
        self._encoder = Encoder(
            card,
            self._selection.variant,
            checkpoints=Checkpoints(checkpoints.root, checkpoints.offline),
            device=settings.device,
            precision=settings.precision,
            cpu_threads=settings.cpu_threads or os.cpu_count(),
        )
        self._device_thread = ThreadPoolExecutor(1, thread_name_prefix="forward")
        self._batcher: Batcher[Selection] = Batcher(
            self._forward, max_batch=self._default_batch(), on_forward=self._count
        )
        self._failures: dict[HubFile | None, tuple[CheckpointError, float]] = {}  # by the weights that are missing
        self._forward_ms = 0.0
        self._device_gone = False
        if settings.warm_up:
            self._warm_up()

    def _weights(self, selection: Selection) -> HubFile | None:
        """The file that a selection needs; modalities may have their own."""
        return self._card.variant(selection.variant, selection.modality).weights

    def _default_batch(self) -> int:
        variant = self._card.variant(self._selection.variant, self._selection.modality)
        if self._encoder.device == "cpu" and variant.weights is not None:  # random convolutions like large batches
            return _CPU_BATCH
        return variant.batch_size

    def _warm_up(self) -> None:
        try:
            self._encoder.forward(example(self._ask), self._selection)
        except CheckpointError as error:
            self._miss(self._selection, error)
            _log.warning("weights not loaded", extra={"model": self._ask.model, "error": str(error)})

    def _miss(self, selection: Selection, error: CheckpointError) -> None:
        self._failures[self._weights(selection)] = (error.again(), time.monotonic())

    @property
    def _has_weights(self) -> bool:
        """Whether the weights that the deployment is named after are there, as far as is known."""
        return self._weights(self._selection) not in self._failures

    def reconfigure(self, user_config: LiveConfig) -> None:
        """Apply a new ``user_config`` in place."""
        self._batcher.max_batch = user_config.get("batch_size") or self._default_batch()

    def check_health(self) -> None:
        """Serve asks every few seconds: then levels are told. One told while the process starts would be lost.

        Raises:
            ForwardError: the device is gone; Serve ends the replica when it has heard so three times.
        """
        metrics.FORWARD_WEIGHTS_LOADED.set(float(self._has_weights), self._name)
        metrics.BATCH_LIMIT_SAMPLES.set(self._batcher.max_batch, self._name)
        metrics.BATCH_WAITING_SAMPLES.set(self._batcher.waiting, self._name)
        if self._device_gone:
            raise ForwardError(f"{self._encoder.device} computes nothing any more; the replica must be replaced.")

    async def status(self) -> dict[str, str | int | float | None]:
        """State for the catalogue: whether weights are loaded, samples waiting, device, batch size, process id.

        Missing weights of another modality than the default one are in the message alone.
        """
        return {
            "state": "ready" if self._has_weights else "no_weights",
            "message": " ".join(str(error) for error, _ in self._failures.values()) or None,
            "waiting": self._batcher.waiting,
            "device": self._encoder.device,
            "pid": os.getpid(),
            "batch_size": self._batcher.max_batch,
            "forward_cpu_s": self._forward_ms / 1e3,
        }

    async def encode(
        self,
        payloads: Sequence[Awaitable[Payload] | Payload],
        selection: Selection,
        caller: Origin = NOBODY,
        *,
        bulk: bool = True,
    ) -> Encoded:
        """Compute a group of blocks.

        Args:
            payloads: references (read here, straight from shared memory) or the payloads themselves.
            selection: variant, modality and options; equal for the whole group.
            caller: the request that it is done for.
            bulk: of a long job: samples of short ones go first.

        Raises:
            CheckpointError: the weights are missing or do not fit.
        """
        with under(caller), tracing.span("encode", model=self._name, blocks=len(payloads), bulk=bulk) as work:
            encoded = await self._encoded(payloads, selection, bulk=bulk)
            if error := next((error for block in encoded.blocks for part in block for _, error in part.errors), None):
                work.fail(type(error).__name__, error.code)
            return encoded

    async def _encoded(
        self, payloads: Sequence[Awaitable[Payload] | Payload], selection: Selection, *, bulk: bool
    ) -> Encoded:
        self._check_weights(selection)
        arrived = time.perf_counter()
        ready = [item if isinstance(item, Payload) else await item for item in payloads]
        batches = [batch for payload in ready for batch in payload.batches]
        done = await asyncio.gather(*(self._batcher.submit(batch, selection, bulk=bulk) for batch in batches))
        encoded = iter([EncodedBatch.of(one.outcomes) for one in done])
        blocks = tuple(tuple(next(encoded) for _ in payload.batches) for payload in ready)
        info = next((one.info for one in done if one.info is not None), self._encoder.info())
        total = 1e3 * (time.perf_counter() - arrived)
        return Encoded(blocks, info, total)

    def _check_weights(self, selection: Selection) -> None:
        error, when = self._failures.get(self._weights(selection), (None, 0.0))
        if error is not None and time.monotonic() - when < _RETRY_LOAD_S:
            raise error.again()

    async def _forward(self, batch: Batch, selection: Selection) -> tuple[list[Tokens], EncoderInfo]:
        """One forward in the device's own thread, so that the replica keeps answering."""
        self._check_weights(selection)  # a batch before this one may have missed them
        loop = asyncio.get_running_loop()
        run = contextvars.copy_context().run  # the thread's log lines name the requests too
        started = time.perf_counter()
        try:
            tokens, info = await loop.run_in_executor(self._device_thread, run, self._timed_forward, batch, selection)
        except Exception as error:
            forward_failed(self._name, len(batch), error)
            if isinstance(error, CheckpointError):
                self._miss(selection, error)
            if self._device_gone:
                await asyncio.Event().wait()  # for the end of the replica
            raise
        finally:
            metrics.FORWARD_BUSY_SECONDS.add(time.perf_counter() - started, self._name)
        self._failures.pop(self._weights(selection), None)  # only now: while they are looked for they are missing
        metrics.FORWARD_SECONDS.observe(time.perf_counter() - started, self._name)
        return tokens, info

    def _count(self, done: Forwarded) -> None:
        """Metrics of a forward, and its span in the trace of every request that had samples in it."""
        metrics.BATCH_SAMPLES.observe(done.samples, self._name)
        metrics.BATCH_FORWARDED_SAMPLES.add(done.samples, self._name)
        metrics.BATCH_WAIT_SECONDS.observe(done.waited_s, self._name)
        facts = {"samples": done.samples, "waited_s": done.waited_s, "requests": len(done.origins)}
        for origin in done.origins:
            tracing.past("forward", origin, when=done.when, facts=facts, error=done.error)

    def _timed_forward(self, batch: Batch, selection: Selection) -> tuple[list[Tokens], EncoderInfo]:
        started = time.process_time()
        halvings = self._encoder.halvings
        try:
            return self._encoder.forward(batch, selection)
        except (CheckpointError, InvalidInput, OutOfMemory):
            raise
        except Exception:
            self._device_gone = not self._encoder.alive()
            raise
        finally:
            metrics.FORWARD_HALVINGS.add(self._encoder.halvings - halvings, self._name)
            self._forward_ms += 1e3 * (time.process_time() - started)
