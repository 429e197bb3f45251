"""Stage fetch, Earth Engine: the HTTP transport that ``ee`` is given: pooled, and ending with the read's deadline."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import urllib3
from urllib3.connection import HTTPConnection
from urllib3.exceptions import HTTPError, ReadTimeoutError

from rs_embed_core.providers.calls import terms

if TYPE_CHECKING:
    import httplib2  # type: ignore[import-untyped]  # ships no types

_CONNECT_S = 5.0
_CHUNK = 1 << 20
_QUOTA_STATUS = "x-earth-engine-quota-status"


class PooledTransport:
    """What ``ee`` calls instead of ``httplib2.Http``; safe to use from many threads.

    Args:
        connections: kept open; as many as there may be requests under way.
        longest_s: for one request, where the read's deadline is not nearer.
    """

    def __init__(self, *, connections: int, longest_s: float) -> None:
        self._pool = urllib3.PoolManager(maxsize=connections)
        self._longest_s = longest_s
        self._restricted = False

    @property
    def restricted(self) -> bool:
        """Whether the service said last that the project may ask less at once, its quota being spent."""
        return self._restricted

    def request(  # noqa: PLR0913 - the signature that the client calls
        self,
        uri: str,
        method: str = "GET",
        body: str | bytes | None = None,
        headers: Mapping[str, str] | None = None,
        redirections: int | None = None,  # noqa: ARG002 - the service sends none
        connection_type: object = None,  # noqa: ARG002 - httplib2's, and ours is the pool
    ) -> tuple[httplib2.Response, bytes]:
        """The response and its whole body.

        Raises:
            TimeoutError: no whole answer before the deadline.
            ConnectionError: no connection, or one that broke.
        """
        deadline = time.monotonic() + min(self._longest_s, terms().left_s)
        try:
            response = self._send(uri, method, body, headers, deadline)
            content = _content(response, deadline)
        except ReadTimeoutError as error:
            raise TimeoutError(str(error)) from error
        except HTTPError as error:
            raise ConnectionError(str(error)) from error
        return self._answer(response), content

    def _send(
        self, uri: str, method: str, body: str | bytes | None, headers: Mapping[str, str] | None, deadline: float
    ) -> urllib3.BaseHTTPResponse:
        left_s = _left_s(deadline)
        timeout = urllib3.Timeout(connect=min(_CONNECT_S, left_s), read=left_s)
        # No retries here, not even of a redirection: one layer counts them, ``Asking``.
        return self._pool.request(
            method, uri, body=body, headers=headers, timeout=timeout, retries=False, preload_content=False
        )

    def _answer(self, response: urllib3.BaseHTTPResponse) -> httplib2.Response:
        import httplib2

        fields = {name.lower(): value for name, value in response.headers.items()}
        # The client would turn it into a Python warning at every request; here it is a fact of the chip.
        self._restricted = "parallelism_restricted=true" in fields.pop(_QUOTA_STATUS, "")
        answer = httplib2.Response({**fields, "status": str(response.status)})
        answer.reason = response.reason or f"HTTP {response.status}"  # else an error page is called "Ok"
        return answer


def _content(response: urllib3.BaseHTTPResponse, deadline: float) -> bytes:
    """The body, as it comes in: each wait ends at the deadline, also where the server sends it in drops."""
    pieces: list[bytes] = []
    connection = response.connection
    try:
        while True:
            left_s = _left_s(deadline)
            if isinstance(connection, HTTPConnection) and connection.sock is not None:
                connection.sock.settimeout(left_s)
            piece = response.read1(_CHUNK)
            if not piece:
                break
            pieces.append(piece)
    except BaseException:
        response.close()  # what is left of the body must not meet the next request
        raise
    response.release_conn()
    return b"".join(pieces)


def _left_s(deadline: float) -> float:
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise TimeoutError("the request's deadline passed")
    return left_s
