"""``rs-embed dev``: for those who work on the service, from a source tree."""

from __future__ import annotations

import argparse
import signal
import socket
import subprocess
import sys
from pathlib import Path

from rs_embed_core.errors import Unsupported
from serve_app.commands.command import Failed, Lines, Subcommands, add_command

_EXAMPLES = ("rs-embed dev emulator", "rs-embed dev emulator --port 21000 --latency-ms 300 --at-once 8")
_TREE = Path(__file__).resolve().parents[2]


def add(commands: Subcommands) -> None:
    """Add ``dev``."""
    summary = "a stand-in for Earth Engine, for demos and load tests"
    parser = add_command(commands, "dev", dev, summary=summary, examples=_EXAMPLES)
    parser.add_argument("what", choices=["emulator"], help="what to start")
    parser.add_argument("--port", type=int, default=21000, help="port on the loopback interface (default: 21000)")
    parser.add_argument("--latency-ms", type=float, default=0, help="how long every answer takes (default: 0)")
    parser.add_argument("--at-once", type=int, help="requests at once before it answers 429 (default: any number)")


def dev(args: argparse.Namespace) -> Lines:
    """Yield how to use the emulator once it answers, and run it until interrupted.

    Raises:
        Unsupported: this is an installed package, not a source tree.
        OSError: the port is taken.
        Failed: the emulator did not start or ended by itself.
    """
    if not (_TREE / "tests" / "emulator" / "__main__.py").is_file():
        raise Unsupported("the emulator is not here.", hint="It is in the source tree, not in the package.")
    socket.create_server(("127.0.0.1", args.port)).close()  # its error is one line, the emulator's a traceback
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore it
    for number in (signal.SIGTERM, signal.SIGHUP):  # as Ctrl-C: what ends this process ends the emulator
        if signal.getsignal(number) is signal.SIG_DFL:  # not under nohup
            signal.signal(number, signal.default_int_handler)
    # In a session of its own: Ctrl-C is for this process, which ends it.
    with subprocess.Popen(  # noqa: S603 - our own program
        _command(args), cwd=_TREE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as emulator:
        try:
            if url := _first_line(emulator):
                yield from _usage(url)
            emulator.wait()
        finally:
            emulator.terminate()
    raise Failed


def _command(args: argparse.Namespace) -> list[str]:
    command = [sys.executable, "-m", "tests.emulator", "--port", str(args.port), "--latency-ms", str(args.latency_ms)]
    return command if args.at_once is None else [*command, "--at-once", str(args.at_once)]


def _first_line(process: subprocess.Popen[str]) -> str:
    """The address that the emulator says when it listens; empty where it ended before."""
    return process.stdout.readline().strip() if process.stdout is not None else ""


def _usage(url: str) -> Lines:
    yield f"an Earth Engine of made-up scenes at {url}; stop with Ctrl-C"
    yield "a service that reads from it:"
    yield f"  RS_EMBED_PROVIDERS__GEE__URL={url} RS_EMBED_PROVIDERS__GEE__CREDENTIALS=anonymous \\"
    yield "    rs-embed serve --provider gee --project emulated"
