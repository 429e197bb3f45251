"""``rs-embed``: the command line. The only module that prints; commands yield the lines it prints."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from rs_embed_core.errors import RSEmbedError
from rs_embed_core.release import package_version
from serve_app.commands import dev, doctor, embed, export, k8s, models, quicklook, serve, weights
from serve_app.commands.command import Failed, Lines

_BAD = 2


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(_BAD, f"error: {message}. {self.prog} --help shows what is possible.\n")


def build_parser() -> argparse.ArgumentParser:
    """The whole command line (the documentation of the commands is made from it)."""
    parser = _Parser(
        prog="rs-embed",
        description="Earth embeddings: many models, one interface.",
        epilog="rs-embed COMMAND --help explains a command.",
    )
    parser.add_argument("--version", action="version", version=f"rs-embed {package_version()}")
    parser.add_argument("--traceback", action="store_true", help="show where an error comes from")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (serve, models, embed, export, quicklook, weights, doctor, k8s, dev):
        command.add(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code: 0, 1 (or another) where a command says that something failed, 2 for an error."""
    args = build_parser().parse_args(argv)
    try:
        _say(args.run(args), to_the_end=args.to_the_end)
    except Failed as failed:
        return failed.code
    except KeyboardInterrupt:
        return 130  # as a shell says it
    except BrokenPipeError:  # the reader (head, less) has seen enough
        sys.stderr.close()
        return 0
    except Exception as error:
        if args.traceback:
            raise
        print(f"error: {_one_line(error)}", file=sys.stderr)
        return _BAD
    return 0


def _say(lines: Lines, *, to_the_end: bool) -> None:
    """Print the lines as they come.

    Args:
        to_the_end: the command's work goes on when nobody reads its lines any more.

    Raises:
        BrokenPipeError: nobody reads them any more.
    """
    for line in lines:
        try:
            print(line, flush=True)
        except BrokenPipeError:
            if not to_the_end:
                raise
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _one_line(error: Exception) -> str:
    known = isinstance(error, RSEmbedError | OSError | ValueError)  # ValueError: the settings' own
    text = str(error) if known else f"{type(error).__name__}: {error} (--traceback shows where)"
    return " ".join(text.split())


if __name__ == "__main__":
    sys.exit(main())
