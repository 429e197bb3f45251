"""How an ROI came out, as metrics say it: ``ok`` or its error's code, and at whose door that lies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal

from rs_embed_core.errors import DeadlineExceeded, RSEmbedError
from serve_app.wire.problems import status_of

type Fault = Literal["nobody", "caller", "service"]
type Outcome = tuple[str, Fault]

# Said with a 5xx status, because a provider found it out; but another request would have been answered.
CALLERS: frozenset[str] = frozenset(
    {"unknown_collection", "unsupported_collection", "unknown_band", "unsupported_grid", "computation_too_large"}
)


def outcome_of(error: RSEmbedError | None) -> Outcome:
    """The code and whose fault it is: the caller's where the status would be 4xx (no imagery is one of those)."""
    if error is None:
        return "ok", "nobody"
    theirs = status_of(error) < 500 or error.code in CALLERS or _too_impatient(error)
    return error.code, "caller" if theirs else "service"


def _too_impatient(error: RSEmbedError) -> bool:
    """Whether a deadline passed that the caller had set, below the service's own."""
    return isinstance(error, DeadlineExceeded) and "timeout_s" in error.context


def outcomes_of(errors: Iterable[RSEmbedError | None]) -> Mapping[Outcome, int]:
    """How many came out how."""
    return Counter(map(outcome_of, errors))
