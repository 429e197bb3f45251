"""Stages request and stream: ``POST /v1/embeddings``."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack

from starlette.requests import Request
from starlette.responses import Response

from rs_embed_core.errors import UnsupportedMedia
from serve_app.http.accept import negotiate
from serve_app.http.middleware import request_id_of
from serve_app.http.problems import problem_response
from serve_app.http.rows import BodyResponse, every_row, first_rows
from serve_app.observe.jobs import refusals_counted
from serve_app.wire.codecs import Reply, encode_stream
from serve_app.wire.reply import closing
from serve_app.wire.rows import Service
from serve_app.wire.schemas import Limits, body_too_large, decode
from serve_app.wire.shapes import is_uniform


async def embed(request: Request, service: Service, limits: Limits) -> Response:
    """The rows of a job, in the media type that the caller accepts.

    Raises:
        RSEmbedError: the request is wrong, or the job as a whole failed.
        ClientDisconnect: the caller left before the first row.
    """
    started, request_id = time.perf_counter(), request_id_of(request)
    try:
        with refusals_counted():
            media_type = negotiate(request.headers.get("accept"))
    except UnsupportedMedia as error:
        return problem_response(error, instance=request_id, status=406)
    with refusals_counted():
        body = await read_body(request, limits)
        job = decode(body, content_type=request.headers.get("content-type"), limits=limits)
    decoded = time.perf_counter()
    rows = service.run(job)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(closing(rows))
        first = await first_rows(rows, request)
        if job.single and first[0].error is not None:
            return problem_response(first[0].error, instance=request_id, pointer="/spatial")
        arrived = time.perf_counter()
        timing = f"decode;dur={1e3 * (decoded - started):.1f}, first;dur={1e3 * (arrived - decoded):.1f}"
        reply = Reply(job, uniform=is_uniform(job), instance=request_id)
        stream = encode_stream(media_type, reply, every_row(job, first, rows, request_id=request_id))
        return BodyResponse(stream, media_type, {"Server-Timing": timing, "Vary": "Accept"}, stack.pop_all())


async def read_body(request: Request, limits: Limits) -> bytes:
    """The body, read only as far as the limit.

    Raises:
        BatchTooLong: it is larger, or says so.
    """
    said = request.headers.get("content-length", "")
    if said.isdecimal() and int(said) > limits.max_body_bytes:
        raise body_too_large(limits)
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > limits.max_body_bytes:
            raise body_too_large(limits)
    return bytes(body)
