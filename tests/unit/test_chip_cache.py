from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from rs_embed_core.chip import Acquisition, Chip, FetchPlan, Period
from rs_embed_core.errors import NoImagery, ProviderError, ProviderTimeout
from rs_embed_core.geo import Grid
from rs_embed_core.providers.cache import CachedProvider, LruShelf, Shelf, memory_shelf, nbytes_of
from rs_embed_core.providers.calls import Terms, too_late, under
from rs_embed_core.providers.disk import DiskShelf

GRID = Grid("EPSG:3857", (10.0, 0.0, 0.0, 0.0, -10.0, 0.0), 4, 5)
JUNE = Period(dt.date(2022, 6, 1), dt.date(2022, 7, 1))
PLAN = FetchPlan("S2", ("B2", "B3"), GRID, (JUNE,))


def plan(number: int) -> FetchPlan:
    return replace(PLAN, grid=replace(GRID, transform=(10.0, 0.0, 10.0 * number, 0.0, -10.0, 0.0)))


def draw(read: FetchPlan) -> Chip:
    pixels = np.arange(read.pixels, dtype=np.float32).reshape(1, 2, 4, 5) + read.grid.transform[2]
    valid = np.ones((1, 4, 5), np.bool_)
    valid[0, 1, 1] = False
    seen = (Acquisition("scene", "2022-06-03T10:00:00Z", 0),)
    facts = (("requests", 2), ("s1_iw_applied", True), ("note", "x"))
    return Chip(pixels, read.grid, read.bands, read.frames, "drawn", read.collection, valid, (), seen, facts)


@dataclass
class Drawing:
    """A provider that draws, or does what ``do`` says, and counts."""

    do: Callable[[FetchPlan], Chip] = draw
    reads: list[FetchPlan] = field(default_factory=list)
    name: str = "drawn"

    def fetch(self, read: FetchPlan) -> Chip:
        self.reads.append(read)
        return self.do(read)


def cached(provider: Drawing, *, no_imagery_s: float = 60, **shelves: Shelf) -> CachedProvider:
    return CachedProvider(provider, shelves or {"memory": memory_shelf(1e6)}, no_imagery_s=no_imagery_s)


def where(chip: Chip) -> object:
    return dict(chip.facts)["cache"]


def same(one: Chip, other: Chip) -> bool:
    """Equal but for what the facts say of the cache."""
    facts = [tuple(fact for fact in chip.facts if fact[0] not in ("cache", "requests")) for chip in (one, other)]
    rest = [{**vars(chip), "data": None, "valid": None, "facts": None} for chip in (one, other)]
    arrays = np.array_equal(one.data, other.data) and np.array_equal(one.valid, other.valid)  # type: ignore[arg-type]
    return arrays and facts[0] == facts[1] and rest[0] == rest[1]


def test_a_chip_is_read_once_and_is_the_same_afterwards() -> None:
    provider = Drawing()
    cache = cached(provider)
    first, second = cache.fetch(PLAN), cache.fetch(PLAN)
    assert (where(first), where(second)) == ("miss", "memory")
    assert same(first, draw(PLAN))
    assert (dict(first.facts)["requests"], dict(second.facts)["requests"]) == (2, 0)  # the first one paid
    assert same(second, draw(PLAN))
    assert len(provider.reads) == 1
    assert where(cache.fetch(plan(1))) == "miss"


def test_who_asks_meanwhile_waits_for_the_read_under_way() -> None:
    going, everybody = threading.Event(), threading.Barrier(4)

    def slow(read: FetchPlan) -> Chip:
        assert going.wait(10)
        return draw(read)

    provider = Drawing(slow)
    cache = cached(provider)

    def ask() -> Chip:
        everybody.wait(10)
        return cache.fetch(PLAN)

    with ThreadPoolExecutor(3) as threads:
        chips = [threads.submit(ask) for _ in range(3)]
        everybody.wait(10)
        time.sleep(0.05)
        going.set()
        outcomes = sorted(str(where(chip.result(10))) for chip in chips)
    assert len(provider.reads) == 1
    assert outcomes.count("miss") == 1
    assert set(outcomes) <= {"miss", "shared", "memory"}


def test_a_failed_read_fails_all_who_wait_and_is_not_remembered() -> None:
    def fail(read: FetchPlan) -> Chip:
        raise ProviderError("the service is down.", retryable=True)

    provider = Drawing(fail)
    cache = cached(provider)
    for _ in range(2):
        with pytest.raises(ProviderError, match="down"):
            cache.fetch(PLAN)
    assert len(provider.reads) == 2


def test_another_s_short_deadline_is_not_ours() -> None:
    entered = threading.Event()

    def run_out(read: FetchPlan) -> Chip:
        if len(provider.reads) > 1:
            return draw(read)
        entered.set()
        time.sleep(0.1)
        raise too_late("reading")

    provider = Drawing(run_out)
    cache = cached(provider)

    def hurried() -> None:
        with under(Terms(deadline=time.monotonic() + 0.1)):
            cache.fetch(PLAN)

    with ThreadPoolExecutor(1) as threads:
        other = threads.submit(hurried)
        assert entered.wait(10)
        assert same(cache.fetch(PLAN), draw(PLAN))
        assert isinstance(other.exception(10), ProviderTimeout)


def test_our_own_deadline_ends_the_wait_for_another_s_read() -> None:
    entered, going = threading.Event(), threading.Event()

    def slow(read: FetchPlan) -> Chip:
        entered.set()
        assert going.wait(10)
        return draw(read)

    cache = cached(Drawing(slow))
    with ThreadPoolExecutor(1) as threads:
        other = threads.submit(cache.fetch, PLAN)
        assert entered.wait(10)
        with under(Terms(deadline=time.monotonic() + 0.05)), pytest.raises(ProviderTimeout):
            cache.fetch(PLAN)
        going.set()
        assert where(other.result(10)) == "miss"


def test_no_imagery_is_remembered_for_a_while() -> None:
    def nothing(read: FetchPlan) -> Chip:
        raise NoImagery("no scene.")

    provider = Drawing(nothing)
    believing, forgetting = cached(provider), cached(provider, no_imagery_s=0)
    for cache, reads in ((believing, 1), (forgetting, 2)):
        provider.reads.clear()
        for _ in range(2):
            with pytest.raises(NoImagery):
                cache.fetch(PLAN)
        assert len(provider.reads) == reads


def test_who_hears_of_a_failure_has_an_error_of_their_own() -> None:
    entered, going = threading.Event(), threading.Event()

    def nothing(read: FetchPlan) -> Chip:
        entered.set()
        assert going.wait(10)
        raise NoImagery("no scene.")

    cache = cached(Drawing(nothing))
    with ThreadPoolExecutor(3) as threads:
        asked = [threads.submit(cache.fetch, PLAN)]
        assert entered.wait(10)
        asked += [threads.submit(cache.fetch, PLAN) for _ in range(2)]
        going.set()
        errors = [future.exception(10) for future in asked]
    for _ in range(3):
        with pytest.raises(NoImagery) as caught:
            cache.fetch(PLAN)
        errors.append(caught.value)
    assert all(error == errors[0] for error in errors)
    assert len({id(error) for error in errors}) == len(errors)


def test_other_settings_of_a_provider_have_other_chips(tmp_path: Path) -> None:
    provider, shelf = Drawing(), {"disk": DiskShelf(tmp_path, 1e6)}
    for scope in ("catalogue a", "catalogue b", "catalogue a"):
        CachedProvider(provider, dict(shelf), no_imagery_s=0, scope=scope).fetch(PLAN)
    assert len(provider.reads) == 2


def test_memory_keeps_the_latest_up_to_its_size() -> None:
    shelf = memory_shelf(2 * nbytes_of(draw(PLAN)))
    for number in range(3):
        shelf.put(str(number), draw(plan(number)))
        assert shelf.get("0") is not None or number == 2
    assert [shelf.get(str(number)) is None for number in range(3)] == [False, True, False]
    assert shelf.nbytes == 2 * nbytes_of(draw(PLAN))
    shelf.put("huge", replace(draw(PLAN), data=np.zeros((1, 2, 4, 5), np.float32)))
    assert memory_shelf(10).get("0") is None


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
from tests.unit.test_chip_cache import PLAN, Drawing, where

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


def test_memory_that_takes_no_chip_costs_only_the_cache() -> None:
    def refuse(chip: Chip) -> Chip:
        raise MemoryError("the object store is full")

    shelf = LruShelf(1e6, keep=refuse, take=lambda chip: chip)
    cache = cached(Drawing(), memory=shelf)
    assert where(cache.fetch(PLAN)) == "miss"
    assert where(cache.fetch(PLAN)) == "miss"
    assert (shelf.nbytes, shelf.failures) == (0, 2)
