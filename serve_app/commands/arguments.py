"""Arguments that several commands take."""

from __future__ import annotations


def model_and_variant(text: str) -> tuple[str, str | None]:
    """``ID`` or ``ID/VARIANT``."""
    model, _, variant = text.partition("/")
    return model, variant or None
