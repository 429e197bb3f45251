"""Stage stream: rows as Arrow record batches and as an IPC stream, and back.

Columns: ``index`` int32; ``embedding`` (see ``columns``); ``meta`` and ``problem``, JSON text, one of the two
null. A stream ends with a batch of no rows that carries a summary; without one it was cut off.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import IO

import numpy as np
import pyarrow as pa
from pydantic_core import from_json

from rs_embed_core.errors import ForwardError
from serve_app.wire.columns import Layout, numbers_of
from serve_app.wire.problems import from_problem
from serve_app.wire.reply import Reply, Summary, closing
from serve_app.wire.rows import Row

SCHEMA_VERSION = "1"
MAX_BATCH_BYTES = 8_000_000  # of numbers; while it is written a batch is held about three times
MAX_BATCH_ROWS = 1024  # a problem has no numbers, but 60 us of work


async def record_batches(reply: Reply, rows: AsyncIterator[list[Row]]) -> AsyncGenerator[pa.RecordBatch]:
    """The rows as record batches of one schema; the last is empty, its schema's metadata holds the summary.

    The schema is made from the first row that has numbers. Problems before it wait for it: they are small,
    and a request's ROIs are limited. If all rows are problems the tensor has no elements and ``dim`` is 0.

    ``rows`` is closed with the batches.
    """
    table: _Table | None = None
    waiting: list[Row] = []
    async with closing(rows):
        async for some in rows:
            waiting += some
            if table is None:
                first = next((row for row in some if row.data is not None), None)
                table = None if first is None else _Table(reply, first)
            if table is not None:
                async for batch in _unhurried(table.batches(waiting)):
                    yield batch
                waiting = []
    table = table or _Table(reply, None)
    async for batch in _unhurried(table.batches(waiting)):
        yield batch
    yield table.end()


async def _unhurried(batches: Iterator[pa.RecordBatch]) -> AsyncIterator[pa.RecordBatch]:
    """The batches; whoever else is served by this event loop has a turn after each."""
    for batch in batches:
        yield batch
        await asyncio.sleep(0)


async def arrow_stream(reply: Reply, rows: AsyncIterator[list[Row]]) -> AsyncGenerator[bytes]:
    """The same as an IPC stream, one piece per batch; the summary is the last batch's custom metadata."""
    sink = io.BytesIO()
    writer: pa.RecordBatchStreamWriter | None = None
    async with aclosing(record_batches(reply, rows)) as batches:
        async for batch in batches:
            writer = writer or pa.ipc.new_stream(sink, batch.schema)
            writer.write_batch(batch, custom_metadata=summary_of(batch))
            yield _taken(sink)
    if writer is not None:
        writer.close()
        yield _taken(sink)


def _taken(sink: io.BytesIO) -> bytes:
    piece = sink.getvalue()
    sink.seek(0)
    sink.truncate()
    return piece


class _Table:
    """The layout of one reply, fixed by its first row with numbers, and the count of its rows."""

    def __init__(self, reply: Reply, first: Row | None) -> None:
        job = reply.job
        grid = job.ask.output.mode == "grid"
        no_shape: tuple[int, ...] = (0, 0, 0) if grid else (0,)
        shape = no_shape if first is None or first.data is None else first.data.shape
        fixed = reply.uniform or not grid
        self._layout = Layout(shape if fixed else None, np.dtype(job.dtype))
        self._reply, self._summary = reply, Summary()
        facts = {"model": job.ask.model, "variant": dict(job.ask.model_config).get("variant", "")}
        if first is not None and first.meta is not None:
            meta = from_json(first.meta)  # the request may say an alias, meta says the id
            facts = {name: meta.get(name, value) for name, value in facts.items()}
        output = {"dim": shape[0], "output": job.ask.output.mode, "dtype": job.dtype}
        columns = [
            ("index", pa.int32()),
            ("embedding", self._layout.type),
            ("meta", pa.json_()),
            ("problem", pa.json_()),
        ]
        self._schema = pa.schema(columns, metadata=_texts({"version": SCHEMA_VERSION} | facts | output))

    def batches(self, rows: Sequence[Row]) -> Iterator[pa.RecordBatch]:
        """The rows, cut so that no batch is large."""
        largest = max((row.data.nbytes for row in rows if row.data is not None), default=1)
        step = min(MAX_BATCH_ROWS, max(1, MAX_BATCH_BYTES // max(1, largest)))
        for start in range(0, len(rows), step):
            yield self._batch([self._fitting(row) for row in rows[start : start + step]])

    def end(self) -> pa.RecordBatch:
        """The batch of no rows with the summary."""
        said = {**self._schema.metadata, **_texts(self._summary.to_dict())}
        return self._batch([]).replace_schema_metadata(said)

    def _fitting(self, row: Row) -> Row:
        """The row, or a problem in its place if a tensor of the stream's shape cannot hold it."""
        shape = self._layout.shape
        if shape is None or row.data is None or row.data.shape == shape:
            return row
        msg = f"the result has the shape {row.data.shape}, the stream's rows have {shape}."
        return Row(row.index, error=ForwardError(msg, code="shape_mismatch", hint="Ask for this ROI alone."))

    def _batch(self, rows: Sequence[Row]) -> pa.RecordBatch:
        problems = [self._reply.problem(row) for row in rows]
        self._summary.count(len(rows), len(rows) - problems.count(None))
        columns = [
            pa.array([row.index for row in rows], pa.int32()),
            self._layout.column(rows),
            _json([row.meta for row in rows]),
            _json(problems),
        ]
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)


def _json(texts: Sequence[str | bytes | None]) -> pa.Array:
    return pa.ExtensionArray.from_storage(pa.json_(), pa.array(texts, pa.string()))


def _texts(facts: Mapping[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in facts.items()}


def summary_of(batch: pa.RecordBatch) -> dict[str, str] | None:
    """The summary that the last batch of ``record_batches`` carries; None for any other batch."""
    metadata = batch.schema.metadata or {}
    if b"status" not in metadata:
        return None
    return {name: metadata[name.encode()].decode() for name in ("status", "rows", "problems")}


def rows_of(batch: pa.RecordBatch) -> list[Row]:
    """The rows of a batch; float32 numbers are read-only views of its memory."""
    numbers = numbers_of(batch.column("embedding"))
    indices = batch.column("index").to_pylist()
    metas = batch.column("meta").storage.to_pylist()
    problems = batch.column("problem").storage.to_pylist()
    return [
        Row(index, data, meta, None if problem is None else from_problem(from_json(problem)))
        for index, data, meta, problem in zip(indices, numbers, metas, problems, strict=True)
    ]


def read_arrow(file: IO[bytes]) -> Iterator[list[Row]]:
    """The rows of an IPC stream, one list per batch, as they arrive.

    Args:
        file: its ``read(n)`` gives n bytes unless the end is near, as ``io.BufferedReader``'s does.

    Raises:
        IncompleteStream: the stream was cut (also where ``file`` raises ``OSError``), or its summary counts
            other rows; ``context["rows"]`` says how many arrived.
    """
    seen, said = Summary(), None
    try:
        for batch, metadata in _read(file):
            said = metadata or said
            rows = rows_of(batch)
            seen.count(len(rows), sum(row.error is not None for row in rows))
            if rows:
                yield rows
    except (OSError, pa.ArrowException) as error:
        if said is None:
            raise seen.cut() from error
    seen.check(said)


def _read(file: IO[bytes]) -> Iterator[tuple[pa.RecordBatch, dict[str, str]]]:
    reader = pa.ipc.open_stream(file)
    while True:
        try:
            batch, metadata = reader.read_next_batch_with_custom_metadata()
        except StopIteration:
            return
        yield batch, {name.decode(): value.decode() for name, value in (metadata or {}).items()}
