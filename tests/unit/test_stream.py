from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from rs_embed_core import PointBuffer, TemporalSpec, get_embedding
from rs_embed_core.card import Selection
from rs_embed_core.errors import (
    CheckpointError,
    DeadlineExceeded,
    ForwardError,
    InvalidRequest,
    JSONValue,
    RSEmbedError,
    Unavailable,
    UnknownModel,
    UnknownProvider,
)
from rs_embed_core.specs.request import Ask
from serve_app.router import Deployed, Lost, PayloadLost, Reference, Router
from serve_app.settings import LimitSettings, ModelSettings, ProviderSettings
from serve_app.stream import stream
from serve_app.wire.blocks import Encoded
from serve_app.wire.rows import Job, Row
from tests.unit.pipeline_fakes import LocalEncoder, LocalFetchers

SUMMER = TemporalSpec.range("2022-06-01", "2022-09-01")
ASK = Ask(model="mosaiks", temporal=SUMMER)


def places(count: int) -> tuple[object, ...]:
    return tuple({"lon": 11.0 + 0.01 * i, "lat": 48.0, "buffer_m": 80.0} for i in range(count))


def router(fetchers: LocalFetchers | None = None, encoder: LocalEncoder | None = None, **limits: float) -> Router:
    deployed = Deployed(ModelSettings(model="mosaiks"), encoder or LocalEncoder())
    settings = LimitSettings.model_validate(limits)
    return Router({"mosaiks-gaussian": deployed}, fetchers or LocalFetchers(), settings, ProviderSettings())


def raising(error: Exception) -> Callable[[int], None]:
    def fail(call: int) -> None:
        raise error

    return fail


async def collect(job: Job, by: Router) -> list[Row]:
    return [row async for rows in stream(job, by.route(job)) for row in rows]


async def test_every_roi_has_exactly_one_row_with_the_library_s_numbers() -> None:
    rows = await collect(Job(ASK, places(30)), router())
    assert sorted(row.index for row in rows) == list(range(30))
    row = next(row for row in rows if row.index == 7)
    expected = get_embedding("mosaiks", spatial=PointBuffer(11.07, 48.0, 80.0), temporal=SUMMER, device="cpu")
    np.testing.assert_allclose(row.data, expected.data, rtol=1e-5, atol=1e-6)
    assert json.loads(row.meta or "")["roi"]["lon"] == 11.07


@pytest.mark.parametrize(("rois", "bulk"), [(8, False), (9, True)])
async def test_an_encoder_is_told_which_jobs_are_long(rois: int, *, bulk: bool) -> None:
    encoder = LocalEncoder()
    await collect(Job(ASK, places(rois)), router(encoder=encoder))
    assert set(encoder.bulk) == {bulk}


async def test_a_bad_roi_is_a_problem_at_its_index_and_costs_its_neighbours_nothing() -> None:
    spatials = list(places(10))
    spatials[3] = {"lon": 200.0, "lat": 0.0, "buffer_m": 10.0}
    spatials[6] = "nowhere"
    rows = {row.index: row for row in await collect(Job(ASK, tuple(spatials)), router())}
    assert len(rows) == 10
    assert {i for i, row in rows.items() if row.error} == {3, 6}
    assert isinstance(rows[3].error, InvalidRequest)


async def test_all_bad_rois_end_too() -> None:
    rows = await collect(Job(ASK, ("x",) * 200), router(window_rois=8))
    assert len(rows) == 200
    assert all(isinstance(row.error, InvalidRequest) for row in rows)


async def test_ordered_rows_come_in_order_inside_the_window() -> None:
    fetchers = LocalFetchers(delay_ms=5)
    rows = await collect(Job(ASK, places(60), ordered=True), router(fetchers, window_rois=16))
    assert [row.index for row in rows] == list(range(60))


async def test_the_window_bounds_what_is_under_way() -> None:
    fetchers = LocalFetchers()
    by = router(fetchers, window_rois=16)
    job = Job(ASK, places(200))
    seen: set[int] = set()
    async for rows in stream(job, by.route(job)):
        seen |= {row.index for row in rows}
        assert len(fetchers.under_way - seen) <= 16
    assert len(seen) == 200


async def test_the_window_counts_bytes_and_always_lets_one_through() -> None:
    fetchers = LocalFetchers()
    by = router(fetchers, window_mb=0.001)
    job = Job(ASK, places(6))
    seen: set[int] = set()
    async for rows in stream(job, by.route(job)):
        seen |= {row.index for row in rows}
        assert len(fetchers.under_way - seen) <= 1
    assert len(seen) == 6


async def test_the_window_counts_samples_where_they_are_larger_than_the_imagery() -> None:
    fetchers, encoder = LocalFetchers(), LocalEncoder(fail=raising(ForwardError("no")))
    deployed = {"clay-large": Deployed(ModelSettings(model="clay"), encoder)}
    by = Router(deployed, fetchers, LimitSettings(window_mb=8), ProviderSettings())  # a sample has 2.6 MB, a chip 26 kB
    job, seen = Job(Ask(model="clay", temporal=SUMMER), places(9)), set()
    async for rows in stream(job, by.route(job)):
        seen |= {row.index for row in rows}
        assert len(fetchers.under_way - seen) <= 3
    assert len(seen) == 9


async def test_what_a_fetch_actor_lost_is_sent_again() -> None:
    fetchers = LocalFetchers(lose=lambda call: 1 if call < 2 else None)
    rows = await collect(Job(ASK, places(40)), router(fetchers))
    assert sorted(row.index for row in rows) == list(range(40))
    assert all(row.error is None for row in rows)


async def test_a_roi_that_is_lost_every_time_becomes_a_problem_of_no_provider() -> None:
    fetchers = LocalFetchers(lose=lambda call: 0)
    rows = await collect(Job(ASK, places(3)), router(fetchers, max_attempts=2))
    assert len(rows) == 3
    assert {(type(row.error), row.error.code, row.error.retryable) for row in rows} == {(RSEmbedError, "lost", True)}
    assert fetchers.calls == 2


async def test_a_replica_that_dies_loses_and_repeats_nothing() -> None:
    def die_twice(call: int) -> None:
        if call in (0, 2):
            raise Lost("SIGKILL")

    rows = await collect(Job(ASK, places(40)), router(encoder=LocalEncoder(fail=die_twice)))
    assert sorted(row.index for row in rows) == list(range(40))
    assert all(row.error is None for row in rows)


async def test_lost_imagery_is_fetched_again() -> None:
    def lose_once(call: int) -> None:
        if call == 0:
            raise PayloadLost("evicted")

    fetchers = LocalFetchers()
    rows = await collect(Job(ASK, places(12)), router(fetchers, LocalEncoder(fail=lose_once)))
    assert len(rows) == 12
    assert all(row.error is None for row in rows)


async def test_a_poisonous_group_ends_in_problems() -> None:
    encoder = LocalEncoder(fail=raising(Lost("SIGKILL")))
    by = router(LocalFetchers(linger_ms=30_000), encoder, max_attempts=2)
    rows = await collect(Job(ASK, places(4)), by)
    assert len(rows) == 4
    assert {(type(row.error), row.error.code, row.error.retryable) for row in rows} == {(ForwardError, "lost", True)}
    assert encoder.calls == 2


async def test_missing_weights_are_every_row_s_problem() -> None:
    rows = await collect(Job(ASK, places(5)), router(encoder=LocalEncoder(fail=raising(CheckpointError("not here")))))
    assert len(rows) == 5
    assert all(isinstance(row.error, CheckpointError) for row in rows)


@pytest.mark.parametrize("error", [CheckpointError("not here"), Unavailable("no room")])
async def test_nothing_more_is_fetched_for_an_encoder_that_cannot_work(error: RSEmbedError) -> None:
    encoder, fetchers = LocalEncoder(fail=raising(error)), LocalFetchers()
    by = router(fetchers, encoder, window_rois=16)
    job = Job(ASK, places(300))
    rows = await collect(job, by)
    assert sorted(row.index for row in rows) == list(range(300))
    assert {type(row.error) for row in rows} == {type(error)}
    assert encoder.calls <= by.route(job).lanes
    assert len(fetchers.under_way) <= 32


async def test_the_one_error_of_a_long_job_leaves_in_pieces_and_others_run_meanwhile() -> None:
    encoder = Noting(fail=raising(Unavailable("no room")))
    by, job = router(encoder=encoder), Job(ASK, places(3000))
    turns, sizes = [], []
    other = asyncio.create_task(encoder.other())
    async for rows in stream(job, by.route(job)):
        turns.append(encoder.turns)
        sizes.append(len(rows))
    other.cancel()
    assert sum(sizes) == 3000
    assert max(sizes) <= 1024
    assert len(set(turns)) == len(turns)


async def test_the_deadline_ends_in_rows_not_in_a_hang() -> None:
    encoder = LocalEncoder(delay_s=30)
    async with asyncio.timeout(10):
        rows = await collect(Job(ASK, places(5), timeout_s=0.3), router(encoder=encoder))
    assert len(rows) == 5
    assert all(isinstance(row.error, DeadlineExceeded) for row in rows)


async def test_a_bug_in_a_stage_is_a_problem_and_not_a_hang() -> None:
    async with asyncio.timeout(10):
        rows = await collect(Job(ASK, places(5)), router(encoder=LocalEncoder(fail=raising(KeyError("bug")))))
    assert len(rows) == 5
    assert all(row.error is not None and row.error.code == "internal_error" for row in rows)


async def test_closing_the_stream_cancels_its_work() -> None:
    by = router(LocalFetchers(delay_ms=50))
    await collect(Job(ASK, places(1)), by)  # from its first span on a fetch actor tells how it stands
    before = asyncio.all_tasks()
    job = Job(ASK, places(100))
    rows = stream(job, by.route(job))
    async with contextlib.aclosing(rows):
        await anext(rows)
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize(
    ("job", "error"),
    [
        (Job(ASK, ()), InvalidRequest),
        (Job(Ask(model="dofa"), places(1)), UnknownModel),
        (Job(Ask(model="mosaics"), places(1)), UnknownModel),
        (Job(Ask(model="mosaiks", backend="geo"), places(1)), UnknownProvider),
    ],
)
async def test_what_cannot_be_done_is_refused_at_once(job: Job, error: type[Exception]) -> None:
    with pytest.raises(error):
        router().route(job)


@dataclass
class Together:
    """An encoder whose state is known once all of them have been asked for theirs."""

    asked: asyncio.Barrier
    state: str

    async def encode(self, payloads: Sequence[Reference], selection: Selection, *, bulk: bool = True) -> Encoded:
        raise Unavailable("not in this test")

    async def status(self) -> dict[str, JSONValue]:
        await self.asked.wait()
        return {"status": self.state}


@pytest.mark.parametrize(
    ("states", "ready"),
    [
        (("ready", "busy", "sleeping"), True),
        (("ready", "starting"), False),
        (("busy", "no_weights"), False),
        (("failed",), False),
    ],
)
async def test_models_are_asked_at_once_and_all_must_be_up(states: tuple[str, ...], ready: bool) -> None:
    asked = asyncio.Barrier(len(states))
    deployed = {state: Deployed(ModelSettings(model="mosaiks"), Together(asked, state)) for state in states}
    by = Router(deployed, LocalFetchers(), LimitSettings(), ProviderSettings())
    async with asyncio.timeout(10):
        answer = await by.ready()
    assert answer == {"ready": ready, "models": {state: {"status": state} for state in states}}


@dataclass
class Noting(LocalEncoder):
    """Notes how many turns another task has had when a group's tokens are there."""

    turns: int = 0
    then: int = 0

    async def encode(self, payloads: Sequence[Reference], selection: Selection, *, bulk: bool = True) -> Encoded:
        encoded = await super().encode(payloads, selection, bulk=bulk)
        self.then = self.turns
        return encoded

    async def other(self) -> None:
        while True:
            self.turns += 1
            await asyncio.sleep(0)


async def test_others_run_while_rows_are_assembled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve_app.lanes._TURN_S", -1.0)  # as if every row took long
    encoder = Noting()
    by, job = router(LocalFetchers(block_items=8, linger_ms=30_000), encoder), Job(ASK, places(8))
    other = asyncio.create_task(encoder.other())
    rows = stream(job, by.route(job))
    async with contextlib.aclosing(rows):
        first = await anext(rows)
    assert encoder.turns - encoder.then >= len(first) == 8
    other.cancel()
