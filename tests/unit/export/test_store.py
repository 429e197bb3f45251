from __future__ import annotations

import re
from pathlib import Path

import pytest
from pyarrow import fs

from rs_embed_core.errors import InvalidRequest
from serve_app.export.store import Store, located


def test_a_file_appears_whole_and_replaces_another(store: Store) -> None:
    store.write("a/b.bin", b"old")
    store.write("a/b.bin", b"new")
    assert store.sizes("a") == {"b.bin": 3}  # and nothing temporary
    with store.open("a/b.bin") as file:
        assert file.read() == b"new"
    store.delete("a/b.bin")
    store.delete("a/b.bin")
    assert store.sizes("a") == {}
    assert store.sizes("nowhere") == {}
    assert store.read_json("nowhere.json") is None


def test_a_write_that_fails_leaves_nothing_and_says_where(store: Store, tmp_path: Path) -> None:
    store.write("a/b.bin/c.bin", b"in the way")
    with pytest.raises(OSError, match=re.escape(f"{tmp_path}/out/a/b.bin could not be written: ")):
        store.write("a/b.bin", b"new")
    assert [path.name for path in (tmp_path / "out" / "a").iterdir()] == ["b.bin"]


def test_paths_and_urls(tmp_path: Path) -> None:
    assert located(str(tmp_path))[1] == str(tmp_path)
    assert isinstance(located("gs://bucket/folder")[0], fs.GcsFileSystem)
    assert located("gs://bucket/folder")[1] == "bucket/folder"
    with pytest.raises(InvalidRequest, match="nosuch://a/b cannot be opened"):
        located("nosuch://a/b")
