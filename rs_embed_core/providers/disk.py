"""Stage fetch: ``DiskShelf``, chips as safetensors files in one directory, the least recently used leave first."""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import json
import logging
import os
import threading
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from rs_embed_core.chip import Acquisition, Chip, Period
from rs_embed_core.geo import Grid

if TYPE_CHECKING:
    from numpy.typing import NDArray

_log = logging.getLogger(__name__)
_SUFFIX = ".safetensors"
_OURS = (f"*/*{_SUFFIX}*", "*/.tmp*")  # the latter are safetensors' own, of a process that was killed while it wrote
_KEPT_SHARE = 0.9  # of the limit is left after files were removed, so that not every write removes one


class DiskShelf:
    """A shelf that outlives the process; several processes of one machine may share its directory.

    A file that does not match its own checksum is removed and counts as missing. A disk that is full, read-only or
    not there costs the cache, never the read.

    Args:
        root: made where it does not exist.
        nbytes: of all files; looked at whenever a twentieth of it has been written.
    """

    def __init__(self, root: Path, nbytes: float) -> None:
        self._root = root
        self._room = nbytes
        self._lock = threading.Lock()
        self._seen = 0.0
        self._failures = 0
        self._written = nbytes  # so that the first write looks at what earlier processes left
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            _log.warning("there is no cache on disk", extra={"path": str(root), "error": str(error)})

    @property
    def nbytes(self) -> float:
        """See ``Shelf.nbytes``: what the last look found, those of other processes included, and written since."""
        with self._lock:
            return self._seen

    @property
    def failures(self) -> int:
        """See ``Shelf.failures``."""
        return self._failures

    def get(self, key: str) -> Chip | None:
        """See ``Shelf.get``."""
        path = self._path(key)
        try:
            chip = _load(path)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return None
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            _log.warning("a cached chip is damaged and was removed", extra={"path": str(path), "error": str(error)})
            _remove(path)
            return None
        with contextlib.suppress(OSError):  # on a disk that has become read-only what is there is still good
            os.utime(path)
        return chip

    def put(self, key: str, chip: Chip) -> None:
        """See ``Shelf.put``."""
        path = self._path(key)
        part = path.with_name(f"{path.name}.{uuid4().hex}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _save(part, chip)
            size = part.stat().st_size
            part.replace(path)
        except (OSError, SafetensorError) as error:  # the latter is what a full disk is called while it writes
            _log.warning("a chip could not be cached on disk", extra={"path": str(path), "error": str(error)})
            _remove(part)
            with self._lock:
                self._failures += 1
            return
        self._make_room(size)

    def _path(self, key: str) -> Path:
        return self._root / key[-2:] / f"{key}{_SUFFIX}"

    def _make_room(self, size: int) -> None:
        with self._lock:
            self._written += size
            self._seen += size
            if self._written < self._room / 20:
                return
            self._written = 0
            files = sorted(_files(self._root))
            total = sum(nbytes for _, nbytes, _ in files)
            goal = self._room if total <= self._room else _KEPT_SHARE * self._room
            for _, nbytes, path in files:
                if total <= goal:
                    break
                _remove(path)
                total -= nbytes
            self._seen = total


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def _files(root: Path) -> list[tuple[float, int, Path]]:
    """When it was last used, size and path of every file; one that another process removes meanwhile is left out."""
    found = []
    for path in itertools.chain.from_iterable(map(root.glob, _OURS)):
        try:
            stat = path.stat()
        except OSError:
            continue
        found.append((stat.st_mtime, stat.st_size, path))
    return found


def _save(path: Path, chip: Chip) -> None:
    arrays = {"data": np.ascontiguousarray(chip.data)}
    if chip.valid is not None:
        arrays["valid"] = np.ascontiguousarray(chip.valid)
    about = {
        "grid": asdict(chip.grid),
        "bands": chip.bands,
        "frames": [frame.to_dict() for frame in chip.frames],
        "provider": chip.provider,
        "collection": chip.collection,
        "empty_frames": chip.empty_frames,
        "acquisitions": [asdict(acquisition) for acquisition in chip.acquisitions],
        "facts": chip.facts,
    }
    save_file(arrays, path, {"chip": json.dumps(about), "crc32": _checksum(arrays)})


def _load(path: Path) -> Chip:
    with safe_open(path, framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        said = file.metadata()
    if said["crc32"] != _checksum(arrays):
        raise ValueError("the checksum differs")
    about = json.loads(said["chip"])
    grid = about["grid"]
    return Chip(
        data=arrays["data"],
        grid=Grid(grid["crs"], tuple(grid["transform"]), grid["height"], grid["width"]),
        bands=tuple(about["bands"]),
        frames=tuple(
            Period(*(dt.date.fromisoformat(frame[key]) for key in ("start", "end"))) for frame in about["frames"]
        ),
        provider=about["provider"],
        collection=about["collection"],
        valid=arrays.get("valid"),
        empty_frames=tuple(about["empty_frames"]),
        acquisitions=tuple(Acquisition(**entry) for entry in about["acquisitions"]),
        facts=tuple((name, value) for name, value in about["facts"]),
    )


def _checksum(arrays: Mapping[str, NDArray[np.generic]]) -> str:
    """CRC-32 over all arrays: it finds damage, at a tenth of the cost of a cryptographic hash."""
    crc = 0
    for name in sorted(arrays):
        crc = zlib.crc32(arrays[name].data.cast("B"), crc)
    return f"{crc:08x}"
