"""The edge of the HTTP application: every request has an id and a trace, and no exception leaves without a problem."""

from __future__ import annotations

import logging
import re
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.http.problems import problem_response
from serve_app.observe import tracing
from serve_app.observe.origin import Origin, under
from serve_app.wire.problems import unexpected

_log = logging.getLogger(__name__)
_ROUTE = "/v1/embeddings"
_SAFE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")  # it goes into headers, logs and problems


def request_id_of(request: HTTPConnection) -> str:
    """The id that ``RequestEdge`` gave the request."""
    value: str = request.state.request_id
    return value


class RequestEdge:
    """Takes the caller's X-Request-ID or makes one; turns unexpected exceptions into problems.

    Attributes:
        echo: whether the id goes out again; not under Ray Serve, which adds the same header itself.
    """

    def __init__(self, app: ASGIApp, *, echo: bool = True) -> None:
        self._app = app
        self._echo = echo

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _SAFE_ID.fullmatch(given) else uuid.uuid4().hex
        if given and request_id != given:
            _log.info(
                "a caller's request id cannot be used", extra={"request_id": request_id, "given": ascii(given[:200])}
            )
        scope.setdefault("state", {})["request_id"] = request_id
        work = tracing.Work(Origin(request_id))
        if scope["method"] == "POST":  # what a probe asks is not worth a trace
            name = _ROUTE if scope["path"].endswith(_ROUTE) else "POST"  # a path that nobody knows is no name
            work = tracing.begin_request(name, request_id, headers.get("traceparent"))
        with under(work.origin):
            try:
                await self._answer(scope, receive, send, work)
            finally:
                work.end()

    async def _answer(self, scope: Scope, receive: Receive, send: Send, work: tracing.Work) -> None:
        request_id, started = work.origin.request_id, False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                self._mark(message, work)
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except ClientDisconnect:
            _log.info("the caller left", extra={"request_id": request_id})
        except Exception as error:  # the process edge: the caller gets a problem, the log gets the rest
            _log.exception("a request failed", extra={"request_id": request_id, "path": scope["path"]})
            if started:  # too late for a status: the server must cut the body, so that it does not look whole
                work.fail(type(error).__name__)
                raise
            response = problem_response(unexpected(error), instance=request_id)
            await response(scope, receive, send_with_id)

    def _mark(self, start: Message, work: tracing.Work) -> None:
        """The headers that let a caller find the request again: its id, and its span."""
        headers = MutableHeaders(scope=start)
        if self._echo:
            headers["X-Request-ID"] = work.origin.request_id
        if work.origin.traceparent is not None:
            headers["traceresponse"] = work.origin.traceparent  # W3C Trace Context, level 2
        work.note({"status": start["status"]})
        if start["status"] >= 500:
            work.fail(str(start["status"]))
