from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, ActorUnschedulableError

from rs_embed_core.errors import ProviderTimeout
from rs_embed_core.providers.calls import Terms
from rs_embed_core.providers.gate import Gate, Quota
from serve_app.deployments.limiter import Leases, QuotaActor
from serve_app.quota import TTL_S, Need, Part

QUOTA = Quota(at_once=6, per_second=6000)  # a rate that no test reaches
SERVICES = (
    "first",
    "soon",
    "lost",
    "silent",
    "heir",
    "late",
    "both",
)  # one each, so that tests leave each other's parts alone
PATIENCE_S = 30.0

type Conduct = Literal["answers", "dead", "placeless", "unavailable", "silent"]


@dataclass
class Handle:
    """A Ray handle of the actor, as far as ``Leases`` knows: ``handle.renew.remote(...)`` gives an awaitable."""

    actor: QuotaActor
    conduct: Conduct = "answers"
    held: asyncio.Event | None = None  # while it is not set answers are on their way
    parts: dict[str, Part] = field(default_factory=dict)

    @property
    def renew(self) -> Handle:
        return self

    def remote(self, holder: str, needs: Mapping[str, Need]) -> Awaitable[dict[str, Part]]:
        return self._renewed(holder, needs)

    async def _renewed(self, holder: str, needs: Mapping[str, Need]) -> dict[str, Part]:
        if self.conduct == "dead":
            raise ActorDiedError
        if self.conduct == "placeless":
            raise ActorUnschedulableError("its node has gone")
        if self.conduct == "unavailable":
            raise ActorUnavailableError("no answer", b"x" * 16)
        if self.conduct == "silent":
            await asyncio.Event().wait()
        self.parts = parts = await self.actor.renew(holder, needs)
        if self.held is not None:
            await self.held.wait()
        return parts


@pytest.fixture(scope="module")
def actor() -> QuotaActor:
    """One that is old enough to give parts out."""
    born = QuotaActor(dict.fromkeys(SERVICES, QUOTA))
    time.sleep(TTL_S + 0.1)
    return born


def leases(holder: str, gates: Mapping[str, Gate], handle: Handle) -> Leases:
    return Leases(holder, gates, lambda: handle)


@contextlib.asynccontextmanager
async def renewed(held: Leases) -> AsyncIterator[None]:
    task = asyncio.create_task(held.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def enters(gate: Gate, seconds: float = PATIENCE_S) -> bool:
    """Whether a request is let through within a time; it is then inside."""

    def enter() -> bool:
        try:
            gate.enter(Terms(deadline=time.monotonic() + seconds))
        except ProviderTimeout:
            return False
        return True

    return await asyncio.to_thread(enter)


async def passes(gate: Gate, seconds: float = PATIENCE_S) -> bool:
    """Whether a request comes in within a time and leaves again."""
    inside = await enters(gate, seconds)
    if inside:
        gate.leave(None)
    return inside


async def test_nothing_passes_before_the_first_part_has_come(actor: QuotaActor) -> None:
    gate = Gate(QUOTA, name="first")
    assert await passes(gate)  # by itself it would
    held = leases("a", {"first": gate}, Handle(actor))
    assert not await passes(gate, 0.2)
    async with renewed(held):
        assert await passes(gate)


async def test_a_request_that_finds_no_slot_gets_one_without_waiting_for_the_next_regular_renewal(
    actor: QuotaActor,
) -> None:
    gate, handle = Gate(QUOTA, name="soon"), Handle(actor)
    waits = []
    async with asyncio.timeout(PATIENCE_S), renewed(leases("a", {"soon": gate}, handle)):
        for _ in range(5):
            while handle.parts.get("soon") != Part(0, 0.0):  # noqa: ASYNC110 - then the next renewal is a second away
                await asyncio.sleep(0.01)
            started = time.monotonic()
            assert await passes(gate)
            waits.append(time.monotonic() - started)
    assert min(waits) < 0.5


async def test_a_part_that_cannot_be_renewed_is_given_up(actor: QuotaActor) -> None:
    async def lose(service: str, conduct: Conduct) -> None:
        gate, handle = Gate(QUOTA, name=service), Handle(actor)
        async with asyncio.timeout(PATIENCE_S), renewed(leases("a", {service: gate}, handle)):
            assert await enters(gate)
            handle.conduct = conduct
            gate.leave(None)
            assert await passes(gate)  # the part lives on for a while
            began = time.monotonic()
            while await passes(gate, 0.1):  # noqa: ASYNC110 - nothing tells that a part is over
                await asyncio.sleep(0.1)
            assert time.monotonic() - began > TTL_S / 2
            handle.conduct = "answers"
            assert await passes(gate)

    await asyncio.gather(lose("lost", "unavailable"), lose("silent", "silent"))


async def test_for_an_actor_that_died_another_is_looked_for(actor: QuotaActor) -> None:
    gate, handles = Gate(QUOTA, name="heir"), [Handle(actor, "dead"), Handle(actor, "placeless"), Handle(actor)]
    found = iter(handles)
    async with renewed(Leases("a", {"heir": gate}, lambda: next(found))):
        assert await passes(gate)
    assert list(found) == []


async def test_what_enters_before_a_smaller_part_has_arrived_counts(actor: QuotaActor) -> None:
    gate, other, handle = Gate(QUOTA, name="late"), Gate(QUOTA, name="late"), Handle(actor)
    async with (
        asyncio.timeout(PATIENCE_S),
        renewed(leases("a", {"late": gate}, handle)),
        renewed(leases("b", {"late": other}, Handle(actor))),
    ):
        for _ in range(QUOTA.at_once):
            assert await enters(gate)
        handle.held = asyncio.Event()
        for _ in range(QUOTA.at_once):
            gate.leave(None)
        while handle.parts["late"] != Part(0, 0.0):  # noqa: ASYNC110 - then the first actor's part is on its way
            await asyncio.sleep(0.01)
        for _ in range(QUOTA.at_once):
            assert await enters(gate)
        assert not await enters(other, 0.5)
        handle.held.set()


@dataclass
class Crowd:
    """Requests of several actors, and the most that were under way at once."""

    inside: int = 0
    most: int = 0
    done: dict[str, int] = field(default_factory=lambda: {"a": 0, "b": 0})
    lock: threading.Lock = field(default_factory=threading.Lock)

    def work(self, holder: str, gate: Gate, until: float) -> None:
        while time.monotonic() < until:
            gate.enter(Terms(deadline=until + PATIENCE_S))
            with self.lock:
                self.inside += 1
                self.most = max(self.most, self.inside)
            time.sleep(0.005)
            with self.lock:
                self.inside -= 1
                self.done[holder] += 1
            gate.leave(None)


async def test_two_actors_never_exceed_the_quota_and_use_it_in_full(actor: QuotaActor) -> None:
    crowd = Crowd()
    gates = {holder: Gate(QUOTA, name="both") for holder in ("a", "b")}
    async with contextlib.AsyncExitStack() as stack:
        for holder, gate in gates.items():
            await stack.enter_async_context(renewed(leases(holder, {"both": gate}, Handle(actor))))
        until, loop = time.monotonic() + 2.0, asyncio.get_running_loop()
        work = [partial(crowd.work, holder, gate, until) for holder, gate in gates.items()]
        threads = stack.enter_context(ThreadPoolExecutor(8 * len(work)))
        await asyncio.gather(*(loop.run_in_executor(threads, job) for job in 8 * work))
    assert crowd.most == QUOTA.at_once
    assert min(crowd.done.values()) > 0
    assert sum(gate.demand[0] for gate in gates.values()) == 0


def test_a_request_may_outlive_the_actor_s_loop() -> None:
    gate = Gate(QUOTA, name="x")

    async def begin() -> Leases:
        return leases("a", {"x": gate}, Handle(QuotaActor({"x": QUOTA})))

    asyncio.run(begin())
    with pytest.raises(ProviderTimeout):
        gate.enter(Terms(deadline=time.monotonic() + 0.1))
