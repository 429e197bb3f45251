"""The service inside a Ray cluster, without HTTP: rows over the router's Serve handle. Imports Ray."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Iterator

import pyarrow as pa
from ray import serve
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentResponseGenerator

from rs_embed_core.errors import JSONValue, RSEmbedError, Unavailable
from serve_app.observe.tracing import caller_headers
from serve_app.wire.catalogue import find_model
from serve_app.wire.codecs import Summary, rows_of, summary_of
from serve_app.wire.problems import unexpected
from serve_app.wire.rows import Job, Row
from serve_app.wire.schemas import encode_job


class HandleTransport:
    """The router of a Serve application of this cluster.

    Raises:
        Unavailable: no such application, or no Serve.
    """

    def __init__(self, app_name: str) -> None:
        with _named_errors(app_name):
            self._handle = serve.get_app_handle(app_name)
        self._name = app_name

    async def rows(self, job: Job) -> AsyncGenerator[list[Row]]:
        """See ``Transport``."""
        seen, said = Summary(), None
        streaming, traceparent = self._handle.options(stream=True), caller_headers().get("traceparent")
        response: DeploymentResponseGenerator[pa.RecordBatch] = streaming.embed_stream.remote(
            encode_job(job), traceparent
        )  # type: ignore[assignment]  # stream=True
        try:
            with _named_errors(self._name):
                async for batch in response:
                    said = summary_of(batch) or said
                    rows = rows_of(batch)
                    seen.count(len(rows), sum(row.error is not None for row in rows))
                    if rows:
                        yield rows
            seen.check(said)
        finally:
            # Only this stops the work; dropping the generator does not. It re-raises a failed assignment.
            with contextlib.suppress(Exception):
                response.cancel()  # type: ignore[no-untyped-call]  # Ray's

    async def catalogue(self) -> list[dict[str, JSONValue]]:
        """See ``Transport``."""
        with _named_errors(self._name):
            models: list[dict[str, JSONValue]] = await self._handle.catalogue.remote()
        return models

    async def describe(self, model: str) -> dict[str, JSONValue]:
        """See ``Transport``."""
        return find_model(await self.catalogue(), model)

    async def ready(self) -> dict[str, JSONValue]:
        """See ``Transport``."""
        with _named_errors(self._name):
            state: dict[str, JSONValue] = await self._handle.ready.remote()
        return state

    async def aclose(self) -> None:
        """See ``Transport``."""


@contextlib.contextmanager
def _named_errors(app_name: str) -> Iterator[None]:
    """Ray's errors as ours; an error of the router as it was raised there, any other one as over HTTP."""
    try:
        yield
    except RayTaskError as error:
        if isinstance(error.cause, RSEmbedError):
            raise error.cause from None
        raise unexpected(error.cause) from error
    except (RayError, RayServeException) as error:
        msg = f"the application {app_name!r} is not there: {error}"
        hint = "serve status lists the applications; rs-embed serve or serve deploy starts this one."
        raise Unavailable(msg, hint=hint) from error
