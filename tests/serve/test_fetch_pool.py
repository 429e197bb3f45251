"""A fetch actor that is well, but whose work fails."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence

import pytest
import ray

from rs_embed_core import PointBuffer, TemporalSpec
from rs_embed_core.plan import plan
from rs_embed_core.specs.request import Ask
from serve_app.deployments.fetch_pool import RayFetchPool
from serve_app.router import Lost
from serve_app.settings import FetchSettings, ObserveSettings, ProviderSettings
from serve_app.wire.blocks import Hurry, Item

ITEM = Item(0, plan(Ask("mosaiks", temporal=TemporalSpec.year(2022)).at(PointBuffer(11.0, 48.0, 80.0))))


@ray.remote(num_cpus=0)
class Failing:
    """Stands under a fetch actor's name, and counts who asks whether it is back."""

    def __init__(self) -> None:
        self.looks = 0

    async def blocks(self, span: Sequence[Item], *_: object) -> AsyncIterator[None]:
        if span:
            raise ValueError("these cannot be stacked")
        yield

    async def pid(self) -> int:
        self.looks += 1
        return os.getpid()

    async def looked(self) -> int:
        return self.looks


@pytest.mark.usefixtures("service")
async def test_what_failed_in_a_fetch_actor_is_said_and_the_actor_stays_in_use() -> None:
    actor = Failing.options(name="failing-fetch-0").remote()
    pool = RayFetchPool("failing", FetchSettings(actors=1), ProviderSettings(), ObserveSettings())
    for _ in range(2):
        with pytest.raises(Lost, match="a fetch actor failed: ValueError: these cannot be stacked"):
            [info async for info, _ in pool.blocks([ITEM], Hurry())]
    assert await actor.looked.remote() == 0
