"""The folder of a test sets its marker; Hypothesis draws the same examples every time."""

from __future__ import annotations

from pathlib import Path

import hypothesis
import pytest

_FOLDERS = {"unit", "parity", "contracts", "http", "serve", "k8s", "web", "live"}
_HERE = Path(__file__).parent

# No deadline: the machines are shared, and no test asserts a time.
hypothesis.settings.register_profile("repeatable", derandomize=True, max_examples=60, deadline=None, database=None)
hypothesis.settings.load_profile("repeatable")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        folder = item.path.relative_to(_HERE).parts[0]
        if folder in _FOLDERS:
            item.add_marker(folder)
