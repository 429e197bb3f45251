"""A window that moves with the day of the run, and the folder that is named after it; pure, but for ``today``."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

from rs_embed_core.errors import InvalidRequest
from rs_embed_core.specs.temporal import temporal_from_dict

_MOVING = "last_months"
_START, _END = "{start}", "{end}"


def dated(given: Mapping[str, object]) -> dict[str, object]:
    """The keys of a job with the window that they mean on its day, and the folder of that window.

    Raises:
        InvalidRequest: a window that cannot be told, or whose folder would be that of the next one too.
    """
    out, temporal = given.get("out"), given.get("temporal")
    named = isinstance(out, str) and (_START in out or _END in out)
    if isinstance(temporal, Mapping) and _MOVING in temporal:
        if not named:
            msg = f"out is {out!r}, the same for every window."
            hint = f"With temporal: {{{_MOVING}: N}} name it after the window, as in embeddings/start={_START}."
            raise InvalidRequest(msg, hint=hint)
        temporal = _last_months(temporal, _day(given.get("as_of")))
    if not named:
        return dict(given)
    if not isinstance(temporal, Mapping):
        raise InvalidRequest(f"out is {out!r}, and the job has no temporal.", hint="Say which window it is of.")
    texts = {key: str(value) if isinstance(value, dt.date) else value for key, value in temporal.items()}
    start, end = temporal_from_dict(texts).window
    folder = str(out).replace(_START, start.isoformat()).replace(_END, end.isoformat())
    return {**given, "out": folder, "temporal": texts}


def today() -> dt.date:
    """The day of now, UTC."""
    return dt.datetime.now(dt.UTC).date()


def _day(value: object) -> dt.date:
    try:
        return today() if value is None else dt.date.fromisoformat(str(value))
    except ValueError as error:
        raise InvalidRequest(f"as_of is {value!r}: {error}.", hint="It is a date such as 2026-11-06.") from error


def _last_months(temporal: Mapping[str, object], day: dt.date) -> dict[str, object]:
    """The whole calendar months that are over on a day."""
    count = temporal[_MOVING]
    if len(temporal) > 1 or isinstance(count, bool) or not isinstance(count, int) or not 0 < count < 12 * day.year:
        msg = f"temporal is {dict(temporal)}."
        raise InvalidRequest(msg, hint=f"{{{_MOVING}: N}} stands alone; N is a whole number from 1.")
    end = day.year * 12 + day.month - 1
    return {"start": _first(end - count), "end": _first(end)}


def _first(month: int) -> str:
    """The first day of a month, which is counted from the year 0."""
    return dt.date(month // 12, month % 12 + 1, 1).isoformat()
