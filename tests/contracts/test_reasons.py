"""What silences a checker says why, on its line."""

from __future__ import annotations

import io
import re
import tokenize
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
FILES = sorted(path for package in ("rs_embed_core", "serve_app") for path in (PROJECT / package).rglob("*.py"))
_SILENCES = re.compile(r"#\s*(noqa|type:\s*ignore|mypy:|pragma|fmt:)")
_WITH_A_REASON = re.compile(
    r"# noqa: [A-Z]+\d+(, [A-Z]+\d+)* - \w.*"
    r"|# type: ignore\[[a-z-]+(, [a-z-]+)*\]  # \w.*"
    r"|# fmt: skip"  # the formatter's affair: nothing is hidden by it
)


def unexplained(program: str) -> list[tuple[int, str]]:
    """Line and text of the comments that silence a checker and do not say why."""
    tokens = tokenize.generate_tokens(io.StringIO(program).readline)
    comments = [token for token in tokens if token.type == tokenize.COMMENT and _SILENCES.search(token.string)]
    return [(token.start[0], token.string) for token in comments if not _WITH_A_REASON.fullmatch(token.string)]


def test_every_exception_has_its_reason() -> None:
    found = {str(path.relative_to(PROJECT)): unexplained(path.read_text("utf-8")) for path in FILES}
    assert len(found) > 200
    assert {path: comments for path, comments in found.items() if comments} == {}


@pytest.mark.parametrize(
    ("comment", "explained"),
    [
        ("# noqa: S301 - our own bytes", True),
        ("# noqa: F401, PLC0415 - registers the accessor", True),
        ("# type: ignore[misc]  # mypy infers none", True),
        ("# fmt: skip", True),
        ("# a comment that silences nothing", True),
        ("# noqa", False),
        ("# noqa: S301", False),
        ("# noqa: S301 - ", False),
        ("# type: ignore", False),
        ("# type: ignore[misc]", False),
        ("# shape  # type: ignore[misc]", False),
        ("# fmt: off", False),
        ("# pragma: no cover", False),
    ],
)
def test_a_comment_without_a_reason_is_found(comment: str, explained: bool) -> None:
    assert unexplained(f"x = 'text # noqa'  {comment}\n") == ([] if explained else [(1, comment)])
