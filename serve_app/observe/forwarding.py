"""What is told of a forward that failed."""

from __future__ import annotations

import logging

from rs_embed_core.errors import RSEmbedError
from serve_app.observe import metrics
from serve_app.observe.outcomes import outcome_of

_log = logging.getLogger(__name__)


def forward_failed(model: str, samples: int, error: Exception) -> None:
    """Count a forward that failed and log it, unless the fault is its caller's. Called in the ``except`` of it.

    Args:
        model: name of the encoder deployment.
    """
    known = error if isinstance(error, RSEmbedError) else None
    code, fault = outcome_of(known or RSEmbedError(str(error)))
    metrics.FORWARD_FAILURES.add(1, model, code)
    facts = {"model": model, "samples": samples, "code": code}
    if known is None:
        _log.exception("a forward failed", extra=facts)
    elif fault == "service":
        _log.warning("a forward failed", extra={**facts, "error": str(error)})
