"""Every test that asks for it starts with an emulator that has seen nothing and does everything right."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.emulator.control import Emulator
from tests.unit.gee.emulated import provider, small_emulator


@pytest.fixture
def service() -> Iterator[Emulator]:
    provider().check()  # initialised before anything is counted
    running = small_emulator()
    running.reset()
    yield running
    running.reset()
