from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rs_embed_core.chip import Chip, FetchPlan
from rs_embed_core.errors import NoImagery, ProviderError, ProviderTimeout
from rs_embed_core.providers.cache import CachedProvider, LruShelf, memory_shelf, nbytes_of
from rs_embed_core.providers.calls import Terms, too_late, under
from rs_embed_core.providers.disk import DiskShelf
from tests.unit.drawn_chips import PLAN, Drawing, cached, draw, plan, same, where


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


def test_memory_that_takes_no_chip_costs_only_the_cache() -> None:
    def refuse(chip: Chip) -> Chip:
        raise MemoryError("the object store is full")

    shelf = LruShelf(1e6, keep=refuse, take=lambda chip: chip)
    cache = cached(Drawing(), memory=shelf)
    assert where(cache.fetch(PLAN)) == "miss"
    assert where(cache.fetch(PLAN)) == "miss"
    assert (shelf.nbytes, shelf.failures) == (0, 2)
