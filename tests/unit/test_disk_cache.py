"""Chips on the disk."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rs_embed_core.providers.cache import memory_shelf
from rs_embed_core.providers.disk import DiskShelf
from tests.unit.drawn_chips import PLAN, Drawing, cached, draw, plan, same, where


def test_disk_outlives_the_process_and_fills_memory(tmp_path: Path) -> None:
    provider = Drawing()
    assert where(cached(provider, disk=DiskShelf(tmp_path, 1e6)).fetch(PLAN)) == "miss"
    memory = memory_shelf(1e6)
    cache = cached(provider, memory=memory, disk=DiskShelf(tmp_path, 1e6))
    chip = cache.fetch(PLAN)
    assert where(chip) == "disk"
    assert same(chip, draw(PLAN))
    assert where(cache.fetch(PLAN)) == "memory"
    assert len(provider.reads) == 1


@pytest.mark.parametrize("damage", ["flip", "cut", "rubbish"])
def test_a_damaged_file_counts_as_missing_and_is_replaced(tmp_path: Path, damage: str) -> None:
    provider = Drawing()
    cached(provider, disk=DiskShelf(tmp_path, 1e6)).fetch(PLAN)
    (path,) = tmp_path.glob("*/*.safetensors")
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[-3] ^= 1
    path.write_bytes({"flip": content, "cut": content[: len(content) // 2], "rubbish": b"x" * 50}[damage])
    cache = cached(provider, disk=DiskShelf(tmp_path, 1e6))
    assert where(cache.fetch(PLAN)) == "miss"
    assert where(cache.fetch(PLAN)) == "disk"


def test_the_disk_keeps_what_was_used_last(tmp_path: Path) -> None:
    DiskShelf(tmp_path, 1e9).put("probe", draw(PLAN))
    size = next(tmp_path.glob("*/*.safetensors")).stat().st_size
    shelf = DiskShelf(tmp_path, 4.5 * size)
    for number in range(4):
        shelf.put(f"k{number}", draw(plan(number)))
        time.sleep(0.01)
    assert shelf.get("k0") is not None  # used again
    for number in range(4, 7):
        time.sleep(0.01)
        shelf.put(f"k{number}", draw(plan(number)))
    assert shelf.get("k1") is None
    assert shelf.get("k6") is not None
    left = sum(path.stat().st_size for path in tmp_path.glob("*/*"))
    assert left <= 4.5 * size
    assert (shelf.nbytes, shelf.failures) == (left, 0)


def test_a_disk_that_cannot_be_written_costs_only_the_cache(tmp_path: Path) -> None:
    shelf = DiskShelf(tmp_path / "cache", 1e6)
    (tmp_path / "cache").rmdir()
    (tmp_path / "cache").write_text("a file is in the way")
    cache = cached(Drawing(), disk=shelf)
    assert where(cache.fetch(PLAN)) == "miss"
    assert where(cache.fetch(PLAN)) == "miss"
    assert (shelf.nbytes, shelf.failures) == (0, 2)


_FULL = """
import resource, sys
from dataclasses import dataclass
from pathlib import Path
from rs_embed_core.providers.cache import CachedProvider
from rs_embed_core.providers.disk import DiskShelf
from tests.unit.drawn_chips import PLAN, Drawing, where

shelf = DiskShelf(Path(sys.argv[1]), 1e6)
cache = CachedProvider(Drawing(), {"disk": shelf}, no_imagery_s=1)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))  # no file may grow larger: writing fails as on a full disk
print(where(cache.fetch(PLAN)), where(cache.fetch(PLAN)), shelf.failures)
"""


def test_a_disk_that_fills_up_while_it_is_written_costs_only_the_cache(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", _FULL, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["miss", "miss", "2"]
    assert list(tmp_path.glob("*/*")) == []


def test_a_directory_that_cannot_be_made_costs_only_the_cache(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file is in the way")
    shelf = DiskShelf(tmp_path / "file" / "cache", 1e6)
    assert where(cached(Drawing(), disk=shelf).fetch(PLAN)) == "miss"
    assert shelf.failures == 1


def test_what_a_killed_process_left_half_written_is_counted_and_removed(tmp_path: Path) -> None:
    shelf = DiskShelf(tmp_path, 5000)
    (tmp_path / "aa").mkdir()
    for name in (".tmpKJ2Xz8", "k.safetensors.0123.part"):
        (tmp_path / "aa" / name).write_bytes(bytes(4000))
        os.utime(tmp_path / "aa" / name, (0, 0))
    shelf.put("k1", draw(PLAN))
    assert [path.name for path in tmp_path.glob("*/*")] == ["k1.safetensors"]
