from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from rs_embed_core import PointBuffer, TemporalSpec
from rs_embed_core.plan import plan
from rs_embed_core.providers.gate import Quota
from rs_embed_core.specs.request import Ask
from serve_app.deployments.fetcher import Fetcher
from serve_app.flow import Dealer, Order, Pace, Window, fair_share
from serve_app.observe import metrics
from serve_app.settings import CacheSettings, FetchSettings, ProviderSettings
from serve_app.wire.blocks import BlockInfo, Hurry, Item
from serve_app.wire.rows import Row
from tests.unit.written import written


@pytest.mark.parametrize(
    ("loads", "left", "share"),
    [
        ([0, 0], 256, 128),
        ([112, 104], 40, 24),  # 128 each in the end
        ([128, 104], 24, 24),
        ([500, 0], 10, 10),  # never more than there is, however idle
        ([7, 7, 7], 0, 1),
        ([0], 3, 3),
    ],
)
def test_the_least_loaded_gets_what_makes_all_even(loads: list[int], left: int, share: int) -> None:
    assert min(fair_share(loads, left), max(1, left)) == share


def test_dealing_by_fair_share_leaves_all_with_the_same() -> None:
    loads, left = [0, 0, 0], 1000
    while left:
        size = min(64, left, fair_share(loads, left))
        loads[loads.index(min(loads))] += size
        left -= size
    assert max(loads) - min(loads) < len(loads)


def places(count: int) -> list[tuple[float, ...]]:
    return [(10.0, 0.0, 1e5 + 640.0 * (i % 50), 0.0, -10.0, 6e6 - 640.0 * (i // 50)) for i in range(count)]


def test_a_place_has_one_home_whatever_the_job() -> None:
    homes = [Dealer(4, 1).home(place) for place in places(200)]
    assert homes == [Dealer(4, 1).home(place) for place in places(200)]
    assert set(homes) == {0, 1, 2, 3}
    few = Dealer(4, 8)
    assert [few.home(place) for place in places(8)] == homes[:8]


def test_a_long_job_is_dealt_evenly() -> None:
    dealer = Dealer(2, 256)
    homes = [dealer.home(place) for place in places(256)]
    assert homes.count(0) == 128
    usual = [Dealer(2, 1).home(place) for place in places(256)]
    assert sum(a != b for a, b in zip(homes, usual, strict=True)) < 32


def test_a_window_is_bounded_in_rois_and_in_bytes_but_takes_one_of_any_size() -> None:
    window = Window(rois=3, nbytes=100)
    assert window.fits(1000)
    window.take(0, 60)
    assert window.fits(40)
    assert not window.fits(41)
    window.take(1, 0)
    window.take(2, 0)
    assert not window.fits(0)
    window.give(1)
    assert window.fits(0)


async def test_a_full_window_is_refilled_by_a_span_at_a_time() -> None:
    window = Window(rois=16, nbytes=1e9)
    for index in range(16):
        window.take(index, 1)
    waiting = asyncio.ensure_future(window.room(1))
    window.give(0)
    await asyncio.sleep(0)
    assert window.fits(1)
    assert not waiting.done()  # one more would fit, but not an eighth of the window
    window.give(1)
    await asyncio.wait_for(waiting, 1)


async def test_a_window_of_one_roi_still_moves() -> None:
    window = Window(rois=1, nbytes=1)
    await asyncio.wait_for(window.room(50), 1)
    window.take(0, 50)
    waiting = asyncio.ensure_future(window.room(50))
    await asyncio.sleep(0)
    window.give(0)
    await asyncio.wait_for(waiting, 1)
    assert window.refill == 1


def test_the_pace_is_unknown_until_something_is_done_and_zero_when_nothing_is_left() -> None:
    pace = Pace()
    assert pace.busy_s == 0
    pace.arrive(64)
    assert pace.busy_s == 0
    pace.leave(16)
    assert pace.busy_s > 0
    pace.leave(48)
    assert pace.busy_s == 0


async def test_the_pace_is_the_work_ahead_at_the_rate_so_far() -> None:
    pace = Pace()
    pace.arrive(30)
    await asyncio.sleep(0.1)
    pace.leave(10)
    assert 0.2 <= pace.busy_s < 2  # 20 are left after 10 in at least 0.1 s


def test_ordered_rows_wait_for_their_turn() -> None:
    order = Order(ordered=True)
    assert order.through([Row(1)]) == []
    assert [row.index for row in order.through([Row(2), Row(0)])] == [0, 1, 2]
    assert [row.index for row in Order(ordered=False).through([Row(5), Row(3)])] == [5, 3]


async def blocks_of(fetcher: Fetcher, *, patience_s: float) -> list[int]:
    """ROIs in each block of a span whose reads end one after the other."""
    ask = Ask(model="mosaiks", temporal=TemporalSpec.range("2022-06-01", "2022-09-01"))
    span = [Item(i, plan(ask.at(PointBuffer(11 + i / 100, 48.0, 80.0)))) for i in range(6)]
    parts = [part async for part in fetcher.blocks(span, Hurry(patience_s))]
    return [len(part.items) for part in parts if isinstance(part, BlockInfo)]


async def test_a_fetch_actor_fills_its_blocks_while_nobody_waits_for_them() -> None:
    settings = FetchSettings(concurrency=1, linger_ms=0)
    fetcher = Fetcher(settings, ProviderSettings(synthetic_delay_ms=20))
    assert await blocks_of(fetcher, patience_s=30) == [6]
    assert len(await blocks_of(fetcher, patience_s=0)) > 1


async def test_the_wait_for_a_thread_of_a_fetch_actor_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = written(monkeypatch, metrics.FETCH_WAIT_SECONDS)
    fetcher = Fetcher(FetchSettings(concurrency=1), ProviderSettings(synthetic_delay_ms=20))
    await blocks_of(fetcher, patience_s=30)
    assert len(waits.observed) == 6
    assert max(waits.observed) >= 5 * 0.02  # the last one's, behind five reads
    assert waits.labels[0]["provider"] == "synthetic"


async def test_an_idle_fetch_actor_tells_that_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = written(monkeypatch, metrics.FETCH_WAITING_ROIS)
    fetcher = Fetcher(FetchSettings(), ProviderSettings())
    await asyncio.sleep(0)
    assert waiting.observed == [0]
    await fetcher.pid()


async def test_a_fetch_actor_never_reads_without_its_part_of_the_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(name: str, quotas: Mapping[str, Quota]) -> object:
        raise ValueError(f"no actor {name}")

    monkeypatch.setattr("serve_app.deployments.fetcher.quota_actor", nowhere)
    quoted = ProviderSettings.model_validate({"gee": {"at_once": 5}})
    fetcher = Fetcher(FetchSettings(cache=CacheSettings(memory_mb=0)), quoted, quota="quota")
    for _ in range(2):  # not the first span alone
        with pytest.raises(ValueError, match="no actor quota"):
            await blocks_of(fetcher, patience_s=0)
