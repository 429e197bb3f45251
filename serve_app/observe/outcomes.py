"""How an ROI came out, as metrics say it: ``ok`` or its error's code, and at whose door that lies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal

from rs_embed_core.errors import RSEmbedError
from serve_app.wire.problems import status_of

type Outcome = tuple[str, Literal["nobody", "caller", "service"]]


def outcome_of(error: RSEmbedError | None) -> Outcome:
    """The code and whose fault it is: the caller's where the status would be 4xx (no imagery is one of those)."""
    if error is None:
        return "ok", "nobody"
    return error.code, "caller" if status_of(error) < 500 else "service"


def outcomes_of(errors: Iterable[RSEmbedError | None]) -> Mapping[Outcome, int]:
    """How many came out how."""
    return Counter(map(outcome_of, errors))
