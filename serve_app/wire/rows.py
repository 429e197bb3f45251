"""What the service produces: ``Job``, a decoded request body, and ``Row``, the one outcome of one ROI."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from rs_embed_core.errors import JSONValue, RSEmbedError
from rs_embed_core.specs.request import Ask


@dataclass(frozen=True)
class Job:
    """One request: what every ROI shares, and the ROIs as they came, decoded one by one later.

    Attributes:
        spatials: JSON objects (or specs); a bad one becomes a problem at its index.
        single: the body said ``spatial``: the answer is one embedding, or its problem as the response.
        ordered: rows in the order of ``spatials`` rather than as they complete.
        timeout_s: deadline of the whole job, seconds from its arrival; None takes the service's.
        dtype: of the numbers on the wire.
    """

    ask: Ask
    spatials: tuple[object, ...]
    single: bool = False
    ordered: bool = False
    timeout_s: float | None = None
    dtype: Literal["float32", "float16"] = "float32"


@dataclass(frozen=True, eq=False)
class Row:
    """The one outcome of one ROI: numbers and meta, or an error.

    Attributes:
        index: position in the request.
        data: float32 ``(D,)`` or ``(D, h, w)``; None with an error.
        meta: ``EmbeddingMeta.to_dict()`` as JSON text; None with an error.
    """

    index: int
    data: NDArray[np.float32] | None = None
    meta: str | None = None
    error: RSEmbedError | None = None


class Service(Protocol):
    """What the HTTP application needs of the router."""

    def run(self, job: Job) -> AsyncIterator[list[Row]]:
        """Yield rows in small lists until every ROI has exactly one.

        Raises:
            RSEmbedError: before the first row, when the job as a whole cannot be done.
        """

    async def catalogue(self) -> list[dict[str, JSONValue]]:
        """``describe_model`` of every model, each with ``serving``: its variants' readiness and queue."""

    async def ready(self) -> dict[str, JSONValue]:
        """``{"ready": bool, "models": {encoder: {"status": ..., "replicas": n, "message": ...}}}``."""
