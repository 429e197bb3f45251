"""Rows to Arrow and back, and results of rows."""

from __future__ import annotations

import asyncio
import io

import numpy as np
import pyarrow as pa
import pytest
import xarray as xr

from rs_embed_core.errors import ForwardError, InvalidRequest, NoImagery, RSEmbedError
from rs_embed_core.specs.output import InputPrepSpec, OutputSpec
from rs_embed_core.specs.request import Ask
from rs_embed_core.specs.spatial import BBox, PointBuffer
from serve_app.wire.arrow import MAX_BATCH_BYTES
from serve_app.wire.codecs import (
    ARROW,
    MEDIA_TYPES,
    Reply,
    read_arrow,
    record_batches,
    rows_of,
    to_embedding,
)
from serve_app.wire.rows import Job, Row
from serve_app.wire.shapes import is_uniform
from tests.unit.codec_rows import (
    BOX,
    META,
    NOTHING,
    POINT,
    assert_same,
    encode,
    feed,
    grid_row,
    job_of,
    read,
    vectors,
)


def test_vectors_come_back_bit_for_bit():
    rows = vectors(10)
    assert_same(read(encode(ARROW, job_of(10), rows[:3], rows[3:])), rows)


def test_lists_become_batches_and_order_is_kept():
    rows = vectors(10)[::-1]
    lists = list(read_arrow(io.BytesIO(encode(ARROW, job_of(10), rows[:3], rows[3:]))))
    assert [len(some) for some in lists] == [3, 7]
    assert_same([row for some in lists for row in some], rows)


def test_the_schema_says_what_the_numbers_are():
    schema = pa.ipc.open_stream(encode(ARROW, job_of(), vectors(4))).schema
    assert schema.names == ["index", "embedding", "meta", "problem"]
    assert schema.field("index").type == pa.int32()
    assert schema.field("embedding").type == pa.fixed_shape_tensor(pa.float32(), [8])
    assert schema.field("meta").type == schema.field("problem").type == pa.json_()
    assert schema.metadata == {
        b"version": b"1", b"model": b"dofa", b"variant": b"base", b"dim": b"8", b"output": b"pooled",
        b"dtype": b"float32",
    }  # fmt: skip


def test_the_stream_ends_with_a_summary_that_any_arrow_reader_finds():
    rows = [*vectors(3), Row(3, error=NOTHING)]
    reader = pa.ipc.open_stream(encode(ARROW, job_of(), rows))
    batches = [reader.read_next_batch_with_custom_metadata() for _ in range(2)]
    assert batches[0][1] is None
    assert batches[1][0].num_rows == 0
    assert dict(batches[1][1]) == {b"status": b"complete", b"rows": b"4", b"problems": b"1"}
    for batch, _ in batches:
        batch.validate(full=True)


def test_decoded_vectors_are_views():
    first, second = read(encode(ARROW, job_of(2), vectors(2)))
    assert first.data.base is not None
    assert not first.data.flags.writeable
    assert second.data.ctypes.data - first.data.ctypes.data == first.data.nbytes


def test_one_bad_roi_among_many():
    rows = vectors(5)
    rows[2] = Row(2, error=NOTHING)
    got = read(encode(ARROW, job_of(5), rows))
    assert_same(got, rows)
    assert got[2].error.message == NOTHING.message
    assert got[2].error.context["window"] == "2022-06"
    assert got[2].error.context["errors"] == [{"pointer": "/spatials/2", "detail": "no image in June."}]


def test_problems_before_the_first_numbers_wait_for_the_schema():
    rows = vectors(4)
    rows[0], rows[1] = Row(0, error=NOTHING), Row(1, error=InvalidRequest("bad"))
    body = encode(ARROW, job_of(), rows[:1], rows[1:2], rows[2:])
    assert_same(read(body), rows)
    assert pa.ipc.open_stream(body).schema.metadata[b"dim"] == b"8"


@pytest.mark.parametrize("grid", [False, True])
@pytest.mark.parametrize("uniform", [False, True])
@pytest.mark.parametrize("media_type", MEDIA_TYPES)
def test_nothing_but_problems(grid, uniform, media_type):
    rows = [Row(i, error=NOTHING) for i in range(3)]
    body = encode(media_type, job_of(3, grid=grid), rows[:1], rows[1:], uniform=uniform)
    if media_type == ARROW:
        assert_same(read(body), rows)
        assert pa.ipc.open_stream(body).schema.metadata[b"dim"] == b"0"
        assert pa.ipc.open_stream(body).schema.metadata[b"model"] == b"dofa_base"
        pa.ipc.open_stream(body).read_all().validate(full=True)
    else:
        assert body.count(b'"no_imagery"') == 3


def test_no_rows_at_all():
    assert read(encode(ARROW, job_of())) == []


def test_a_row_without_an_outcome_is_a_problem():
    (row,) = read(encode(ARROW, job_of(1), [Row(0)]))
    assert type(row.error) is RSEmbedError


def test_float16_halves_the_numbers_and_comes_back_as_float32():
    rows = vectors(3)
    rows[1] = Row(1, np.full(8, 1e6, np.float32), "{}")
    body = encode(ARROW, job_of(3, dtype="float16"), rows)
    assert pa.ipc.open_stream(body).schema.field("embedding").type == pa.fixed_shape_tensor(pa.float16(), [8])
    got = read(body)
    assert got[0].data.dtype == np.float32
    np.testing.assert_array_equal(got[0].data, rows[0].data.astype(np.float16).astype(np.float32))
    assert np.isinf(got[1].data).all()


def test_numbers_that_are_not_finite_or_not_contiguous():
    data = np.array([[1.0, np.nan], [np.inf, -0.0]], np.float32).T
    rows = [Row(i, data[i], "{}") for i in range(2)]
    got = read(encode(ARROW, job_of(2), rows))
    np.testing.assert_array_equal(np.stack([row.data for row in got]), data)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_grids_of_one_shape_are_a_tensor(dtype):
    rows = [grid_row(0, (5, 2, 3)), Row(1, error=NOTHING), grid_row(2, (5, 2, 3))]
    body = encode(ARROW, job_of(3, grid=True, dtype=dtype), rows, uniform=True)
    kind = pa.fixed_shape_tensor(pa.from_numpy_dtype(np.dtype(dtype)), [5, 2, 3])
    assert pa.ipc.open_stream(body).schema.field("embedding").type == kind
    assert_same(read(body), rows)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_grids_of_their_own_shapes(dtype):
    rows = [grid_row(0, (5, 2, 3)), Row(1, error=NOTHING), grid_row(2, (5, 1, 4)), grid_row(3, (5, 7, 1))]
    body = encode(ARROW, job_of(grid=True, dtype=dtype), rows[:3], rows[3:])
    schema = pa.ipc.open_stream(body).schema
    assert pa.types.is_struct(schema.field("embedding").type)
    assert schema.metadata[b"dim"] == b"5"
    pa.ipc.open_stream(body).read_all().validate(full=True)
    assert_same(read(body), rows)


def test_a_grid_of_another_shape_than_announced_is_a_problem():
    rows = [grid_row(0, (5, 2, 3)), grid_row(1, (5, 2, 2))]
    got = read(encode(ARROW, job_of(2, grid=True), rows, uniform=True))
    assert isinstance(got[1].error, ForwardError)
    assert got[1].error.code == "shape_mismatch"


def test_large_lists_are_cut_into_batches():
    rows = [grid_row(i, (64, 100, 100)) for i in range(7)]  # 2.56 MB each
    lists = list(read_arrow(io.BytesIO(encode(ARROW, job_of(7, grid=True), rows))))
    assert [len(some) for some in lists] == [3, 3, 1]
    assert 3 * rows[0].data.nbytes <= MAX_BATCH_BYTES
    assert_same([row for some in lists for row in some], rows)


async def test_problems_of_a_long_job_are_cut_too_and_others_run_meanwhile():
    rows, turns = [Row(i, error=NOTHING) for i in range(3000)], 0

    async def other():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    found = [(batch.num_rows, turns) async for batch in record_batches(Reply(job_of(3000)), feed(rows))]
    task.cancel()
    sizes, when = zip(*found, strict=True)
    assert sizes == (1024, 1024, 952, 0)
    assert len(set(when)) == len(when)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("uniform", [False, True])
def test_what_a_product_has_no_value_for_stays_nan(uniform, dtype):
    rows = [grid_row(0, (5, 2, 3)), grid_row(1, (5, 2, 3))]
    for row in rows:
        row.data[:, row.index, 1] = np.nan
    got = read(encode(ARROW, job_of(2, grid=True, dtype=dtype), rows, uniform=uniform))
    assert_same(got, rows)
    for row, sent in zip(got, rows, strict=True):
        np.testing.assert_array_equal(np.asarray(to_embedding(row).data), sent.data)


@pytest.mark.parametrize("grid", [False, True])
def test_sliced_batches_are_read_right(grid):
    rows = [grid_row(0, (2, 1, 3)), grid_row(1, (2, 2, 1)), grid_row(2, (2, 1, 1))] if grid else vectors(3)
    batch = pa.ipc.open_stream(encode(ARROW, job_of(3, grid=grid), rows)).read_next_batch()
    assert_same(rows_of(batch.slice(1)), rows[1:])


def test_a_vector_as_an_embedding():
    (row,) = read(encode(ARROW, job_of(1), vectors(1)))
    embedding = to_embedding(row)
    assert embedding.meta == META
    assert isinstance(embedding.data, np.ndarray)
    assert embedding.data.flags.writeable  # memory of its own


def test_a_grid_as_an_embedding_is_georeferenced():
    sent = grid_row(0, (5, 2, 3))
    (row,) = read(encode(ARROW, job_of(1, grid=True), [sent]))
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
