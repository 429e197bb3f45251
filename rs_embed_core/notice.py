"""``Notice``: a caveat about a result, in its meta rather than as a Python warning."""

from __future__ import annotations

from dataclasses import dataclass

from rs_embed_core.errors import JSONValue


@dataclass(frozen=True)
class Notice:
    """A caveat about a result: what the caller should know, and its stable name."""

    code: str
    text: str

    def to_dict(self) -> dict[str, JSONValue]:
        """The JSON form."""
        return {"code": self.code, "text": self.text}
