"""Where ``promtool`` is: on the path, where PROMTOOL says, or in the Debian package that a helper unpacked."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

_UNPACKED = Path(tempfile.gettempdir()) / "rs-embed-promtool"


def promtool() -> Path | None:
    """The program, or None where it is not."""
    named = os.environ.get("PROMTOOL")
    if named:
        return Path(named)
    found = shutil.which("promtool")
    if found is not None:
        return Path(found)
    unpacked = _UNPACKED / "usr" / "bin" / "promtool"
    return unpacked if unpacked.is_file() else None


def fetch() -> Path | None:
    """The program, unpacked from Debian's package ``prometheus``; nothing is installed. None where that cannot be."""
    if (there := promtool()) is not None:
        return there
    if shutil.which("apt-get") is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        got = subprocess.run(["apt-get", "download", "prometheus"], cwd=folder, check=False, capture_output=True)
        packages = list(Path(folder).glob("prometheus_*.deb"))
        if got.returncode != 0 or not packages:
            return None
        subprocess.run(["dpkg", "-x", packages[0], _UNPACKED], check=True)
    return promtool()


if __name__ == "__main__":
    print(fetch() or "promtool is not to be had")  # noqa: T201 - a program
