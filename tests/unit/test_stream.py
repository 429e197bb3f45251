from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from rs_embed_core import PointBuffer, get_embedding
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
from serve_app.router import Deployed, Reference, Router
from serve_app.settings import LimitSettings, ModelSettings, ProviderSettings
from serve_app.stream import stream
from serve_app.wire.blocks import Encoded
from serve_app.wire.rows import Job
from tests.unit.jobs import ASK, SUMMER, collect, places, raising, router
from tests.unit.pipeline_fakes import LocalEncoder, LocalFetchers


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
