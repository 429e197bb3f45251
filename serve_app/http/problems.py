"""Errors as HTTP responses: ``application/problem+json``, whatever went wrong."""

from __future__ import annotations

import math
from http import HTTPStatus

from starlette.responses import Response

from rs_embed_core.errors import JSONValue, Overloaded, RSEmbedError
from serve_app.observe.jobs import count_answer
from serve_app.wire.problems import PROBLEM_JSON, problem_json, status_of, to_problem


def problem_response(
    error: RSEmbedError, *, instance: str | None, pointer: str | None = None, status: int | None = None
) -> Response:
    """The response of an error, counted; with Retry-After where waiting helps."""
    status = status or status_of(error)
    count_answer(error, status)
    problem = to_problem(error, instance=instance, pointer=pointer, status=status)
    wait_s = _wait_s(error, status)
    headers = {} if wait_s is None else {"Retry-After": str(math.ceil(wait_s))}  # whole seconds, RFC 9110
    return _response(problem, status, headers)


def plain_problem(status: int, detail: str, *, instance: str | None, headers: dict[str, str]) -> Response:
    """The response where HTTP itself says it all: no such route, another method."""
    title = HTTPStatus(status).phrase
    problem: dict[str, JSONValue] = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "code": title.lower().replace(" ", "_"),
        "retryable": False,
    }
    return _response(problem if instance is None else problem | {"instance": instance}, status, headers)


def _response(problem: dict[str, JSONValue], status: int, headers: dict[str, str]) -> Response:
    return Response(problem_json(problem), status, {"Cache-Control": "no-store", **headers}, PROBLEM_JSON)


def _wait_s(error: RSEmbedError, status: int) -> float | None:
    said = error.context.get("retry_after_s")
    if isinstance(said, int | float) and not isinstance(said, bool) and 0 <= said < math.inf:
        return said
    if isinstance(error, Overloaded):
        return 1
    return 5 if error.retryable and status == HTTPStatus.SERVICE_UNAVAILABLE else None
