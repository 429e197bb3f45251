from __future__ import annotations

from pathlib import Path

import pytest

from serve_app.export.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.at(str(tmp_path / "out"))
