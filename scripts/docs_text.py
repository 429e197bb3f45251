"""Markdown by hand: tables and code, for the pages that scripts/generate_docs.py writes."""

from __future__ import annotations

import re
from collections.abc import Sequence

type Table = Sequence[Sequence[str]]

BLANK = ("", "")  # the heading of a table of facts


def note(source: str) -> str:
    """The comment at the head of a generated page."""
    return f"<!-- Written by scripts/generate_docs.py (make docs) from {source}: do not edit. -->\n\n"


def table(rows: Table) -> str:
    """A Markdown table; the first row is the heading."""
    head, *body = [[_cell(text) for text in row] for row in rows]
    lines = [head, ["---"] * len(head), *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(text: str) -> str:
    """The text of a cell on one line; ``<`` stays only where it opens a link."""
    return re.sub(r"<(?=[a-z/])(?!https?:)", "&lt;", text.replace("|", "\\|").replace("\n", " "))


def code(text: object) -> str:
    """Text as code."""
    return f"`{text}`"


def codes(texts: Sequence[object]) -> str:
    """Texts as code, with commas."""
    return ", ".join(map(code, texts))
