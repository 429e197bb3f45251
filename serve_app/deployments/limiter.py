"""Stage fetch: ``QuotaActor`` shares out the quota of each service; ``Leases`` is the side of the fetch actors."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import ray
from ray.exceptions import ActorDiedError, ActorUnschedulableError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from rs_embed_core.providers.gate import Gate, Quota
from serve_app.observe import metrics
from serve_app.quota import TTL_S, Need, Part, Shares

_log = logging.getLogger(__name__)
_BUSY_S, _IDLE_S = 0.2, 1.0  # between renewals; both well below the life of a part


class QuotaActor:
    """One per application: whoever reads from a service with a quota holds a part of it from here."""

    def __init__(self, quotas: Mapping[str, Quota]) -> None:
        born = time.monotonic()
        self._shares = {service: Shares(quota, born) for service, quota in quotas.items()}

    async def renew(self, holder: str, needs: Mapping[str, Need]) -> dict[str, Part]:
        """The holder's new parts, by service."""
        now = time.monotonic()
        return {service: self._shares[service].renew(holder, need, now) for service, need in needs.items()}


def quota_actor(name: str, quotas: Mapping[str, Quota]) -> Any:  # noqa: ANN401 - Ray's handles have no static type
    """The quota actor of this name, started where there is none; Ray ends it with the process that started it.

    It sits on that process's node, with which it would end anyway. It reserves nothing, so Ray would put it anywhere
    (a soft affinity too): on a node with a GPU it would keep that node up for ever.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options = {"name": name, "get_if_exists": True, "num_cpus": 0, "max_restarts": -1, "max_concurrency": 1000}
    return ray.remote(QuotaActor).options(**options, scheduling_strategy=here).remote(dict(quotas))


class Leases:
    """Keeps the gates of one fetch actor at the parts that the quota actor gives it.

    A part that cannot be renewed in time is over: another actor may have it by then.

    Args:
        holder: a name unique to this process.
        gates: by service; nothing passes them before the first part has come.
        find: gives the handle of the quota actor; called again when that has died.
    """

    def __init__(
        self,
        holder: str,
        gates: Mapping[str, Gate],
        find: Callable[[], Any],  # Any: Ray's handle
    ) -> None:
        self._holder = holder
        self._gates = gates
        self._find = find
        self._quota = find()
        self._parts = dict.fromkeys(gates, 0)
        self._complaints = dict.fromkeys(gates, 0)
        self._renewed_at = time.monotonic()
        self._starved = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        for gate in gates.values():
            gate.resize(0, 0.0)
            gate.on_wait = self._starve

    def _starve(self) -> None:
        """Called in the thread of a request that finds no slot."""
        with contextlib.suppress(RuntimeError):  # the loop has closed: the actor is at its end
            self._loop.call_soon_threadsafe(self._starved.set)

    async def run(self) -> None:
        """Renew until cancelled: regularly, and at once when a request finds no slot."""
        while True:
            self._starved.clear()
            needs = {name: self._need(name, gate) for name, gate in self._gates.items()}
            try:
                async with asyncio.timeout(TTL_S / 2):
                    self._apply(await self._quota.renew.remote(self._holder, needs))
            except (RayError, TimeoutError) as error:
                metrics.LIMITER_LOST_RENEWALS.add(1)
                _log.warning("the quota actor does not answer", extra={"error": str(error).partition("\n")[0]})
                self._expire()
                # With the router that owned it, or its node went: whoever finds out starts another.
                if isinstance(error, (ActorDiedError, ActorUnschedulableError)):
                    with contextlib.suppress(RayError, ValueError):  # another may be about to do the same
                        self._quota = self._find()
                await asyncio.sleep(_BUSY_S)
            busy = any(need.inside or need.waiting or need.part for need in needs.values())
            await self._pause(_BUSY_S if busy else _IDLE_S, hungry=any(need.waiting for need in needs.values()))

    def _need(self, name: str, gate: Gate) -> Need:
        inside, waiting, cuts = gate.demand
        for state, number in (("inside", inside), ("waiting", waiting), ("part", self._parts[name])):
            metrics.LIMITER_REQUESTS.set(number, name, state)
        metrics.LIMITER_BROKEN.set(float(gate.broken), name)
        metrics.LIMITER_COMPLAINTS.add(cuts - self._complaints[name], name)
        self._complaints[name] = cuts
        return Need(inside, waiting, cuts, self._parts[name])

    def _apply(self, parts: Mapping[str, Part]) -> None:
        self._renewed_at = time.monotonic()
        for name, part in parts.items():
            self._parts[name] = part.at_once
            self._gates[name].resize(part.at_once, part.per_second)

    def _expire(self) -> None:
        if time.monotonic() - self._renewed_at > TTL_S:
            for name, gate in self._gates.items():
                self._parts[name] = 0
                gate.resize(0, 0.0)

    async def _pause(self, seconds: float, *, hungry: bool) -> None:
        """Sleep; a request that finds no slot ends it, unless some had to wait anyway."""
        if hungry:
            await asyncio.sleep(seconds)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._starved.wait()
