"""A precomputed product as the router sees it: what the fetch actors read is the result, nothing computes it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Sequence

from rs_embed_core.card import Selection
from rs_embed_core.errors import JSONValue
from rs_embed_core.passthrough import INFO, passed
from serve_app.deployments.ray_errors import REFETCH
from serve_app.router import PayloadLost, Reference
from serve_app.wire.blocks import Encoded, EncodedBatch, Payload


class ProductClient:
    """Takes the place of an encoder deployment; the pixels are read here, in the router.

    They are handed on as they lie in shared memory: at tens of megabytes an ROI a copy would stop the event loop.
    """

    def __init__(self, provider: str) -> None:
        self._provider = provider

    async def encode(self, payloads: Sequence[Reference], selection: Selection, *, bulk: bool = True) -> Encoded:
        """Hand on a group of blocks.

        Raises:
            PayloadLost: a block is gone from the object store.
        """
        del selection, bulk
        started = time.perf_counter()
        blocks = []
        for reference in payloads:
            payload = await _read(reference)
            blocks.append(tuple(EncodedBatch(passed(batch)) for batch in payload.batches))
        return Encoded(tuple(blocks), INFO, 1e3 * (time.perf_counter() - started))

    async def pid(self) -> int | None:
        """None: it has no process."""
        return None

    async def status(self) -> dict[str, JSONValue]:
        """Ready whenever the router is."""
        return {"status": "ready", "replicas": 0, "message": f"precomputed, read through {self._provider}"}


async def _read(reference: Reference) -> Payload:
    if isinstance(reference, Payload):
        return reference
    if not isinstance(reference, Awaitable):
        raise TypeError(f"a payload is a reference, not a {type(reference).__name__}")
    try:
        payload: Payload = await reference
    except REFETCH as error:
        raise PayloadLost(str(error).splitlines()[0]) from error
    return payload
