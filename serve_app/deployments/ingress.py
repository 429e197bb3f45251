"""Stages request, route, plan, assemble and stream: the router deployment, for HTTP and for handles."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from ray import serve

from rs_embed_core.embedding import Embedding
from rs_embed_core.errors import InvalidRequest, JSONValue
from rs_embed_core.registry import get_card
from serve_app.deployments.encoder_client import ServeEncoder, StatusBoard
from serve_app.deployments.fetch_pool import RayFetchPool
from serve_app.deployments.product_client import ProductClient
from serve_app.observe import metrics, tracing
from serve_app.observe.jobs import Jobs, refusals_counted
from serve_app.observe.origin import adopt
from serve_app.observe.process import watch_process
from serve_app.router import Deployed, Route, Router, default_ask
from serve_app.settings import ServiceSettings
from serve_app.stream import stream
from serve_app.wire.codecs import Reply, record_batches, to_embedding
from serve_app.wire.rows import Job, Row
from serve_app.wire.schemas import Limits, decode_job
from serve_app.wire.shapes import is_uniform

if TYPE_CHECKING:
    import pyarrow as pa
    from ray.serve.handle import DeploymentHandle


def limits(settings: ServiceSettings) -> Limits:
    """What the wire layer checks of a request."""
    return Limits(max_rois=settings.limits.max_rois, max_body_mb=settings.limits.max_body_mb)


class RouterReplica:
    """One router: decodes, plans, sends imagery references to encoders and streams rows back.

    No pixels here, but for those of precomputed products: they are the rows.

    Args:
        encoders: handles of the encoder deployments by name.
    """

    def __init__(self, settings: ServiceSettings, encoders: Mapping[str, DeploymentHandle[Any]]) -> None:
        watch_process("router", settings.observe)
        application = serve.get_replica_context().app_name  # a Serve config may say another than the settings
        board = StatusBoard(application)
        patience = settings.limits.cold_start_timeout_s
        deployed = {}
        self._encoders: list[ServeEncoder] = []
        for model in settings.models:
            name, card = default_ask(model)[1].encoder, get_card(model.model)[0]
            if card.product is not None:
                deployed[name] = Deployed(model, ProductClient(card.product.provider))
                continue
            client = ServeEncoder(encoders[name], board, start_timeout_s=patience)
            deployed[name] = Deployed(model, client)
            self._encoders.append(client)
        self._fetchers = RayFetchPool(application, settings.fetch, settings.providers, settings.observe)
        self._router = Router(deployed, self._fetchers, settings.limits, settings.providers)
        self._limits = limits(settings)
        self._at_once = settings.http.max_ongoing_requests
        self._jobs = Jobs()

    async def run(self, job: Job) -> AsyncGenerator[list[Row]]:
        """Yield rows until every ROI of the job has one.

        Raises:
            RSEmbedError: the job as a whole cannot be done.
        """
        route = self._route(job)
        rows = self._jobs.watched(stream(job, route), model=route.selection.encoder, rois=len(job.spatials))
        async with contextlib.aclosing(rows):
            async for some in rows:
                yield some

    def _route(self, job: Job) -> Route:
        with refusals_counted():
            return self._router.route(job)

    def check_health(self) -> None:
        """Serve asks every few seconds: then levels are told, see ``measures``."""
        self._jobs.tell()
        metrics.FETCH_WANTED_ACTORS.set(self._fetchers.size)
        metrics.REQUEST_LIMIT_JOBS.set(self._at_once)

    def _decoded(self, request: Mapping[str, JSONValue]) -> Job:
        with refusals_counted():
            return decode_job(request, limits=self._limits)

    async def embed(self, request: Mapping[str, JSONValue], traceparent: str | None = None) -> Embedding:
        """The embedding of one ROI; ``request`` has the JSON fields of ``POST /v1/embeddings``.

        Args:
            traceparent: the caller's span, as the header of that name over HTTP.

        Raises:
            InvalidRequest: several ROIs, or what ``decode_job`` refuses.
            RSEmbedError: as in ``rs_embed_core.get_embedding``.
        """
        work = tracing.begin_request("embed", uuid.uuid4().hex, traceparent)
        adopt(work.origin)
        try:
            job = self._decoded(request)
            if not job.single:
                raise InvalidRequest("embed takes one ROI, as spatial.", hint="embed_stream takes spatials.")
            async with contextlib.aclosing(self.run(job)) as lists:
                rows = [row async for some in lists for row in some]
        finally:
            work.end()
        return to_embedding(rows[0])

    async def embed_stream(
        self, request: Mapping[str, JSONValue], traceparent: str | None = None
    ) -> AsyncIterator[pa.RecordBatch]:
        """Yield the rows of many ROIs as record batches; the last one, without rows, carries the summary.

        Args:
            traceparent: as for ``embed``.
        """
        work = tracing.begin_request("embed_stream", uuid.uuid4().hex, traceparent)
        adopt(work.origin)
        try:
            job = self._decoded(request)
            async with contextlib.aclosing(record_batches(Reply(job, is_uniform(job)), self.run(job))) as batches:
                async for batch in batches:
                    yield batch
        finally:
            work.end()

    async def catalogue(self) -> list[dict[str, JSONValue]]:
        """The models, and the state of those served here."""
        return await self._router.catalogue()

    async def ready(self) -> dict[str, JSONValue]:
        """Whether every model is up, and the state of each."""
        return await self._router.ready()

    async def processes(self) -> dict[str, list[int]]:
        """Process ids of this router, the fetch actors and a replica of each encoder that has one.

        For benchmarks and tests.
        """
        encoders = [pid for client in self._encoders if (pid := await client.pid()) is not None]
        return {"router": [os.getpid()], "fetch": await self._fetchers.pids(), "encoder": encoders}


class ThisReplica:
    """The ``Service`` of the HTTP application: whatever replica it runs in."""

    def run(self, job: Job) -> AsyncIterator[list[Row]]:
        """See ``RouterReplica.run``."""
        return self._replica.run(job)

    async def catalogue(self) -> list[dict[str, JSONValue]]:
        """See ``RouterReplica.catalogue``."""
        return await self._replica.catalogue()

    async def ready(self) -> dict[str, JSONValue]:
        """See ``RouterReplica.ready``."""
        return await self._replica.ready()

    @property
    def _replica(self) -> RouterReplica:
        replica = serve.get_replica_context().servable_object
        if not isinstance(replica, RouterReplica):
            raise TypeError(f"the HTTP application runs in a {type(replica).__name__}")
        return replica
