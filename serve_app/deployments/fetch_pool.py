"""The fetch actors as the router sees them: Ray's errors become ``Lost``."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

import ray
from ray.exceptions import ActorDiedError, RayError

from serve_app.deployments.fetcher import Fetcher
from serve_app.deployments.limiter import quota_actor
from serve_app.deployments.ray_errors import REFETCH, RESEND, first_line
from serve_app.flow import fair_share
from serve_app.observe.origin import origin
from serve_app.router import Lost, Reference
from serve_app.settings import FetchSettings, ObserveSettings, ProviderSettings
from serve_app.wire.blocks import BlockInfo, Hurry, Item

_log = logging.getLogger(__name__)
_LAG = 128  # ROIs that a home may be behind: some places are then read twice, but no job waits for a slow actor
_RETURN_S, _RETURN_STEP_S = 60.0, 0.25  # of a dead fetch actor: longest wait, between looks


class RayFetchPool:
    """The application's fetch actors: named, shared by all its routers, restarted by Ray.

    Args:
        name: the application; actors are called ``<name>-fetch-<i>``.
        observe: logs and traces of the actors.
    """

    def __init__(
        self, name: str, settings: FetchSettings, providers: ProviderSettings, observe: ObserveSettings
    ) -> None:
        self._name = name
        self._observe = observe
        self._settings = settings
        self._providers = providers
        self._quota = f"{name}-quota" if providers.quotas else None
        # Its first handle: Ray ends it with that.
        self._owned = quota_actor(self._quota, providers.quotas) if self._quota else None
        self._actors = [self._actor(i) for i in range(settings.actors)]
        self._load = [0] * settings.actors
        self._returning: dict[int, asyncio.Task[None]] = {}

    @property
    def size(self) -> int:
        """How many actors there are."""
        return len(self._actors)

    def share(self, left: int) -> int:
        """What the next actor may take of ``left`` ROIs so that in the end all have the same to do."""
        return fair_share([self._load[actor] for actor in self._up()] or [0], left)

    def _up(self) -> list[int]:
        """The actors that are not on their way back."""
        return [actor for actor in range(len(self._actors)) if actor not in self._returning]

    async def pids(self) -> list[int]:
        """The actors' processes."""
        return [await actor.pid.remote() for actor in self._actors]

    def _actor(self, index: int) -> Any:  # noqa: ANN401 - Ray's actor handles have no static type
        return (
            ray.remote(Fetcher)
            .options(
                name=f"{self._name}-fetch-{index}",
                get_if_exists=True,
                num_cpus=self._settings.num_cpus,
                resources=dict(self._settings.resources),
                max_restarts=-1,
                max_concurrency=1000,  # the actor bounds its own reads; calls only wait in its loop
                scheduling_strategy="SPREAD",
            )
            .remote(self._settings, self._providers, self._quota, self._observe, self._name)
        )

    async def blocks(
        self, span: Sequence[Item], hurry: Hurry, *, home: int | None = None
    ) -> AsyncIterator[tuple[BlockInfo, Reference]]:
        """Yield a span's blocks as its actor has them; the payloads stay in the object store.

        Raises:
            Lost: the actor died or failed; what was not yielded may be sent again.
        """
        generator = None
        actor = await self._pick(home)
        self._load[actor] += len(span)
        left = len(span)
        try:
            call = self._actors[actor].blocks.options(num_returns="streaming")
            generator = call.remote(list(span), hurry, origin())
            references = aiter(generator)
            async for payload in references:
                # What is read comes second: where it arrived, the payload before it was no dying actor's error.
                # Where nothing comes second, what came is the error that ended the actor's generator.
                info: BlockInfo = await (await anext(references, payload))
                left -= len(info.items)
                self._load[actor] -= len(info.items)
                yield info, payload
            if left:
                raise Lost("a fetch actor ended early")
        except RESEND as error:
            self._miss(actor)
            raise Lost(f"a fetch actor died: {first_line(error)}") from error
        except REFETCH as error:
            raise Lost(f"imagery was lost: {first_line(error)}") from error
        except RayError as error:
            _log.exception("a fetch actor failed", extra={"actor": actor})
            raise Lost(f"a fetch actor failed: {first_line(error)}") from error
        finally:
            self._load[actor] -= left
            if generator is not None and left:
                with contextlib.suppress(Exception):
                    ray.cancel(generator)

    async def _pick(self, home: int | None) -> int:
        """The home, or the least loaded actor where there is none, it is down, or it lags far behind.

        Only where no actor is up the first to return is waited for.

        Work that is sent to an actor on its way back is lost again at once, and may be sent a few times only.
        """
        while not (up := self._up()):
            await asyncio.wait(self._returning.values(), return_when=asyncio.FIRST_COMPLETED)
        least = min(up, key=self._load.__getitem__)
        lags = home is None or home not in up or self._load[home] - self._load[least] > _LAG
        return least if home is None or lags else home

    def _miss(self, actor: int) -> None:
        """Send nothing to an actor until it is back."""
        if actor not in self._returning:
            self._returning[actor] = asyncio.get_running_loop().create_task(self._back(actor))

    async def _back(self, actor: int) -> None:
        """Return when an actor answers again, or is not expected to."""
        try:
            async with asyncio.timeout(_RETURN_S):
                while not await self._answers(actor):  # noqa: ASYNC110 - Ray has no event for it
                    await asyncio.sleep(_RETURN_STEP_S)
        except TimeoutError:
            _log.warning("a fetch actor does not return", extra={"actor": actor})
        finally:
            del self._returning[actor]

    async def _answers(self, actor: int) -> bool:
        """Whether an actor answers; one that died for good, with the router that owned it, is made anew.

        A handle is kept as long as its actor can come back: Ray ends an actor with its first handle, and one
        that is got by name does not count.
        """
        try:
            await self._actors[actor].pid.remote()
        except ActorDiedError:
            with contextlib.suppress(RayError, ValueError):  # another router may be about to do the same
                self._actors[actor] = self._actor(actor)
        except RayError:
            pass
        else:
            return True
        return False
