"""Stage stream: which media type a reply gets, from the Accept header (RFC 9110, 12.5.1)."""

from __future__ import annotations

from rs_embed_core.errors import UnsupportedMedia
from serve_app.wire.codecs import MEDIA_TYPES


def negotiate(accept: str | None) -> str:
    """The media type that the caller likes best: the highest q, then the more exactly named, then the first.

    ``*/*``, and no header at all, mean JSON: that is what browsers and curl send.

    Raises:
        UnsupportedMedia: none of ours is acceptable.
    """
    ranges = [_range(part) for part in (accept or "*/*").lower().split(",") if part.strip()] or [("*/*", 1.0)]
    choices = []
    for preference, media_type in enumerate(MEDIA_TYPES):
        # The most exact range that covers a type decides its q: `*/*, application/json;q=0` refuses JSON.
        matches = [
            (_exactness(name, media_type), -place, q)
            for place, (name, q) in enumerate(ranges)
            if _exactness(name, media_type)
        ]
        if matches:
            exactness, place, q = max(matches)
            choices.append((q, exactness, place, -preference, media_type))
    best = max(choices, default=None)
    if best is None or best[0] <= 0:
        msg = f"Accept is {accept!r}."
        raise UnsupportedMedia(msg, hint=f"Accept one of {', '.join(MEDIA_TYPES)}.", code="not_acceptable")
    return best[-1]


def _range(part: str) -> tuple[str, float]:
    name, *parameters = (piece.strip() for piece in part.split(";"))
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            return name, _quality(value)
    return name, 1.0


def _quality(value: str) -> float:
    try:
        q = float(value)
    except ValueError:
        return 0.0
    return q if 0 <= q <= 1 else 0.0  # also for nan


def _exactness(name: str, media_type: str) -> int:
    """3 for the type itself, 2 for its ``application/*``, 1 for ``*/*``, 0 for others."""
    return {media_type: 3, f"{media_type.partition('/')[0]}/*": 2, "*/*": 1}.get(name, 0)
