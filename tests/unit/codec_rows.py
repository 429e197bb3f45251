"""Rows to encode, and the way there and back."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator

import numpy as np

from rs_embed_core.errors import NoImagery
from rs_embed_core.specs.output import OutputSpec
from rs_embed_core.specs.request import Ask
from serve_app.wire.codecs import (
    Reply,
    encode_stream,
    read_arrow,
)
from serve_app.wire.rows import Job, Row

POINT = {"lon": 11.5, "lat": 48.1, "buffer_m": 640}
BOX = {"minlon": 0, "minlat": 0, "maxlon": 1, "maxlat": 1}
META = {"model": "dofa", "variant": "base", "notices": [{"code": "n", "text": 'a "quoted" \u00e4'}]}
PLACED = META | {"crs": "EPSG:3857", "transform": [160.0, 0.0, 1000.0, 0.0, -160.0, 5000.0]}
NOTHING = NoImagery("no image in June.", hint="Widen temporal.", context={"window": "2022-06"})


def job_of(count: int = 4, *, grid: bool = False, single: bool = False, dtype: str = "float32") -> Job:
    output = OutputSpec.grid() if grid else OutputSpec.pooled()
    ask = Ask("dofa_base", model_config=(("variant", "base"),), output=output)
    return Job(ask, (POINT,) * count, single=single, dtype=dtype)


def vectors(count: int, dim: int = 8) -> list[Row]:
    data = np.random.default_rng(0).normal(size=(count, dim)).astype(np.float32)
    return [Row(i, data[i], json.dumps(META)) for i in range(count)]


def grid_row(index: int, shape: tuple[int, int, int]) -> Row:
    data = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    return Row(index, data, json.dumps(PLACED))


async def feed(*lists: list[Row]) -> AsyncIterator[list[Row]]:
    for rows in lists:
        yield rows


def encode(media_type: str, job: Job, *lists: list[Row], uniform: bool = False) -> bytes:
    async def collect() -> bytes:
        reply = Reply(job, uniform=uniform, instance="id-1")
        return b"".join([piece async for piece in encode_stream(media_type, reply, feed(*lists))])

    return asyncio.run(collect())


def read(body: bytes) -> list[Row]:
    return [row for rows in read_arrow(io.BytesIO(body)) for row in rows]


def assert_same(got: list[Row], sent: list[Row]) -> None:
    assert [row.index for row in got] == [row.index for row in sent]
    for one, other in zip(got, sent, strict=True):
        assert (one.data is None) == (other.data is None)
        if one.data is not None and other.data is not None:
            assert one.data.dtype == np.float32
            np.testing.assert_array_equal(one.data, other.data)
        assert one.meta == other.meta
        assert type(one.error) is type(other.error)
