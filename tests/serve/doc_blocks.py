"""The blocks of code in a Markdown page, and what each of them must do."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "docs/index.md", *sorted(f"docs/guide/{p.name}" for p in (PROJECT / "docs/guide").glob("*.md")))
KINDS = {"bash", "python", "json", "yaml", "text"}
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NOT_RUN = re.compile(r"<!-- not run: \w[^>]* -->\s*$")
_OUTPUT = re.compile(r"<!-- output -->\s*$")
_SHOWN = re.compile(r"^\s*print\(.*\)  # (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        line: of its first line of code.
        runs: False where the page says why not (``<!-- not run: ... -->``); then only its syntax is checked.
        output: what it must print, from comments behind ``print()`` or a block marked ``<!-- output -->``.
    """

    page: str
    line: int
    kind: str
    code: str
    runs: bool = True
    output: str | None = None

    @property
    def name(self) -> str:
        """For the test's id."""
        return f"{self.page}:{self.line}"


def blocks_of(page: str) -> list[Block]:
    """The blocks of a page, in order; an output belongs to the block before it."""
    text = (PROJECT / page).read_text("utf-8")
    blocks: list[Block] = []
    for fence in _FENCE.finditer(text):
        before, kind, code = text[: fence.start()], fence[1], fence[2]
        line = before.count("\n") + 2
        if _OUTPUT.search(before):
            asked = blocks.pop()
            blocks.append(Block(asked.page, asked.line, asked.kind, asked.code, asked.runs, code))
            continue
        shown = _SHOWN.findall(code) if kind == "python" else []
        output = "\n".join(shown) + "\n" if shown else None
        blocks.append(Block(page, line, kind, code, not _NOT_RUN.search(before), output))
    return blocks


def unread(page: str) -> int:
    """Fences of a page that ``blocks_of`` does not see: none."""
    text = (PROJECT / page).read_text("utf-8")
    return text.count("```") - 2 * len(_FENCE.findall(text))
