"""Stage stream: a job's rows as a response: the first before headers go out, and one for every ROI."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing

from starlette.requests import ClientDisconnect, Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from rs_embed_core.errors import RSEmbedError
from serve_app.wire.problems import unexpected
from serve_app.wire.reply import closing
from serve_app.wire.rows import Job, Row

_log = logging.getLogger(__name__)


class BodyResponse(StreamingResponse):
    """A streaming response that closes its body, then what is behind it, however it ends."""

    def __init__(
        self, body: AsyncGenerator[bytes], media_type: str, headers: dict[str, str], behind: AsyncExitStack
    ) -> None:
        super().__init__(body, headers=headers, media_type=media_type)
        self._body = body
        self._behind = behind

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it all, or as much as the caller stays for."""
        async with self._behind, aclosing(self._body):
            await super().__call__(scope, receive, send)


async def first_rows(rows: AsyncIterator[list[Row]], request: Request) -> list[Row]:
    """The first rows that come.

    Raises:
        RSEmbedError: the job as a whole failed, or there are no rows.
        ClientDisconnect: the caller left meanwhile; the rows are closed.
    """
    arrival = asyncio.ensure_future(_first(rows))
    leaving = asyncio.ensure_future(_disconnect(request))
    try:
        await asyncio.wait((arrival, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not arrival.done():
            raise ClientDisconnect
        return await arrival
    finally:
        arrival.cancel()
        leaving.cancel()
        await asyncio.gather(arrival, leaving, return_exceptions=True)


async def _first(rows: AsyncIterator[list[Row]]) -> list[Row]:
    async for some in rows:
        if some:
            return some
    raise _no_result()


def _no_result() -> RSEmbedError:
    return RSEmbedError("the service gave no result for this ROI.", retryable=True)


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def every_row(
    job: Job, first: list[Row], rows: AsyncIterator[list[Row]], *, request_id: str
) -> AsyncGenerator[list[Row]]:
    """The first rows and the rest; after a failure its error stands for every ROI that has no row yet."""
    missing = set(range(len(job.spatials)))
    error = _no_result()
    try:
        async with closing(rows):
            async for some in _joined(first, rows):
                missing.difference_update(row.index for row in some)
                yield some
    except Exception as exc:  # noqa: BLE001 - process edge: headers are out, so a failure can only be rows
        _log.exception("a stream failed", extra={"request_id": request_id, "missing": len(missing)})
        error = exc if isinstance(exc, RSEmbedError) else unexpected(exc)
    if missing:
        yield [Row(index, error=error) for index in sorted(missing)]


async def _joined(first: list[Row], rows: AsyncIterator[list[Row]]) -> AsyncGenerator[list[Row]]:
    yield first
    async for some in rows:
        yield some
