"""How a client reaches the service: ``Transport``, and HTTP. Arrow streams are decoded in threads."""

from __future__ import annotations

import asyncio
import concurrent.futures
import io
from collections.abc import AsyncGenerator, AsyncIterator, Buffer, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol
from urllib.parse import quote

import httpx2

from rs_embed_core.errors import DeadlineExceeded, JSONValue, Unavailable
from serve_app.client.calls import response_error
from serve_app.observe.tracing import caller_headers
from serve_app.wire.codecs import ARROW, read_arrow
from serve_app.wire.rows import Job, Row
from serve_app.wire.schemas import encode_job

_CONNECTIONS = 100  # at once, each with a thread while it streams; further streams wait for one
_CONNECT_S = 10.0
_SILENCE_S = 30.0  # on top of the deadline: the service ends a stream at its deadline by itself
_READ_BUFFER = 1 << 16


class Transport(Protocol):
    """One way to the service."""

    def rows(self, job: Job) -> AsyncGenerator[list[Row]]:
        """Yield the rows of a job as they come; the end is checked.

        Raises:
            IncompleteStream: rows are missing.
            Unavailable: the service is not there.
            RSEmbedError: the job as a whole cannot be done.
        """

    async def catalogue(self) -> list[dict[str, JSONValue]]:
        """``describe_model`` of every model, with the state of its variants."""

    async def describe(self, model: str) -> dict[str, JSONValue]:
        """The same of one model."""

    async def ready(self) -> dict[str, JSONValue]:
        """Whether every model is up, and the state of each."""

    async def aclose(self) -> None:
        """Let go of connections."""


class HttpTransport:
    """The service behind a URL."""

    def __init__(
        self,
        base_url: str,
        *,
        headers: Mapping[str, str] | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._url = base_url.rstrip("/")
        limits = httpx2.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=20)
        self._http = httpx2.AsyncClient(base_url=self._url, headers=headers, transport=transport, limits=limits)
        # The event loop's own few threads are everybody's; a stream keeps one while it waits for bytes.
        self._decoding = ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="decode")

    async def rows(self, job: Job) -> AsyncGenerator[list[Row]]:
        """See ``Transport``."""
        silence = (job.timeout_s or 0.0) + _SILENCE_S
        timeout = httpx2.Timeout(silence, connect=_CONNECT_S)
        asked = self._http.stream(
            "POST",
            "/v1/embeddings",
            json=encode_job(job),
            headers={"Accept": ARROW, **caller_headers()},
            timeout=timeout,
        )
        loop = asyncio.get_running_loop()
        with self._named_errors():
            async with asked as response:
                await self._check(response, ARROW)
                file = _Body(response.aiter_bytes(), loop)
                try:
                    decoded = read_arrow(io.BufferedReader(file, _READ_BUFFER))
                    while (rows := await loop.run_in_executor(self._decoding, next, decoded, None)) is not None:
                        yield rows
                finally:
                    file.stop()

    async def catalogue(self) -> list[dict[str, JSONValue]]:
        """See ``Transport``."""
        body = await self._get("/v1/models")
        models = body.get("models")
        return [model for model in models if isinstance(model, dict)] if isinstance(models, list) else []

    async def describe(self, model: str) -> dict[str, JSONValue]:
        """See ``Transport``."""
        return await self._get(f"/v1/models/{quote(model, safe='')}")

    async def ready(self) -> dict[str, JSONValue]:
        """See ``Transport``; a service that is not ready yet says so with status 503."""
        return await self._get("/readyz", but=503)

    async def aclose(self) -> None:
        """See ``Transport``."""
        await self._http.aclose()
        self._decoding.shutdown(wait=False)

    async def _get(self, path: str, *, but: int | None = None) -> dict[str, JSONValue]:
        with self._named_errors():
            response = await self._http.get(path, timeout=_SILENCE_S)
            if response.status_code != but:
                await self._check(response, "application/json")
            body = _json_of(response)
        if not isinstance(body, dict):
            raise response_error(response.status_code, body, response.headers.get("Retry-After"))
        return body

    async def _check(self, response: httpx2.Response, media_type: str) -> None:
        """Refuse anything but a result of the media type.

        Raises:
            RSEmbedError: what the problem describes.
            Unavailable: the answer of another program.
        """
        if not response.is_success:
            await response.aread()
            raise response_error(response.status_code, _json_of(response), response.headers.get("Retry-After"))
        found = response.headers.get("Content-Type", "").partition(";")[0].strip()
        if found != media_type:
            msg = f"{self._url} answered with {found or 'no media type'}, not {media_type}."
            raise Unavailable(msg, hint="Is this the address of an rs-embed service?", retryable=False)

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        """The errors of httpx2 as ours."""
        try:
            yield
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
            msg = f"{self._url!r} is not the address of a service: {error}"
            raise Unavailable(msg, hint="Give one such as http://127.0.0.1:8000.", retryable=False) from error
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            msg = f"no service answers at {self._url}."
            hint = "Start one with rs-embed serve, or correct the address."
            raise Unavailable(msg, hint=hint, code="unreachable") from error
        except httpx2.TimeoutException as error:
            msg = f"{self._url} was silent for too long."
            raise DeadlineExceeded(msg, hint="Raise timeout_s or send fewer ROIs.") from error
        except httpx2.HTTPError as error:
            msg = f"the connection to {self._url} was lost: {str(error) or type(error).__name__}."
            raise Unavailable(msg, code="connection_lost") from error


def _json_of(response: httpx2.Response) -> object:
    try:
        body: object = response.json()
    except ValueError:
        return None
    return body


class _Body(io.RawIOBase):
    """A response's body as a file for a thread: each read asks the event loop for the next piece.

    Nothing is read ahead of the decoder, so a slow consumer slows the service down and memory stays bounded.
    """

    def __init__(self, pieces: AsyncIterator[bytes], loop: asyncio.AbstractEventLoop) -> None:
        self._pieces = pieces
        self._loop = loop
        self._left = memoryview(b"")
        self._waiting: concurrent.futures.Future[bytes] | None = None
        self._stopped = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        """Fill some of the buffer; 0 at the end.

        Raises:
            ConnectionError: the connection was lost, or nobody wants the rows any more.
        """
        if not self._left:
            self._left = memoryview(self._next())
        target = memoryview(buffer).cast("B")
        count = min(len(target), len(self._left))
        target[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def _next(self) -> bytes:
        if self._stopped:
            raise ConnectionError("the stream is no longer wanted")
        self._waiting = asyncio.run_coroutine_threadsafe(self._piece(), self._loop)
        try:
            return self._waiting.result()
        except (httpx2.HTTPError, httpx2.StreamError, concurrent.futures.CancelledError) as error:
            raise ConnectionError(str(error)) from error  # the decoder says how many rows it had by then

    async def _piece(self) -> bytes:
        return await anext(self._pieces, b"")

    def stop(self) -> None:
        """Let a thread that waits for bytes go on, and fail; called on the event loop."""
        self._stopped = True
        if self._waiting is not None:
            self._waiting.cancel()
