"""The tiles that are not there yet, and the registry behind them, with a store in another folder."""

from __future__ import annotations

import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from geotessera.registry import HTTPStatusError, UnwritableDestination
from urllib3.exceptions import ProtocolError

from rs_embed_core.errors import ProviderError, ProviderTimeout
from rs_embed_core.providers.calls import Terms, under
from rs_embed_core.providers.tessera import TesseraSettings
from rs_embed_core.providers.tessera.library import Library
from rs_embed_core.providers.tessera.tiles import TileKey
from tests.parity.golden import golden_dir

SAMPLE = golden_dir("tessera") / "sample"
KEY = TileKey(2024, 0.15, 52.05)


@dataclass
class Store:
    """A registry whose store is the sample's folder; ``wait`` holds its downloads up, ``error`` ends them."""

    folder: Path
    error: Exception | None = None
    wait: threading.Event | None = None
    started: threading.Event = field(default_factory=threading.Event)
    downloads: list[str] = field(default_factory=list)
    opened: int = 0
    version: str = "v1.1"
    variant: str = "cambridge"

    def open(self, settings: TesseraSettings) -> Store:
        time.sleep(0.01)  # so that threads meet
        self.opened += 1
        return self

    def load_blocks_for_region(self, bounds, year):
        return [(year, KEY.lon, KEY.lat)]

    def fetch(self, *, year: int, lon: float, lat: float, is_scales: bool) -> str:
        key = TileKey(year, lon, lat)
        return self._download(key.scales if is_scales else key.quantized)

    def fetch_landmask(self, *, lon: float, lat: float) -> str:
        return self._download(TileKey(0, lon, lat).mask)

    def validate_embeddings_dir(self) -> None:
        return None

    def _download(self, name: Path) -> str:
        self.started.set()
        if self.wait is not None:
            assert self.wait.wait(30)
        if self.error is not None:
            raise self.error
        self.downloads.append(name.name)
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        time.sleep(0.01)  # so that threads meet a file that is not whole yet
        return str(shutil.copy(SAMPLE / name, path))


def library(store: Store, **settings: bool) -> Library:
    return Library(TesseraSettings(store.folder, **settings), store.open)


def test_what_is_not_there_is_downloaded_once(tmp_path):
    store = Store(tmp_path)
    tiles = library(store)
    for _ in range(2):
        assert tiles.frame(KEY).crs == "EPSG:32631"
        assert (tiles.tile(KEY).shape, tiles.tile(KEY).dim) == ((58, 38), 128)
    assert store.downloads == ["grid_0.15_52.05.tiff", "grid_0.15_52.05.npy", "grid_0.15_52.05_scales.npy"]


def test_threads_share_the_registry_and_a_download(tmp_path):
    store = Store(tmp_path)
    tiles = library(store)
    with ThreadPoolExecutor(8) as threads:
        shapes = set(threads.map(lambda _: tiles.tile(KEY).shape, range(16)))
    assert shapes == {(58, 38)}
    assert sorted(store.downloads) == ["grid_0.15_52.05.npy", "grid_0.15_52.05_scales.npy"]
    assert store.opened == 1


def test_the_registry_is_tried_again_after_a_failure(tmp_path):
    store, failures = Store(tmp_path), [ProviderError("no way", code="registry_unreadable")]

    def opens(settings: TesseraSettings) -> Store:
        if failures:
            raise failures.pop()
        return store.open(settings)

    tiles = Library(TesseraSettings(tmp_path), opens)
    with pytest.raises(ProviderError, match="no way"):
        tiles.search((0.1, 52.0, 0.2, 52.1), 2024)
    assert tiles.search((0.1, 52.0, 0.2, 52.1), 2024) == [KEY]
    assert tiles.dataset == "v1.1-cambridge"


@pytest.mark.parametrize(
    ("error", "retryable"),
    [
        (HTTPStatusError("https://store/tile.npy", 404, "Not Found"), False),
        (UnwritableDestination(13, "Permission denied"), False),
        (OSError("the connection was reset"), True),
        (ProtocolError("the connection was cut"), True),
    ],
)
def test_a_download_that_fails(tmp_path, error, retryable):
    with pytest.raises(ProviderError) as caught:
        library(Store(tmp_path, error)).tile(KEY)
    assert caught.value.code == "download_failed"
    assert str(error) in caught.value.message
    assert caught.value.retryable is retryable


def test_a_mistake_in_a_program_is_no_failed_download(tmp_path):
    with pytest.raises(AttributeError, match="no such method"):
        library(Store(tmp_path, AttributeError("no such method"))).tile(KEY)


def test_offline_nothing_is_downloaded(tmp_path):
    store = Store(tmp_path)
    with pytest.raises(ProviderError) as caught:
        library(store, offline=True).frame(KEY)
    assert caught.value.code == "tile_missing"
    assert not store.downloads


def test_nobody_waits_past_the_deadline_for_the_download_of_another(tmp_path):
    store = Store(tmp_path, wait=threading.Event())
    tiles = library(store)
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(tiles.frame, KEY)
        assert store.started.wait(30)
        with under(Terms(deadline=time.monotonic() + 0.05)), pytest.raises(ProviderTimeout):
            tiles.frame(KEY)
        store.wait.set()
        assert first.result().crs == "EPSG:32631"


def test_without_a_root_each_data_set_has_its_folder_in_the_cache(tmp_path):
    assert TesseraSettings(cache_dir=tmp_path).folder == tmp_path / "v1.1"
    assert TesseraSettings(cache_dir=tmp_path, dataset_variant="x").folder == tmp_path / "v1.1-x"
    assert TesseraSettings(tmp_path / "root", cache_dir=tmp_path).folder == tmp_path / "root"
    assert "~" not in str(TesseraSettings().folder)
