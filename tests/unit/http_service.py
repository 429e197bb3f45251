"""The HTTP application over the library's own engine, on a real port: what a service is to its clients."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import numpy as np
import uvicorn
from pydantic_core import to_json

from rs_embed_core.errors import JSONValue, RSEmbedError
from rs_embed_core.local import get_embeddings_batch
from rs_embed_core.plan import recipe
from rs_embed_core.registry import describe_model, list_models
from rs_embed_core.specs.spatial import spatial_from_dict
from serve_app.http.app import build_http
from serve_app.wire.rows import Job, Row
from serve_app.wire.schemas import Limits

_CHUNK = 16


class LocalService:
    """A ``Service`` in one process."""

    async def run(self, job: Job) -> AsyncIterator[list[Row]]:
        recipe(job.ask)
        for start in range(0, len(job.spatials), _CHUNK):
            indices = range(start, min(start + _CHUNK, len(job.spatials)))
            yield await asyncio.to_thread(lambda indices=indices: [_row(job, index) for index in indices])

    async def catalogue(self) -> list[dict[str, JSONValue]]:
        serving = {"gaussian": {"status": "ready"}}
        return [describe_model(name) | ({"serving": serving} if name == "mosaiks" else {}) for name in list_models()]

    async def ready(self) -> dict[str, JSONValue]:
        return {"ready": True, "models": {"mosaiks-gaussian": {"status": "ready"}}}


def _row(job: Job, index: int) -> Row:
    ask = job.ask
    try:
        spatial = spatial_from_dict(job.spatials[index])
        (result,) = get_embeddings_batch(
            ask.model,
            spatials=[spatial],
            temporal=ask.temporal,
            fetch=ask.fetch,
            model_config=dict(ask.model_config),
            modality=ask.modality,
            output=ask.output,
            backend=ask.backend,
            input_prep=ask.input_prep,
        )
    except RSEmbedError as error:
        return Row(index, error=error)
    return Row(index, np.asarray(result.data), to_json(result.meta).decode())


@contextmanager
def local_service() -> Iterator[str]:
    """The address of a running service."""
    config = uvicorn.Config(
        build_http(LocalService(), Limits(max_rois=1000, max_body_mb=1)), port=0, log_level="error", ws="none"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            thread.join(0.01)
            if not thread.is_alive():
                raise RuntimeError("the server did not start")
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
