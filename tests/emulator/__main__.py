"""``python -m tests.emulator``: serve one catalogue; the first line printed is the address."""

from __future__ import annotations

import argparse
import sys

from tests.emulator.faults import Conduct
from tests.emulator.scenes import Catalogue
from tests.emulator.server import Server


def _catalogue(name: str) -> Catalogue:
    if name == "small":
        from tests.emulator.small import small  # noqa: PLC0415 - made when asked for

        return small()
    from tests.emulator.world import World  # noqa: PLC0415

    return World()


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(prog="python -m tests.emulator", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--catalogue", choices=("world", "small"), default="world")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="time that each computation takes at least")
    parser.add_argument("--at-once", type=int, help="computations at once, 429 above; no limit where left out")
    asked = parser.parse_args()
    conduct = Conduct(latency_ms=asked.latency_ms, at_once=asked.at_once)
    with Server(_catalogue(asked.catalogue), asked.port, conduct) as server:
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        server.serve_forever()


if __name__ == "__main__":
    main()
