"""The fetch actors and encoder deployments as the router sees them: Ray's errors become ``Lost`` or typed ones.

The private names of Ray that this needs are all in this file.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import ray
from ray import serve
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    ObjectLostError,
    OwnerDiedError,
    RayActorError,
    RayError,
    RayTaskError,
    TaskCancelledError,
)
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.schema import DeploymentStatusOverview

from rs_embed_core.card import Selection
from rs_embed_core.errors import ForwardError, JSONValue, RSEmbedError, Unavailable
from serve_app.deployments.fetcher import Fetcher
from serve_app.router import Lost, PayloadLost, Reference
from serve_app.settings import FetchSettings, ProviderSettings
from serve_app.wire.blocks import BlockInfo, Encoded, Item

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

_log = logging.getLogger(__name__)
_STATUS_AGE_S = 1.0
_WATCH_S = 5.0  # serve.status() costs the router some 20 ms
_STATUS_TIMEOUT_S = 2.0
_RETURN_S, _RETURN_STEP_S = 60.0, 0.25  # of a dead fetch actor: longest wait, between looks

_REFETCH = (ObjectLostError, OwnerDiedError)
_RESEND = (RayActorError, ActorUnavailableError)


class RayFetchPool:
    """The application's fetch actors: named, shared by all its routers, restarted by Ray.

    Args:
        name: the application; actors are called ``<name>-fetch-<i>``.
    """

    def __init__(self, name: str, settings: FetchSettings, providers: ProviderSettings) -> None:
        self._name = name
        self._settings = settings
        self._providers = providers
        self._actors = [self._actor(i) for i in range(settings.actors)]
        self._load = [0] * settings.actors
        self._returning: dict[int, asyncio.Task[None]] = {}

    @property
    def size(self) -> int:
        """How many actors there are."""
        return len(self._actors)

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
            .remote(self._settings, self._providers)
        )

    async def blocks(self, span: Sequence[Item]) -> AsyncIterator[tuple[BlockInfo, Reference]]:
        """Yield a span's blocks as the least loaded actor has them; the payloads stay in the object store.

        Raises:
            Lost: the actor died; what was not yielded may be sent again.
        """
        generator = None
        actor = await self._pick()
        self._load[actor] += len(span)
        left = len(span)
        try:
            generator = self._actors[actor].blocks.options(num_returns="streaming").remote(list(span))
            references = aiter(generator)
            async for payload in references:
                # What is read comes second: where it arrived, the payload before it was no dying actor's error.
                info: BlockInfo = await (await anext(references))
                left -= len(info.items)
                self._load[actor] -= len(info.items)
                yield info, payload
            if left:
                raise Lost("a fetch actor ended early")
        except (*_RESEND, StopAsyncIteration) as error:
            self._miss(actor)
            raise Lost(f"a fetch actor died: {error}".splitlines()[0]) from error
        except _REFETCH as error:
            raise Lost(f"imagery was lost: {error}".splitlines()[0]) from error
        finally:
            self._load[actor] -= left
            if generator is not None and left:
                with contextlib.suppress(Exception):
                    ray.cancel(generator)

    async def _pick(self) -> int:
        """The least loaded actor of those that are up; only where none is, the first to return is waited for.

        Work that is sent to an actor on its way back is lost again at once, and may be sent a few times only.
        """
        while len(self._returning) == self.size:
            await asyncio.wait(self._returning.values(), return_when=asyncio.FIRST_COMPLETED)
        return min((i for i in range(self.size) if i not in self._returning), key=self._load.__getitem__)

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


class StatusBoard:
    """``serve.status()`` of one application, read at most once a second and off the event loop."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._read_at = float("-inf")
        self._states: Mapping[str, Mapping[str, JSONValue]] = {}
        self._lock = asyncio.Lock()

    async def of(self, deployment: str) -> Mapping[str, JSONValue]:
        """What ``_state_of`` says of a deployment; empty while Serve does not know it."""
        async with self._lock:
            if time.monotonic() - self._read_at > _STATUS_AGE_S:
                self._states = await asyncio.to_thread(self._read)
                self._read_at = time.monotonic()
        return self._states.get(deployment, {})

    def _read(self) -> Mapping[str, Mapping[str, JSONValue]]:
        application = serve.status().applications.get(self._name)
        if application is None:
            return {}
        return {name: _state_of(deployment) for name, deployment in application.deployments.items()}


def _state_of(deployment: DeploymentStatusOverview) -> dict[str, JSONValue]:
    """Running replicas, whether it sleeps or cannot start, and Serve's message.

    A deployment whose replica died is unhealthy too, but a new replica is on its way.
    """
    status = str(deployment.status.value)
    unhealthy = status in ("UNHEALTHY", "DEPLOY_FAILED")
    return {
        "running": sum(n for kind, n in deployment.replica_states.items() if kind == "RUNNING"),
        "asleep": status == "HEALTHY",
        "failed": unhealthy and deployment.status_trigger != "HEALTH_CHECK_FAILED",
        "message": deployment.message,
    }


class ServeEncoder:
    """One encoder deployment, called by reference.

    Args:
        handle: of the deployment.
        start_timeout_s: longest wait for its first replica.
    """

    def __init__(self, handle: DeploymentHandle[Any], board: StatusBoard, *, start_timeout_s: float) -> None:
        # A handle that carries references must not use the gRPC transport: it would send the imagery by value
        # and never free it (ray_serve_notes.md, finding 3).
        self._handle = handle.options(_by_reference=True)
        self._name = handle.deployment_name
        self._board = board
        self._start_timeout_s = start_timeout_s

    async def encode(self, payloads: Sequence[Reference], selection: Selection) -> Encoded:
        """Compute a group of blocks.

        Raises:
            Lost: the replica died; the group may be sent again.
            PayloadLost: imagery is gone from the object store.
            Unavailable: the deployment has failed, or has no replica in time.
            RSEmbedError: what the replica raised.
        """
        response = self._handle.encode.remote(list(payloads), selection)
        call = asyncio.ensure_future(_result(response))
        try:
            await self._watch(call)
            return await call
        except _REFETCH as error:
            raise PayloadLost(str(error).splitlines()[0]) from error
        except _RESEND as error:
            raise Lost(str(error).splitlines()[0]) from error
        except (BackPressureError, DeploymentUnavailableError) as error:
            raise Unavailable(f"{self._name} is not up: {error}", hint="Try again later.") from error
        except TaskCancelledError as error:
            raise Lost("the call was cancelled") from error
        except RayTaskError as error:
            raise _cause(error) from error
        finally:
            if not call.done():
                call.add_done_callback(_heard)
                with contextlib.suppress(Exception):  # cancel() may raise what the assignment failed with
                    response.cancel()  # type: ignore[no-untyped-call]  # Ray's

    async def _watch(self, call: asyncio.Future[Encoded]) -> None:
        """Return when the call is done.

        Serve never answers a caller who waits for a replica that cannot start, so its status is read meanwhile.
        """
        started = time.monotonic()
        while not call.done():
            await asyncio.wait({call}, timeout=min(_WATCH_S, self._start_timeout_s))
            if call.done():
                return
            state = await self._board.of(self._name)
            if state.get("running"):
                started = time.monotonic()
                continue
            if state.get("failed"):
                raise Unavailable(f"{self._name} failed to start: {state.get('message')}", retryable=False)
            if time.monotonic() - started >= self._start_timeout_s:
                raise Unavailable(
                    f"{self._name} had no replica within {self._start_timeout_s:g} s.",
                    hint="The cluster has no room for it now; try again later.",
                )

    async def pid(self) -> int | None:
        """Process of one of the replicas; None where there is none: asking would start one."""
        if not (await self._board.of(self._name)).get("running"):
            return None
        state = await self._handle.status.remote()
        return int(state["pid"])

    async def status(self) -> dict[str, JSONValue]:
        """State for the catalogue: ``ready``, ``starting``, ``sleeping``, ``failed`` or ``no_weights``."""
        state = await self._board.of(self._name)
        out: dict[str, JSONValue] = {"replicas": state.get("running", 0), "message": state.get("message", "")}
        if not state.get("running"):
            asleep, failed = state.get("asleep"), state.get("failed")
            return out | {"status": "sleeping" if asleep else "failed" if failed else "starting"}
        try:
            async with asyncio.timeout(_STATUS_TIMEOUT_S):
                replica = await self._handle.status.remote()
        except (TimeoutError, RayActorError, BackPressureError, DeploymentUnavailableError):
            return out | {"status": "starting"}
        return out | {
            "status": replica["state"],
            "message": replica["message"] or "",
            "waiting_samples": replica["waiting"],
            "device": replica["device"],
            "batch_size": replica["batch_size"],
            "forward_cpu_s": replica["forward_cpu_s"],
        }


async def _result(response: Any) -> Encoded:  # noqa: ANN401 - DeploymentResponse has no static result type
    encoded: Encoded = await response
    return encoded


def _heard(call: asyncio.Future[Encoded]) -> None:
    """Take note of a cancelled call's error, which nobody waits for any more."""
    if not call.cancelled():
        call.exception()


def _cause(error: RayTaskError) -> RSEmbedError:
    """The library's own error behind a remote failure, or a ``ForwardError`` that names the other one."""
    cause = error.cause if isinstance(error.cause, Exception) else error
    if isinstance(cause, RSEmbedError):
        return cause
    if isinstance(error, RSEmbedError):  # Ray raises a class that is both
        return error
    return ForwardError(f"the encoder failed: {type(cause).__name__}: {str(cause).splitlines()[0]}")
