"""Stage stream: rows as JSON text: one document, or one line per row. For people, browsers and curl."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_json

from serve_app.wire.reply import Reply, Summary, closing
from serve_app.wire.rows import Row

_PIECE_BYTES = 65_536
_AT_ONCE = 8192  # numbers written without a pause: a millisecond or two
_DIGITS = {"float32": 9, "float16": 5}  # significant ones that name every value exactly


async def ndjson_stream(reply: Reply, rows: AsyncIterator[list[Row]]) -> AsyncGenerator[bytes]:
    """One object per line: ``index`` with ``embedding`` and ``meta``, or ``problem``; last ``summary``."""
    summary, lines = Summary(), bytearray()
    async with closing(rows):
        async for some in rows:
            for row in some:
                lines += b'{"index":%d,' % row.index
                for part in _outcome(reply, row, summary):
                    lines += part
                    if len(lines) >= _PIECE_BYTES:
                        yield await _take(lines)
                lines += b"}\n"
            if lines:
                yield await _take(lines)
    yield to_json({"summary": summary.to_dict()}) + b"\n"


async def json_document(reply: Reply, rows: AsyncIterator[list[Row]]) -> AsyncGenerator[bytes]:
    """``{"embeddings": [...], "summary": {...}}``, written as rows come; of a single ROI just its outcome."""
    many, summary = not reply.job.single, Summary()
    text = bytearray(b'{"embeddings":[' if many else b"")
    async with closing(rows):
        async for some in rows:
            for row in some:
                comma = b"," if many and summary.rows else b""
                index = b'"index":%d,' % row.index if many else b""
                text += b"%b{%b" % (comma, index)
                for part in _outcome(reply, row, summary):
                    text += part
                    if len(text) >= _PIECE_BYTES:
                        yield await _take(text)
                text += b"}"
    if many:
        text += b'],"summary":%b}' % to_json(summary.to_dict())
    yield bytes(text)


async def _take(text: bytearray) -> bytes:
    """The text so far. Others run meanwhile: writing numbers takes milliseconds, sending may not wait."""
    piece = bytes(text)
    text.clear()
    await asyncio.sleep(0)
    return piece


def _outcome(reply: Reply, row: Row, summary: Summary) -> Iterator[bytes]:
    """The row's members in parts, none of which takes long: a whole grid takes most of a second."""
    problem = reply.problem(row)
    summary.count(1, int(problem is not None))
    if problem is not None or row.data is None:
        yield b'"problem":%b' % (problem or b"null")
        return
    yield b'"embedding":'
    yield from _parts(row.data, reply.job.dtype)
    yield b',"meta":%b' % (b"{}" if row.meta is None else row.meta.encode())


def _parts(data: NDArray[np.float32], dtype: str) -> Iterator[bytes]:
    """The numbers as nested lists, at most so many at once."""
    if data.ndim == 1 or data.size <= _AT_ONCE:
        yield _numbers(data, dtype)
        return
    for number, part in enumerate(data):
        yield b"," if number else b"["
        yield from _parts(part, dtype)
    yield b"]"


def _numbers(data: NDArray[np.float32], dtype: str) -> bytes:
    """Nested lists of short decimals that read back as exactly these numbers; not finite becomes null."""
    with np.errstate(all="ignore"):
        wide = data.astype(dtype).astype(np.float64)
        places = _DIGITS[dtype] - 1 - np.floor(np.log10(np.abs(wide)))
        scale = 10.0 ** np.nan_to_num(places, posinf=0, neginf=0)
        short = np.where(np.isfinite(wide), np.rint(wide * scale) / scale, wide)
    return to_json(short.tolist(), inf_nan_mode="null")
