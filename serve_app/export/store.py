"""Where an export lives: a folder of this machine, or of an object store (``gs://``, ``s3://``)."""

from __future__ import annotations

import json
import math
import os
import posixpath
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import pyarrow as pa
from pyarrow import fs

from rs_embed_core.errors import InvalidRequest, JSONValue

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}")  # as ``Store.write`` names them
_LEFT_S = 3600.0  # no file takes so long to be written


def located(place: str) -> tuple[fs.FileSystem, str]:
    """The file system of a path or URL, and the path in it.

    Raises:
        InvalidRequest: no such kind of URL, or the store cannot be set up.
    """
    if "://" not in place:
        return fs.LocalFileSystem(), str(Path(place).expanduser().absolute())
    try:
        return _of_url(place)
    except (pa.ArrowException, OSError, ValueError, ImportError) as error:
        msg = f"{place} cannot be opened: {error}"
        raise InvalidRequest(
            msg, hint="Give a path, or a URL such as gs://bucket/folder or s3://bucket/folder."
        ) from error


def _of_url(url: str) -> tuple[fs.FileSystem, str]:
    """Arrow's own file systems, or else fsspec's (``abfs://``, ``memory://``, ...)."""
    try:
        found: tuple[fs.FileSystem, str] = fs.FileSystem.from_uri(url)
    except pa.ArrowInvalid:
        found = fs.FileSystem.from_uri(f"fsspec+{url}")
    return found


@dataclass(frozen=True)
class Store:
    """A folder. Files appear in it whole or not at all."""

    filesystem: fs.FileSystem
    root: str
    _made: set[str] = field(default_factory=set, compare=False)  # folders: each is asked for once

    @classmethod
    def at(cls, place: str) -> Store:
        """The folder of a path or URL.

        Raises:
            InvalidRequest: as ``located``.
        """
        return cls(*located(place))

    def check_writable(self) -> None:
        """Refuse a folder of this machine that cannot be written to; what a bucket allows shows when it is written to.

        Raises:
            InvalidRequest: it says what is in the way.
        """
        if not isinstance(self.filesystem, fs.LocalFileSystem):
            return
        there = next(path for path in (Path(self.root), *Path(self.root).parents) if path.exists())
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            msg = f"--out {self.root} cannot be written: {there} is no folder that this account may write to."
            raise InvalidRequest(msg, hint="Give another --out.")

    def write(self, name: str, content: bytes) -> None:
        """Make a file of this name and content; one that is there is replaced.

        Raises:
            OSError: it says which file could not be written.
        """
        target = self._path(name)
        # A name of its own for every try: two jobs that write the same file do not write into each other's.
        # Readers of data sets pass over names that begin with a dot.
        folder, base = posixpath.split(target)
        temporary = f"{folder}/.{base}.{uuid4().hex}"
        if folder not in self._made:
            self.filesystem.create_dir(folder, recursive=True)
            self._made.add(folder)
        try:
            with self.filesystem.open_output_stream(temporary) as stream:
                stream.write(content)
            self.filesystem.move(temporary, target)
        except BaseException as error:  # also where somebody stops it
            with suppress(OSError):
                self.filesystem.delete_file(temporary)
            if isinstance(error, OSError):
                msg = f"{target} could not be written: {error}"
                raise OSError(msg) from error
            raise

    def write_json(self, name: str, value: Mapping[str, JSONValue]) -> None:
        """The same with a JSON object as content."""
        self.write(name, json.dumps(value, indent=1).encode())

    def read_json(self, name: str) -> dict[str, Any] | None:
        """The JSON object of a file; None where there is no such file, or what it holds is none."""
        try:
            with self.filesystem.open_input_stream(self._path(name)) as stream:
                value = json.loads(stream.read())
        except (FileNotFoundError, ValueError):  # ValueError: it was cut off, or is somebody else's
            return None
        return value if isinstance(value, dict) else None

    def open(self, name: str) -> IO[bytes]:
        """A file to read from."""
        opened: IO[bytes] = self.filesystem.open_input_file(self._path(name))
        return opened

    def sizes(self, folder: str) -> dict[str, int]:
        """Bytes of the files in a folder, by name; none where there is no such folder."""
        selector = fs.FileSelector(self._path(folder), allow_not_found=True)
        found = self.filesystem.get_file_info(selector)
        return {entry.base_name: entry.size or 0 for entry in found if entry.is_file}

    def sweep(self, folder: str, older_than_s: float = _LEFT_S) -> None:
        """Remove what killed runs have left half written in a folder, but not what another may be writing now."""
        before = time.time() - older_than_s
        selector = fs.FileSelector(self._path(folder), allow_not_found=True)
        for entry in self.filesystem.get_file_info(selector):
            written = math.inf if entry.mtime is None else entry.mtime.timestamp()  # some stores do not know it
            if _TEMPORARY.fullmatch(entry.base_name) and written < before:
                self.filesystem.delete_file(entry.path)

    def delete(self, name: str) -> None:
        """Remove a file that may or may not be there."""
        path = self._path(name)
        if self.filesystem.get_file_info(path).type != fs.FileType.NotFound:
            self.filesystem.delete_file(path)

    def _path(self, name: str) -> str:
        return posixpath.join(self.root, name) if name else self.root
