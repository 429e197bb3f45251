"""What a command is. Nothing here or at the top of a command's module loads NumPy, torch or Ray."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

type Lines = Iterator[str]
type Run = Callable[[argparse.Namespace], Lines]

DEFAULT_URL = "http://127.0.0.1:8000"


class Subcommands(Protocol):
    """What ``ArgumentParser.add_subparsers`` returns, as far as commands use it."""

    def add_parser(  # noqa: D102 - argparse's
        self,
        name: str,
        *,
        help: str,  # noqa: A002 - argparse's name
        description: str,
        epilog: str,
        formatter_class: type[argparse.HelpFormatter],
    ) -> argparse.ArgumentParser: ...


class Failed(Exception):
    """The command said all it had to say, and it was not good.

    Args:
        code: the exit code.
    """

    def __init__(self, code: int = 1) -> None:
        super().__init__(f"exit code {code}")
        self.code = code


def add_command(
    commands: Subcommands, name: str, run: Run, *, summary: str, examples: Sequence[str]
) -> argparse.ArgumentParser:
    """The parser of a new command; its help ends with the examples."""
    parser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog="\n".join(["examples:", *(f"  {example}" for example in examples)]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run, to_the_end=False)
    return parser


def add_json(parser: argparse.ArgumentParser) -> None:
    """The flag for output that programs read."""
    parser.add_argument("--json", action="store_true", help="print JSON for programs")


def dumps(value: object) -> str:
    """JSON for ``--json``; null where a number is none."""
    from pydantic_core import to_json

    return to_json(value, indent=2, inf_nan_mode="null").decode()


def table(rows: Sequence[Sequence[str]]) -> Lines:
    """Yield rows of text as aligned columns; the first row is the heading."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
