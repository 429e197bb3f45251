"""The encoder deployments as the router sees them: Ray's errors become ``Lost`` or typed ones.

The private name of Ray that this needs is in this file alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ray import serve
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException
from ray.serve.schema import DeploymentStatusOverview, ServeStatus

from rs_embed_core.card import Selection
from rs_embed_core.errors import ForwardError, JSONValue, RSEmbedError, Unavailable
from serve_app.deployments.ray_errors import REFETCH, RESEND, first_line
from serve_app.observe.origin import origin
from serve_app.router import Lost, PayloadLost, Reference
from serve_app.wire.blocks import Encoded

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

_log = logging.getLogger(__name__)
_STATUS_AGE_S = 1.0
_WATCH_S = 5.0  # serve.status() costs the router some 20 ms
_STATUS_TIMEOUT_S = 2.0


class StatusBoard:
    """``serve.status()`` of one application, read at most once a second and off the event loop.

    Serve's controller does not answer while the cluster's head restarts: what it said last holds meanwhile.

    Args:
        name: of the application.
        look: asks the controller; may block.
    """

    def __init__(self, name: str, look: Callable[[], ServeStatus] = serve.status) -> None:
        self._name = name
        self._look = look
        self._read_at = float("-inf")
        self._states: Mapping[str, Mapping[str, JSONValue]] = {}
        self._reading: asyncio.Task[None] | None = None

    async def of(self, deployment: str) -> Mapping[str, JSONValue]:
        """What ``_state_of`` says of a deployment; empty while Serve does not know it."""
        if time.monotonic() - self._read_at > _STATUS_AGE_S:
            if self._reading is None or self._reading.done():  # all who wait share it: it may hold its thread for long
                self._reading = asyncio.create_task(self._read())
            done, _ = await asyncio.wait({self._reading}, timeout=_STATUS_TIMEOUT_S)
            for reading in done:
                reading.result()  # raises what nobody thought of
        return self._states.get(deployment, {})

    async def _read(self) -> None:
        try:
            application = (await asyncio.to_thread(self._look)).applications.get(self._name)
        except (RayError, RayServeException):
            _log.warning("Serve's controller does not say how its deployments are", exc_info=True)
        else:
            deployments = {} if application is None else application.deployments
            self._states = {name: _state_of(deployment) for name, deployment in deployments.items()}
        self._read_at = time.monotonic()


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

    async def encode(self, payloads: Sequence[Reference], selection: Selection, *, bulk: bool = True) -> Encoded:
        """Compute a group of blocks.

        Args:
            bulk: of a long job: those of short ones go first.

        Raises:
            Lost: the replica died; the group may be sent again.
            PayloadLost: imagery is gone from the object store.
            Unavailable: the deployment has failed, or has no replica in time.
            RSEmbedError: what the replica raised.
        """
        response = self._handle.encode.remote(list(payloads), selection, origin(), bulk=bulk)
        call = asyncio.ensure_future(_result(response))
        try:
            await self._watch(call)
            return await call
        except REFETCH as error:
            raise PayloadLost(first_line(error)) from error
        except RESEND as error:
            raise Lost(first_line(error)) from error
        except (BackPressureError, DeploymentUnavailableError) as error:
            raise Unavailable(f"{self._name} is not up: {error}", hint="Try again later.") from error
        except RayTaskError as error:
            raise _cause(error) from error
        except RayError as error:  # cancelled, or what nobody thought of: a few times more, then it is a problem
            raise Lost(first_line(error)) from error
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
        while (state := await self._state(call)) is not None:
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

    async def _state(self, call: asyncio.Future[Encoded]) -> Mapping[str, JSONValue] | None:
        """The deployment's state a while from now; None as soon as the call is done."""
        await asyncio.wait({call}, timeout=min(_WATCH_S, self._start_timeout_s))
        if call.done():
            return None
        look = asyncio.create_task(self._board.of(self._name))
        either: set[asyncio.Future[Any]] = {call, look}  # mypy wants one type of result
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            return None if call.done() else look.result()
        finally:
            look.cancel()

    async def pid(self) -> int | None:
        """Process of one of the replicas; None where there is none: asking would start one."""
        if not (await self._board.of(self._name)).get("running"):
            return None
        state = await self._handle.status.remote()
        return int(state["pid"])

    async def status(self) -> dict[str, JSONValue]:
        """State for the catalogue: ``ready``, ``busy``, ``starting``, ``sleeping``, ``failed`` or ``no_weights``."""
        state = await self._board.of(self._name)
        out: dict[str, JSONValue] = {"replicas": state.get("running", 0), "message": state.get("message", "")}
        if not state.get("running"):
            asleep, failed = state.get("asleep"), state.get("failed")
            return out | {"status": "sleeping" if asleep else "failed" if failed else "starting"}
        response = self._handle.status.remote()
        try:
            async with asyncio.timeout(_STATUS_TIMEOUT_S):
                replica = await response
        except (TimeoutError, BackPressureError):  # a look waits for one of the replica's slots, as groups do
            with contextlib.suppress(Exception):  # cancel() may raise what the assignment failed with
                response.cancel()  # type: ignore[no-untyped-call]  # Ray's
            return out | {"status": "busy"}
        except (*RESEND, DeploymentUnavailableError):
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
    return ForwardError(f"the encoder failed: {type(cause).__name__}: {first_line(cause)}")
