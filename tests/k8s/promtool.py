"""Where ``promtool`` is: on the path, where PROMTOOL says, or in the Debian package that a helper unpacked.

Without it rules and alerts go unchecked, so that is an error, unless K8S_WITHOUT_PROMTOOL=1 says that it is meant.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

MISSING = "there is no promtool: name it in PROMTOOL, or leave its checks out with K8S_WITHOUT_PROMTOOL=1"
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


def is_left_out() -> bool:
    """Whether the checks that need it may be passed over."""
    return os.environ.get("K8S_WITHOUT_PROMTOOL") == "1"


def fetch() -> Path | None:
    """The program, unpacked from Debian's package ``prometheus``; nothing is installed. None where that cannot be."""
    if (there := promtool()) is not None:
        return there
    if shutil.which("apt-get") is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        download = ["apt-get", "-o", "Acquire::Retries=3", "download", "prometheus"]
        got = subprocess.run(download, cwd=folder, check=False, capture_output=True)
        packages = list(Path(folder).glob("prometheus_*.deb"))
        if got.returncode != 0 or not packages:
            return None
        subprocess.run(["dpkg", "-x", packages[0], f"{folder}/whole"], check=True)
        with contextlib.suppress(OSError):  # another run was faster, and its folder is not empty
            Path(folder, "whole").rename(_UNPACKED)
    return promtool()


if __name__ == "__main__":
    found = fetch()
    if found is None and not is_left_out():
        sys.exit(MISSING)
    print(found or "without promtool")  # noqa: T201 - a program
