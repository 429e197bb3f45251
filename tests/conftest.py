"""The folder of a test sets its marker."""

from __future__ import annotations

from pathlib import Path

import pytest

_FOLDERS = {"unit", "parity", "contracts", "http", "serve", "web", "live"}
_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        folder = item.path.relative_to(_HERE).parts[0]
        if folder in _FOLDERS:
            item.add_marker(folder)
