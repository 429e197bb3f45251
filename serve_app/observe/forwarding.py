"""What is told of a forward that failed, and of the forwards of an export."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from rs_embed_core.errors import RSEmbedError
from serve_app.observe import metrics
from serve_app.observe.outcomes import outcome_of, outcomes_of

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


def count_rows(errors: Iterable[RSEmbedError | None], *, model: str, busy_s: float, ground: float) -> None:
    """Count what an export computed, by the metrics of the service.

    Args:
        errors: one for each row, None where there is none.
        busy_s: device time that it took.
        ground: under the rows that are good, in square kilometres.
    """
    for (outcome, fault), number in outcomes_of(errors).items():
        metrics.STREAM_ROWS.add(number, model, outcome, fault)
    metrics.FORWARD_BUSY_SECONDS.add(busy_s, model)
    metrics.STREAM_KM2.add(ground, model)
