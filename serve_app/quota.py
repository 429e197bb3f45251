"""Stage fetch: how one project's quota is shared out among all fetch actors of the cluster. Pure: no Ray, no clock.

Each actor's gate lets through no more than its part. An actor says again and again what it needs; its part follows.
The parts never add up to more than the quota, and what an actor has under way counts until it is done.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from rs_embed_core.providers.gate import Allowance, Quota

TTL_S = 3.0  # of a part: an actor that has not been heard of for so long is dead, and its part is free again


@dataclass(frozen=True)
class Need:
    """What one actor says.

    Attributes:
        inside: requests under way.
        waiting: requests that wait for a slot.
        cuts: complaints of the service since the actor started.
        part: what the actor holds by its own account; a registry that was restarted learns it from this.
    """

    inside: int
    waiting: int
    cuts: int
    part: int


@dataclass(frozen=True)
class Part:
    """What one actor may do until it asks again, at most ``TTL_S`` long."""

    at_once: int
    per_second: float


@dataclass
class _Holder:
    need: Need
    part: int
    heard_at: float

    @property
    def reserved(self) -> int:
        # Until it has heard of a smaller part, an actor lets in as many as it held.
        return max(self.part, self.need.inside, self.need.part)

    @property
    def wanted(self) -> int:
        return self.need.inside + self.need.waiting


@dataclass
class Shares:
    """The parts of one quota.

    Args:
        quota: of the project.
        born_at: monotonic seconds; for ``TTL_S`` from then nothing new is given out, because actors may hold parts
            that a former registry gave them.
    """

    quota: Quota
    born_at: float
    _holders: dict[str, _Holder] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._allowance = Allowance(self.quota.at_once)

    def renew(self, name: str, need: Need, now: float) -> Part:
        """The actor's new part.

        Args:
            name: of the actor, unique to its process.
            now: monotonic seconds.
        """
        self._forget(now)
        old = self._holders.get(name)
        if need.cuts > (0 if old is None else old.need.cuts):
            self._allowance.cut()
        holder = self._holders[name] = _Holder(need, need.part, now)
        holder.part = self._granted(name, holder, now)
        return Part(holder.part, self.quota.per_second * holder.part / self.quota.at_once)

    def _granted(self, name: str, holder: _Holder, now: float) -> int:
        total = self._allowance.limit
        others = [other for key, other in self._holders.items() if key != name]
        free = total - sum(other.reserved for other in others)
        if now - self.born_at < TTL_S:
            free = min(free, holder.need.part)
        fair = math.ceil(total / (1 + sum(other.wanted > 0 for other in others)))
        starving = any(other.wanted > other.part for other in others)
        return max(0, min(holder.wanted, free, fair if starving else total))

    def _forget(self, now: float) -> None:
        for key in [key for key, holder in self._holders.items() if now - holder.heard_at > TTL_S]:
            del self._holders[key]
