"""A look at the fetch actors from outside: how many reads they have begun."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import ray

from rs_embed_core.chip import Chip, FetchPlan
from rs_embed_core.providers import get_provider, register_provider
from rs_embed_core.providers.base import Provider
from serve_app.deployments.fetcher import Fetcher


@dataclass
class Counting:
    """A provider that counts its reads."""

    provider: Provider
    name: str = "synthetic"
    reads: list[FetchPlan] = field(default_factory=list)

    def fetch(self, plan: FetchPlan) -> Chip:
        self.reads.append(plan)
        return self.provider.fetch(plan)


def _reads(fetcher: Fetcher) -> int:
    """Run in the actor: the reads since the first call."""
    provider = get_provider("synthetic")
    if not isinstance(provider, Counting):
        provider = Counting(provider)
        register_provider("synthetic", provider)
    return len(provider.reads)


def reads(application: str) -> int:
    """Reads that the application's fetch actors have begun since the first call."""
    named = ray.util.list_named_actors(all_namespaces=True)
    actors = [ray.get_actor(**entry) for entry in named if entry["name"].startswith(f"{application}-fetch-")]
    assert actors
    return sum(ray.get([actor.__ray_call__.remote(_reads) for actor in actors], timeout=30))


def reads_at_rest(application: str, *, quiet_s: float, within_s: float = 20) -> int:
    """The reads when none has begun for a while."""
    deadline = time.monotonic() + within_s
    before, now = -1, reads(application)
    while before != now:
        assert time.monotonic() < deadline, "the reads go on"
        time.sleep(quiet_s)
        before, now = now, reads(application)
    return now
