"""Rows as JSON text."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest

from serve_app.wire.codecs import (
    JSON,
    NDJSON,
    Reply,
    encode_stream,
)
from serve_app.wire.rows import Row
from tests.unit.codec_rows import (
    META,
    NOTHING,
    encode,
    feed,
    grid_row,
    job_of,
    vectors,
)


def test_json_of_one_roi():
    (row,) = vectors(1)
    document = json.loads(encode(JSON, job_of(1, single=True), [row]))
    assert document["meta"] == META
    np.testing.assert_array_equal(np.array(document["embedding"], np.float32), row.data)
    assert set(document) == {"embedding", "meta"}


def test_json_of_many():
    rows = [*vectors(2), Row(2, error=NOTHING)]
    document = json.loads(encode(JSON, job_of(3), rows[:1], rows[1:]))
    assert [item["index"] for item in document["embeddings"]] == [0, 1, 2]
    assert document["embeddings"][2]["problem"]["code"] == "no_imagery"
    assert document["embeddings"][2]["problem"]["instance"] == "id-1"
    assert document["summary"] == {"status": "complete", "rows": 3, "problems": 1}


def test_ndjson_of_many():
    rows = [*vectors(2), Row(2, error=NOTHING)]
    lines = [json.loads(line) for line in encode(NDJSON, job_of(3), rows).splitlines()]
    assert [set(line) for line in lines] == [
        {"index", "embedding", "meta"}, {"index", "embedding", "meta"}, {"index", "problem"}, {"summary"},
    ]  # fmt: skip
    assert lines[-1]["summary"]["rows"] == 3


@pytest.mark.parametrize("media_type", [JSON, NDJSON])
def test_grids_are_nested_lists(media_type):
    row = grid_row(0, (2, 3, 4))
    item = json.loads(encode(media_type, job_of(1, grid=True, single=True), [row]).splitlines()[0])
    np.testing.assert_array_equal(np.array(item["embedding"], np.float32), row.data)


def test_large_documents_come_in_pieces():
    async def pieces() -> list[bytes]:
        rows = [grid_row(i, (8, 32, 32)) for i in range(8)]
        return [piece async for piece in encode_stream(JSON, Reply(job_of(8, grid=True)), feed(rows))]

    parts = asyncio.run(pieces())
    assert len(parts) >= 4
    assert len(json.loads(b"".join(parts))["embeddings"]) == 8


@pytest.mark.parametrize("media_type", [JSON, NDJSON])
@pytest.mark.parametrize("shape", [(64, 64, 64), (2, 200, 200), (2, 1, 20_000)])
async def test_others_run_while_a_grid_is_written(media_type, shape):
    turns, written = 0, asyncio.Event()

    async def other() -> None:
        nonlocal turns
        while not written.is_set():
            turns += 1
            await asyncio.sleep(0)

    row, job = grid_row(0, shape), job_of(1, grid=True, single=True)
    task = asyncio.create_task(other())
    text = b"".join([piece async for piece in encode_stream(media_type, Reply(job), feed([row]))])
    written.set()
    await task
    np.testing.assert_array_equal(np.array(json.loads(text.splitlines()[0])["embedding"], np.float32), row.data)
    assert turns >= row.data.size / 20_000  # each number is written in 3 bytes or more


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_decimals_are_short_and_exact(dtype):
    rng = np.random.default_rng(1)
    integer = np.uint32 if dtype == "float32" else np.uint16
    bits = rng.integers(0, np.iinfo(integer).max, 5000, dtype=integer, endpoint=True)
    values = bits.view(dtype)
    values = np.concatenate([values[np.isfinite(values)], np.array([0, -0.0, 1e-45, 0.1, 65504], dtype)])
    row = Row(0, values.astype(np.float32), "{}")
    body = encode(JSON, job_of(1, single=True, dtype=dtype), [row])
    got = np.array(json.loads(body)["embedding"]).astype(dtype)
    np.testing.assert_array_equal(got, values)
    assert len(encode(JSON, job_of(1, single=True, dtype=dtype), [Row(0, np.float32([0.1]), "{}")])) < 40


def strictly(text: bytes) -> dict[str, object]:
    """JSON as the standard has it: Python's own reader would also take NaN."""
    return json.loads(text, parse_constant=pytest.fail)


def test_json_has_no_nan():
    row = Row(0, np.array([1.5, np.nan, np.inf], np.float32), "{}")
    assert strictly(encode(JSON, job_of(1, single=True), [row]))["embedding"] == [1.5, None, None]


@pytest.mark.parametrize("media_type", [JSON, NDJSON])
def test_null_is_read_as_nan(media_type):
    row = grid_row(0, (2, 3, 4))
    row.data[:, 1, 2] = np.nan
    item = strictly(encode(media_type, job_of(1, grid=True, single=True), [row]).splitlines()[0])
    assert item["embedding"][0][1][2] is None
    np.testing.assert_array_equal(np.array(item["embedding"], np.float32), row.data)
