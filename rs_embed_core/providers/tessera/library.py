"""Stage fetch: the package geotessera: which tessera tiles there are, and their files, downloaded if need be."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rs_embed_core.errors import ProviderError
from rs_embed_core.providers.calls import Asking, Tally, Verdict, terms, too_late
from rs_embed_core.providers.gate import Gate, Quota
from rs_embed_core.providers.tessera.tiles import Tile, TileFrame, TileKey

_QUOTA = Quota(at_once=8, per_second=20.0)  # a tile has some 100 MB: a handful at once fill any line
_PARQUETS = ("manifest.parquet", "landmasks.parquet")


@dataclass(frozen=True)
class TesseraSettings:
    """Which data set, and where its tiles are.

    Attributes:
        root: a folder in geotessera's layout, with ``manifest.parquet`` and ``landmasks.parquet``; what it lacks is
            downloaded into it. None is a folder per data set in ``cache_dir``.
        dataset_version: embeddings of different data sets are not comparable; geotessera 0.11 has tiles of v1 and v1.1.
        dataset_variant: None is the version's own default (v1.1: cambridge).
        cache_dir: where tiles go without a ``root``.
        offline: never download; both parquet files must be in the folder.
    """

    root: Path | None = None
    dataset_version: str = "v1.1"
    dataset_variant: str | None = None
    cache_dir: Path = Path("~/.cache/rs-embed/tessera")
    offline: bool = False

    @property
    def folder(self) -> Path:
        """Where the tiles are, or get to."""
        if self.root is not None:
            return self.root.expanduser()
        names = (self.dataset_version, self.dataset_variant)
        return self.cache_dir.expanduser() / "-".join(name for name in names if name)


class Registry(Protocol):
    """What is used of ``geotessera.registry.Registry``, which has no types of its own."""

    version: str
    variant: str

    def load_blocks_for_region(
        self, bounds: tuple[float, float, float, float], year: int
    ) -> list[tuple[int, float, float]]:
        """Year and centre of the tiles in a region, in the order of the manifest."""

    def fetch(self, *, year: int, lon: float, lat: float, is_scales: bool) -> str:
        """The path of a tile's values or scales, downloaded."""

    def fetch_landmask(self, *, lon: float, lat: float) -> str:
        """The path of a tile's land mask, downloaded."""

    def validate_embeddings_dir(self) -> None:
        """Raise ValueError if the folder's tiles are of another data set."""


class Library:
    """The registry of one data set and the files of its tiles. Thread-safe.

    Args:
        settings: where they are.
        opens: what reads the registry, on first use.
    """

    def __init__(self, settings: TesseraSettings, opens: Callable[[TesseraSettings], Registry] | None = None) -> None:
        self._settings = settings
        self._opens = opens or open_registry
        self._gate = Gate(_QUOTA, name="the store of tessera tiles")
        self._opening = threading.Lock()
        self._downloading: dict[Path, threading.Lock] = {}
        self._registry: Registry | None = None

    @property
    def dataset(self) -> str:
        """Version and variant, such as ``v1.1-cambridge``."""
        registry = self._opened()
        return f"{registry.version}-{registry.variant}"

    def search(self, bounds: tuple[float, float, float, float], year: int) -> list[TileKey]:
        """The tiles that may cover a region (west, south, east, north), in the order of the registry.

        Raises:
            ProviderError: ``missing_extra`` or ``registry_unreadable``.
        """
        found = self._opened().load_blocks_for_region(bounds, year)
        return [TileKey(year, float(lon), float(lat)) for _, lon, lat in found]

    def frame(self, key: TileKey) -> TileFrame:
        """Where a tile lies.

        Raises:
            ProviderError: ``tile_missing``, ``download_failed`` or ``bad_tile``.
        """
        registry = self._opened()
        return TileFrame.read(self._file(key.mask, lambda: registry.fetch_landmask(lon=key.lon, lat=key.lat)))

    def tile(self, key: TileKey) -> Tile:
        """What a tile holds.

        Raises:
            ProviderError: ``tile_missing``, ``download_failed`` or ``bad_tile``.
        """
        registry = self._opened()

        def download(*, is_scales: bool) -> str:
            return registry.fetch(year=key.year, lon=key.lon, lat=key.lat, is_scales=is_scales)

        quantized = self._file(key.quantized, lambda: download(is_scales=False))
        scales = self._file(key.scales, lambda: download(is_scales=True))
        return Tile.read(key.name, quantized, scales)

    def _file(self, name: Path, download: Callable[[], str]) -> Path:
        """The path of a file that is there now; of threads that want it at once, one downloads it."""
        path = self._settings.folder / name
        if self._settings.offline and not path.is_file():
            hint = f"Put it there (geotessera download --output {self._settings.folder}), or allow downloads."
            raise ProviderError(f"{path} is not there.", code="tile_missing", hint=hint, retryable=False)
        with _in_turn(self._downloading.setdefault(path, threading.Lock()), f"downloading {name.name}"):
            if not path.is_file():  # looked at in turn: a file may be there while it is still being written
                # geotessera has no say in how long it takes: it retries on its own, and writes the file at once.
                Asking(_judged, self._gate, Tally()).ask(lambda _left_s: download())
        return path

    def _opened(self) -> Registry:
        if self._registry is None:
            with _in_turn(self._opening, "reading the registry of tessera tiles"):
                self._registry = self._registry or self._opens(self._settings)
        return self._registry


@contextmanager
def _in_turn(lock: threading.Lock, what: str) -> Iterator[None]:
    """Hold a lock, waiting no longer than the read's deadline."""
    if not lock.acquire(timeout=min(terms().left_s, threading.TIMEOUT_MAX)):
        raise too_late(what)
    try:
        yield
    finally:
        lock.release()


def open_registry(settings: TesseraSettings) -> Registry:
    """The registry as geotessera reads it.

    Raises:
        ProviderError: ``missing_extra`` or ``registry_unreadable``.
    """
    try:
        from geotessera import GeoTessera
    except ImportError as error:
        msg = f"the tessera provider needs the package geotessera ({error})."
        hint = "pip install rs-embed-serve[tessera]"
        raise ProviderError(msg, code="missing_extra", hint=hint, retryable=False) from error
    folder = settings.folder
    needed = _PARQUETS if settings.offline else ()
    missing = [name for name in needed if not (folder / name).is_file()]
    if missing or (settings.root is not None and not folder.is_dir()):
        raise _unreadable(settings, f"has no {' and no '.join(missing)}" if missing else "is no folder")
    try:
        registry: Registry = GeoTessera(
            dataset_version=settings.dataset_version,
            dataset_variant=settings.dataset_variant,
            cache_dir=folder,
            embeddings_dir=folder,
            registry_dir=folder,
        ).registry
        registry.validate_embeddings_dir()
    except (OSError, RuntimeError, ValueError) as error:
        raise _unreadable(settings, f"cannot be used: {error}") from error
    return registry


def _unreadable(settings: TesseraSettings, why: str) -> ProviderError:
    msg = f"the folder of tessera tiles {settings.folder} {why}."
    hint = f"It needs {' and '.join(_PARQUETS)} of data set {settings.dataset_version}, or access to the store."
    retryable = settings.root is None and not settings.offline
    return ProviderError(msg, code="registry_unreadable", hint=hint, retryable=retryable)


def _judged(error: Exception) -> Verdict:
    """What a failed download means.

    Raises:
        Exception: ``error`` itself where no download fails like this: a mistake in a program should show.
    """
    from geotessera.registry import HTTPStatusError, UnwritableDestination
    from urllib3.exceptions import HTTPError

    if not isinstance(error, OSError | HTTPError):
        raise error
    final = isinstance(error, HTTPStatusError | UnwritableDestination)
    msg = f"a tessera tile cannot be downloaded: {error}."
    hint = "Check the access to the store and the folder's permissions, or put the tile there."
    return Verdict(ProviderError(msg, code="download_failed", hint=hint, retryable=not final))
