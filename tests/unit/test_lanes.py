"""What a process took with it goes again; others run meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from rs_embed_core.card import Selection
from rs_embed_core.errors import ForwardError, RSEmbedError, Unavailable
from serve_app.router import Lost, PayloadLost, Reference
from serve_app.stream import stream
from serve_app.wire.blocks import Encoded
from serve_app.wire.rows import Job
from tests.unit.jobs import ASK, collect, places, raising, router
from tests.unit.pipeline_fakes import LocalEncoder, LocalFetchers


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


async def test_imagery_that_is_lost_every_time_becomes_a_problem() -> None:
    by = router(encoder=LocalEncoder(fail=raising(PayloadLost("evicted"))), max_attempts=2)
    async with asyncio.timeout(10):
        rows = await collect(Job(ASK, places(3)), by)
    assert [row.error is not None and row.error.code for row in rows] == ["lost"] * 3


async def test_a_poisonous_group_ends_in_problems() -> None:
    encoder = LocalEncoder(fail=raising(Lost("SIGKILL")))
    by = router(LocalFetchers(linger_ms=30_000), encoder, max_attempts=2)
    rows = await collect(Job(ASK, places(4)), by)
    assert len(rows) == 4
    assert {(type(row.error), row.error.code, row.error.retryable) for row in rows} == {(ForwardError, "lost", True)}
    assert encoder.calls == 2


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
