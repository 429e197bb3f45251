"""Rows to bytes and back, in every encoding."""

from __future__ import annotations

import asyncio
import io
import json
import pickle
from collections.abc import AsyncIterator

import numpy as np
import pyarrow as pa
import pytest
import xarray as xr

from rs_embed_core.errors import ForwardError, IncompleteStream, InvalidRequest, NoImagery, RSEmbedError
from rs_embed_core.specs.output import InputPrepSpec, OutputSpec
from rs_embed_core.specs.request import Ask
from rs_embed_core.specs.spatial import BBox, PointBuffer
from serve_app.wire.arrow import MAX_BATCH_BYTES
from serve_app.wire.codecs import (
    ARROW,
    JSON,
    MEDIA_TYPES,
    NDJSON,
    Reply,
    Summary,
    encode_stream,
    read_arrow,
    record_batches,
    rows_of,
    summary_of,
    to_embedding,
)
from serve_app.wire.rows import Job, Row
from serve_app.wire.shapes import is_uniform

POINT = {"lon": 11.5, "lat": 48.1, "buffer_m": 640}
BOX = {"minlon": 0, "minlat": 0, "maxlon": 1, "maxlat": 1}
META = {"model": "dofa", "variant": "base", "notices": [{"code": "n", "text": 'a "quoted" \u00e4'}]}
PLACED = META | {"crs": "EPSG:3857", "transform": [160.0, 0.0, 1000.0, 0.0, -160.0, 5000.0]}
NOTHING = NoImagery("no image in June.", hint="Widen temporal.", context={"window": "2022-06"})


def _job(count: int = 4, *, grid: bool = False, single: bool = False, dtype: str = "float32") -> Job:
    output = OutputSpec.grid() if grid else OutputSpec.pooled()
    ask = Ask("dofa_base", model_config=(("variant", "base"),), output=output)
    return Job(ask, (POINT,) * count, single=single, dtype=dtype)


def _vectors(count: int, dim: int = 8) -> list[Row]:
    data = np.random.default_rng(0).normal(size=(count, dim)).astype(np.float32)
    return [Row(i, data[i], json.dumps(META)) for i in range(count)]


def _grid(index: int, shape: tuple[int, int, int]) -> Row:
    data = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    return Row(index, data, json.dumps(PLACED))


async def _feed(*lists: list[Row]) -> AsyncIterator[list[Row]]:
    for rows in lists:
        yield rows


def _encode(media_type: str, job: Job, *lists: list[Row], uniform: bool = False) -> bytes:
    async def collect() -> bytes:
        reply = Reply(job, uniform=uniform, instance="id-1")
        return b"".join([piece async for piece in encode_stream(media_type, reply, _feed(*lists))])

    return asyncio.run(collect())


def _read(body: bytes) -> list[Row]:
    return [row for rows in read_arrow(io.BytesIO(body)) for row in rows]


def _assert_same(got: list[Row], sent: list[Row]) -> None:
    assert [row.index for row in got] == [row.index for row in sent]
    for one, other in zip(got, sent, strict=True):
        assert (one.data is None) == (other.data is None)
        if one.data is not None and other.data is not None:
            assert one.data.dtype == np.float32
            np.testing.assert_array_equal(one.data, other.data)
        assert one.meta == other.meta
        assert type(one.error) is type(other.error)


# --- Arrow ---------------------------------------------------------------------------------------------------


def test_vectors_come_back_bit_for_bit():
    rows = _vectors(10)
    _assert_same(_read(_encode(ARROW, _job(10), rows[:3], rows[3:])), rows)


def test_lists_become_batches_and_order_is_kept():
    rows = _vectors(10)[::-1]
    lists = list(read_arrow(io.BytesIO(_encode(ARROW, _job(10), rows[:3], rows[3:]))))
    assert [len(some) for some in lists] == [3, 7]
    _assert_same([row for some in lists for row in some], rows)


def test_the_schema_says_what_the_numbers_are():
    schema = pa.ipc.open_stream(_encode(ARROW, _job(), _vectors(4))).schema
    assert schema.names == ["index", "embedding", "meta", "problem"]
    assert schema.field("index").type == pa.int32()
    assert schema.field("embedding").type == pa.fixed_shape_tensor(pa.float32(), [8])
    assert schema.field("meta").type == schema.field("problem").type == pa.json_()
    assert schema.metadata == {
        b"version": b"1", b"model": b"dofa", b"variant": b"base", b"dim": b"8", b"output": b"pooled",
        b"dtype": b"float32",
    }  # fmt: skip


def test_the_stream_ends_with_a_summary_that_any_arrow_reader_finds():
    rows = [*_vectors(3), Row(3, error=NOTHING)]
    reader = pa.ipc.open_stream(_encode(ARROW, _job(), rows))
    batches = [reader.read_next_batch_with_custom_metadata() for _ in range(2)]
    assert batches[0][1] is None
    assert batches[1][0].num_rows == 0
    assert dict(batches[1][1]) == {b"status": b"complete", b"rows": b"4", b"problems": b"1"}
    for batch, _ in batches:
        batch.validate(full=True)


def test_decoded_vectors_are_views():
    first, second = _read(_encode(ARROW, _job(2), _vectors(2)))
    assert first.data.base is not None
    assert not first.data.flags.writeable
    assert second.data.ctypes.data - first.data.ctypes.data == first.data.nbytes


def test_one_bad_roi_among_many():
    rows = _vectors(5)
    rows[2] = Row(2, error=NOTHING)
    got = _read(_encode(ARROW, _job(5), rows))
    _assert_same(got, rows)
    assert got[2].error.message == NOTHING.message
    assert got[2].error.context["window"] == "2022-06"
    assert got[2].error.context["errors"] == [{"pointer": "/spatials/2", "detail": "no image in June."}]


def test_problems_before_the_first_numbers_wait_for_the_schema():
    rows = _vectors(4)
    rows[0], rows[1] = Row(0, error=NOTHING), Row(1, error=InvalidRequest("bad"))
    body = _encode(ARROW, _job(), rows[:1], rows[1:2], rows[2:])
    _assert_same(_read(body), rows)
    assert pa.ipc.open_stream(body).schema.metadata[b"dim"] == b"8"


@pytest.mark.parametrize("grid", [False, True])
@pytest.mark.parametrize("uniform", [False, True])
@pytest.mark.parametrize("media_type", MEDIA_TYPES)
def test_nothing_but_problems(grid, uniform, media_type):
    rows = [Row(i, error=NOTHING) for i in range(3)]
    body = _encode(media_type, _job(3, grid=grid), rows[:1], rows[1:], uniform=uniform)
    if media_type == ARROW:
        _assert_same(_read(body), rows)
        assert pa.ipc.open_stream(body).schema.metadata[b"dim"] == b"0"
        assert pa.ipc.open_stream(body).schema.metadata[b"model"] == b"dofa_base"
        pa.ipc.open_stream(body).read_all().validate(full=True)
    else:
        assert body.count(b'"no_imagery"') == 3


def test_no_rows_at_all():
    assert _read(_encode(ARROW, _job())) == []


def test_a_row_without_an_outcome_is_a_problem():
    (row,) = _read(_encode(ARROW, _job(1), [Row(0)]))
    assert type(row.error) is RSEmbedError


def test_float16_halves_the_numbers_and_comes_back_as_float32():
    rows = _vectors(3)
    rows[1] = Row(1, np.full(8, 1e6, np.float32), "{}")
    body = _encode(ARROW, _job(3, dtype="float16"), rows)
    assert pa.ipc.open_stream(body).schema.field("embedding").type == pa.fixed_shape_tensor(pa.float16(), [8])
    got = _read(body)
    assert got[0].data.dtype == np.float32
    np.testing.assert_array_equal(got[0].data, rows[0].data.astype(np.float16).astype(np.float32))
    assert np.isinf(got[1].data).all()


def test_numbers_that_are_not_finite_or_not_contiguous():
    data = np.array([[1.0, np.nan], [np.inf, -0.0]], np.float32).T
    rows = [Row(i, data[i], "{}") for i in range(2)]
    got = _read(_encode(ARROW, _job(2), rows))
    np.testing.assert_array_equal(np.stack([row.data for row in got]), data)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_grids_of_one_shape_are_a_tensor(dtype):
    rows = [_grid(0, (5, 2, 3)), Row(1, error=NOTHING), _grid(2, (5, 2, 3))]
    body = _encode(ARROW, _job(3, grid=True, dtype=dtype), rows, uniform=True)
    kind = pa.fixed_shape_tensor(pa.from_numpy_dtype(np.dtype(dtype)), [5, 2, 3])
    assert pa.ipc.open_stream(body).schema.field("embedding").type == kind
    _assert_same(_read(body), rows)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_grids_of_their_own_shapes(dtype):
    rows = [_grid(0, (5, 2, 3)), Row(1, error=NOTHING), _grid(2, (5, 1, 4)), _grid(3, (5, 7, 1))]
    body = _encode(ARROW, _job(grid=True, dtype=dtype), rows[:3], rows[3:])
    schema = pa.ipc.open_stream(body).schema
    assert pa.types.is_struct(schema.field("embedding").type)
    assert schema.metadata[b"dim"] == b"5"
    pa.ipc.open_stream(body).read_all().validate(full=True)
    _assert_same(_read(body), rows)


def test_a_grid_of_another_shape_than_announced_is_a_problem():
    rows = [_grid(0, (5, 2, 3)), _grid(1, (5, 2, 2))]
    got = _read(_encode(ARROW, _job(2, grid=True), rows, uniform=True))
    assert isinstance(got[1].error, ForwardError)
    assert got[1].error.code == "shape_mismatch"


def test_large_lists_are_cut_into_batches():
    rows = [_grid(i, (64, 100, 100)) for i in range(7)]  # 2.56 MB each
    lists = list(read_arrow(io.BytesIO(_encode(ARROW, _job(7, grid=True), rows))))
    assert [len(some) for some in lists] == [3, 3, 1]
    assert 3 * rows[0].data.nbytes <= MAX_BATCH_BYTES
    _assert_same([row for some in lists for row in some], rows)


@pytest.mark.parametrize("grid", [False, True])
def test_sliced_batches_are_read_right(grid):
    rows = [_grid(0, (2, 1, 3)), _grid(1, (2, 2, 1)), _grid(2, (2, 1, 1))] if grid else _vectors(3)
    batch = pa.ipc.open_stream(_encode(ARROW, _job(3, grid=grid), rows)).read_next_batch()
    _assert_same(rows_of(batch.slice(1)), rows[1:])


# --- cut streams ---------------------------------------------------------------------------------------------


def _cut_points(job: Job, *lists: list[Row]) -> tuple[bytes, list[int]]:
    """The body, and where each of its messages ends."""

    async def collect() -> list[bytes]:
        return [piece async for piece in encode_stream(ARROW, Reply(job), _feed(*lists))]

    pieces = asyncio.run(collect())
    return b"".join(pieces), list(np.cumsum([len(piece) for piece in pieces]))


@pytest.mark.parametrize("inside", [0, -9])
def test_a_cut_stream_is_noticed(inside):
    rows = _vectors(6)
    body, ends = _cut_points(_job(6), rows[:2], rows[2:5], rows[5:])
    arrived: list[Row] = []
    with pytest.raises(IncompleteStream) as caught:
        for some in read_arrow(io.BytesIO(body[: ends[1] + inside])):
            arrived += some
    assert caught.value.context["rows"] == len(arrived) == (5 if inside == 0 else 2)
    assert caught.value.retryable
    _assert_same(arrived, rows[: len(arrived)])


@pytest.mark.parametrize("length", [0, 3, 100])
def test_cut_in_the_schema(length):
    body, _ = _cut_points(_job(), _vectors(4))
    with pytest.raises(IncompleteStream):
        _read(body[:length])


def test_the_end_marker_after_the_summary_does_not_matter():
    body, ends = _cut_points(_job(), _vectors(4))
    assert len(_read(body[: ends[-2]])) == 4
    assert len(_read(body[:-3])) == 4


def test_every_cut_is_noticed():
    rows = _vectors(4, dim=2)
    body, ends = _cut_points(_job(), rows[:2], rows[2:])
    for length in range(0, ends[-2], 7):
        with pytest.raises(IncompleteStream):
            _read(body[:length])


def test_a_connection_that_breaks():
    class Breaking(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > ends[0]:
                raise ConnectionResetError("gone")
            return super().read(size)

    rows = _vectors(4)
    body, ends = _cut_points(_job(), rows[:2], rows[2:])
    with pytest.raises(IncompleteStream) as caught:
        list(read_arrow(Breaking(body)))
    assert isinstance(caught.value.__cause__, ConnectionResetError)


def test_a_stream_that_lost_a_batch():
    rows = _vectors(6)
    body, ends = _cut_points(_job(6), rows[:2], rows[2:4], rows[4:])
    with pytest.raises(IncompleteStream, match="counted 6"):
        _read(body[: ends[0]] + body[ends[1] :])


def test_something_that_is_no_arrow():
    with pytest.raises(IncompleteStream):
        _read(b"<html>Bad gateway</html>")


# --- record batches of the handle ----------------------------------------------------------------------------


def _batches(job: Job, *lists: list[Row]) -> list[pa.RecordBatch]:
    async def collect() -> list[pa.RecordBatch]:
        return [batch async for batch in record_batches(job, _feed(*lists))]

    return asyncio.run(collect())


def test_record_batches_cross_processes_with_their_summary():
    rows = [*_vectors(3), Row(3, error=NOTHING)]
    batches = [pickle.loads(pickle.dumps(batch)) for batch in _batches(_job(), rows[:2], rows[2:])]  # noqa: S301
    _assert_same([row for batch in batches for row in rows_of(batch)], rows)
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
                yield [_grid(0, (4, 64, 64))]
        finally:
            closed.append(True)

    async def leave() -> None:
        body = encode_stream(media_type, Reply(_job(grid=True)), endless())
        await anext(body)
        await body.aclose()
        assert closed == [True]

    asyncio.run(leave())


# --- text ----------------------------------------------------------------------------------------------------


def test_json_of_one_roi():
    (row,) = _vectors(1)
    document = json.loads(_encode(JSON, _job(1, single=True), [row]))
    assert document["meta"] == META
    np.testing.assert_array_equal(np.array(document["embedding"], np.float32), row.data)
    assert set(document) == {"embedding", "meta"}


def test_json_of_many():
    rows = [*_vectors(2), Row(2, error=NOTHING)]
    document = json.loads(_encode(JSON, _job(3), rows[:1], rows[1:]))
    assert [item["index"] for item in document["embeddings"]] == [0, 1, 2]
    assert document["embeddings"][2]["problem"]["code"] == "no_imagery"
    assert document["embeddings"][2]["problem"]["instance"] == "id-1"
    assert document["summary"] == {"status": "complete", "rows": 3, "problems": 1}


def test_ndjson_of_many():
    rows = [*_vectors(2), Row(2, error=NOTHING)]
    lines = [json.loads(line) for line in _encode(NDJSON, _job(3), rows).splitlines()]
    assert [set(line) for line in lines] == [
        {"index", "embedding", "meta"}, {"index", "embedding", "meta"}, {"index", "problem"}, {"summary"},
    ]  # fmt: skip
    assert lines[-1]["summary"]["rows"] == 3


@pytest.mark.parametrize("media_type", [JSON, NDJSON])
def test_grids_are_nested_lists(media_type):
    row = _grid(0, (2, 3, 4))
    item = json.loads(_encode(media_type, _job(1, grid=True, single=True), [row]).splitlines()[0])
    np.testing.assert_array_equal(np.array(item["embedding"], np.float32), row.data)


def test_large_documents_come_in_pieces():
    async def pieces() -> list[bytes]:
        rows = [_grid(i, (8, 32, 32)) for i in range(8)]
        return [piece async for piece in encode_stream(JSON, Reply(_job(8, grid=True)), _feed(rows))]

    parts = asyncio.run(pieces())
    assert len(parts) >= 4
    assert len(json.loads(b"".join(parts))["embeddings"]) == 8


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_decimals_are_short_and_exact(dtype):
    rng = np.random.default_rng(1)
    integer = np.uint32 if dtype == "float32" else np.uint16
    bits = rng.integers(0, np.iinfo(integer).max, 5000, dtype=integer, endpoint=True)
    values = bits.view(dtype)
    values = np.concatenate([values[np.isfinite(values)], np.array([0, -0.0, 1e-45, 0.1, 65504], dtype)])
    row = Row(0, values.astype(np.float32), "{}")
    body = _encode(JSON, _job(1, single=True, dtype=dtype), [row])
    got = np.array(json.loads(body)["embedding"]).astype(dtype)
    np.testing.assert_array_equal(got, values)
    assert len(_encode(JSON, _job(1, single=True, dtype=dtype), [Row(0, np.float32([0.1]), "{}")])) < 40


def test_json_has_no_nan():
    row = Row(0, np.array([1.5, np.nan, np.inf], np.float32), "{}")
    assert json.loads(_encode(JSON, _job(1, single=True), [row]))["embedding"] == [1.5, None, None]


# --- results -------------------------------------------------------------------------------------------------


def test_a_vector_as_an_embedding():
    (row,) = _read(_encode(ARROW, _job(1), _vectors(1)))
    embedding = to_embedding(row)
    assert embedding.meta == META
    assert isinstance(embedding.data, np.ndarray)
    assert embedding.data.flags.writeable  # memory of its own


def test_a_grid_as_an_embedding_is_georeferenced():
    sent = _grid(0, (5, 2, 3))
    (row,) = _read(_encode(ARROW, _job(1, grid=True), [sent]))
    data = to_embedding(row).data
    assert isinstance(data, xr.DataArray)
    assert data.dims == ("d", "y", "x")
    np.testing.assert_array_equal(data.values, sent.data)
    np.testing.assert_array_equal(data.x, [1080, 1240, 1400])
    np.testing.assert_array_equal(data.y, [4920, 4760])
    assert "Pseudo-Mercator" in data.spatial_ref.attrs["crs_wkt"]
    assert data.attrs == {"model": "dofa-base"}


def test_a_grid_without_a_place():
    data = to_embedding(Row(0, np.zeros((2, 3, 4), np.float32), "{}")).data
    assert isinstance(data, xr.DataArray)
    assert "x" not in data.coords


def test_a_problem_as_an_embedding_raises():
    with pytest.raises(NoImagery):
        to_embedding(Row(0, error=NOTHING))


@pytest.mark.parametrize(
    ("spatials", "changes", "uniform"),
    [
        ((POINT, POINT), {}, True),
        ((POINT, PointBuffer(1, 2, 3)), {}, True),
        ((POINT, BOX), {}, False),
        ((BBox(0, 0, 1, 1), POINT), {}, False),
        ((POINT, 7), {}, False),
        ((BOX,), {}, True),
        ((POINT, BOX), {"output": OutputSpec.pooled()}, True),
        ((POINT, POINT), {"input_prep": InputPrepSpec.tile()}, False),
        ((POINT, POINT), {"model": "mosaiks"}, False),
        ((POINT, POINT), {"model": "unheard_of"}, False),
    ],
)
def test_which_jobs_have_one_shape(spatials, changes, uniform):
    ask = Ask(**{"model": "dofa", "output": OutputSpec.grid()} | changes)
    assert is_uniform(Job(ask, spatials)) is uniform
