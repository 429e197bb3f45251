"""``rs-embed dev``: for those who work on the service, from a source tree."""

from __future__ import annotations

import argparse
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
    """Yield how to use the emulator, and run it until interrupted.

    Raises:
        Unsupported: this is an installed package, not a source tree.
        Failed: the emulator did not start or ended by itself.
    """
    if not (_TREE / "tests" / "emulator" / "__main__.py").is_file():
        raise Unsupported("the emulator is not here.", hint="It is in the source tree, not in the package.")
    url = f"http://127.0.0.1:{args.port}"
    yield f"an Earth Engine of made-up scenes at {url}; stop with Ctrl-C"
    yield "a service that reads from it:"
    yield f"  RS_EMBED_PROVIDERS__GEE__URL={url} RS_EMBED_PROVIDERS__GEE__CREDENTIALS=anonymous \\"
    yield "    rs-embed serve --provider gee --project emulated"
    command = [sys.executable, "-m", "tests.emulator", "--port", str(args.port), "--latency-ms", str(args.latency_ms)]
    command += [] if args.at_once is None else ["--at-once", str(args.at_once)]
    done = subprocess.run(command, cwd=_TREE, stdout=subprocess.DEVNULL, check=False)  # noqa: S603 - our own program
    if done.returncode:
        raise Failed
