from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Backoff without the time."""
    monkeypatch.setattr("serve_app.client.calls._FIRST_WAIT_S", 0.0)
