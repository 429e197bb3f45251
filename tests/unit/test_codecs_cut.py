"""A stream that was cut anywhere is noticed; record batches carry the same summary."""

from __future__ import annotations

import asyncio
import io
import pickle
from collections.abc import AsyncIterator

import numpy as np
import pyarrow as pa
import pytest

from rs_embed_core.errors import IncompleteStream
from serve_app.wire.codecs import (
    ARROW,
    MEDIA_TYPES,
    Reply,
    Summary,
    encode_stream,
    read_arrow,
    record_batches,
    rows_of,
    summary_of,
)
from serve_app.wire.rows import Job, Row
from tests.unit.codec_rows import (
    NOTHING,
    assert_same,
    feed,
    grid_row,
    job_of,
    read,
    vectors,
)


def _cut_points(job: Job, *lists: list[Row]) -> tuple[bytes, list[int]]:
    """The body, and where each of its messages ends."""

    async def collect() -> list[bytes]:
        return [piece async for piece in encode_stream(ARROW, Reply(job), feed(*lists))]

    pieces = asyncio.run(collect())
    return b"".join(pieces), list(np.cumsum([len(piece) for piece in pieces]))


@pytest.mark.parametrize("inside", [0, -9])
def test_a_cut_stream_is_noticed(inside):
    rows = vectors(6)
    body, ends = _cut_points(job_of(6), rows[:2], rows[2:5], rows[5:])
    arrived: list[Row] = []
    lists = read_arrow(io.BytesIO(body[: ends[1] + inside]))
    with pytest.raises(IncompleteStream) as caught:
        arrived.extend(row for some in lists for row in some)
    assert caught.value.context["rows"] == len(arrived) == (5 if inside == 0 else 2)
    assert caught.value.retryable
    assert_same(arrived, rows[: len(arrived)])


@pytest.mark.parametrize("length", [0, 3, 100])
def test_cut_in_the_schema(length):
    body, _ = _cut_points(job_of(), vectors(4))
    with pytest.raises(IncompleteStream):
        read(body[:length])


def test_the_end_marker_after_the_summary_does_not_matter():
    body, ends = _cut_points(job_of(), vectors(4))
    assert len(read(body[: ends[-2]])) == 4
    assert len(read(body[:-3])) == 4


def test_every_cut_is_noticed():
    rows = vectors(4, dim=2)
    body, ends = _cut_points(job_of(), rows[:2], rows[2:])
    for length in range(0, ends[-2], 7):
        with pytest.raises(IncompleteStream):
            read(body[:length])


def test_a_connection_that_breaks():
    class Breaking(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > ends[0]:
                raise ConnectionResetError("gone")
            return super().read(size)

    rows = vectors(4)
    body, ends = _cut_points(job_of(), rows[:2], rows[2:])
    with pytest.raises(IncompleteStream) as caught:
        list(read_arrow(Breaking(body)))
    assert isinstance(caught.value.__cause__, ConnectionResetError)


def test_a_stream_that_lost_a_batch():
    rows = vectors(6)
    body, ends = _cut_points(job_of(6), rows[:2], rows[2:4], rows[4:])
    with pytest.raises(IncompleteStream, match="counted 6"):
        read(body[: ends[0]] + body[ends[1] :])


def test_something_that_is_no_arrow():
    with pytest.raises(IncompleteStream):
        read(b"<html>Bad gateway</html>")


def _batches(job: Job, *lists: list[Row]) -> list[pa.RecordBatch]:
    async def collect() -> list[pa.RecordBatch]:
        return [batch async for batch in record_batches(Reply(job), feed(*lists))]

    return asyncio.run(collect())


def test_record_batches_cross_processes_with_their_summary():
    rows = [*vectors(3), Row(3, error=NOTHING)]
    batches = [pickle.loads(pickle.dumps(batch)) for batch in _batches(job_of(), rows[:2], rows[2:])]  # noqa: S301
    assert_same([row for batch in batches for row in rows_of(batch)], rows)
    assert [summary_of(batch) for batch in batches[:-1]] == [None, None]
    assert summary_of(batches[-1]) == {"status": "complete", "rows": "4", "problems": "1"}
    Summary(rows=4, problems=1).check(summary_of(batches[-1]))
    with pytest.raises(IncompleteStream):
        Summary(rows=3, problems=1).check(summary_of(batches[-1]))
    with pytest.raises(IncompleteStream):
        Summary(rows=4, problems=1).check(None)


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
def test_closing_the_body_closes_the_rows(media_type):
    closed = []

    async def endless() -> AsyncIterator[list[Row]]:
        try:
            while True:
                yield [grid_row(0, (4, 64, 64))]
        finally:
            closed.append(True)

    async def leave() -> None:
        body = encode_stream(media_type, Reply(job_of(grid=True)), endless())
        await anext(body)
        await body.aclose()
        assert closed == [True]

    asyncio.run(leave())
