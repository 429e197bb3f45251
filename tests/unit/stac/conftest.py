from __future__ import annotations

from pathlib import Path

import pytest

from rs_embed_core.providers.stac import StacProvider, StacSettings
from tests.unit.stac.written import write


@pytest.fixture(scope="session")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("stac"))


@pytest.fixture(scope="session")
def provider(catalogue: Path) -> StacProvider:
    return StacProvider(StacSettings(preset="planetary-computer", path=str(catalogue)))
