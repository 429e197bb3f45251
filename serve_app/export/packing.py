"""Values between the stages of a Ray Data pipeline: a row each, whose arrays are read in place from shared memory."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

_SCHEMA = pa.schema([("head", pa.large_binary()), ("buffers", pa.list_(pa.large_binary()))])


def packed(values: Iterable[object]) -> pa.Table:
    """A table with a row for each value: the pickle, and beside it the memory of its arrays."""
    heads, bodies = [], []
    for value in values:
        buffers: list[pickle.PickleBuffer] = []
        heads.append(pickle.dumps(value, protocol=5, buffer_callback=buffers.append))
        bodies.append([buffer.raw() for buffer in buffers])
    flat = _binary([buffer for body in bodies for buffer in body])
    ends = np.cumsum([0, *map(len, bodies)])
    lists = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), flat)
    return pa.table({"head": pa.array(heads, pa.large_binary()), "buffers": lists}, schema=_SCHEMA)


def _binary(buffers: Sequence[memoryview]) -> pa.Array:
    """An array of these bytes, copied once (``pa.array`` grows as it goes)."""
    ends = np.cumsum([0, *(buffer.nbytes for buffer in buffers)], dtype=np.int64)
    pieces = [None, pa.py_buffer(ends), pa.py_buffer(b"".join(buffers))]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(buffers), pieces)


def unpacked(table: pa.Table) -> list[Any]:
    """The values of ``packed``; their arrays are read-only views of the table."""
    out = []
    for head, body in zip(table["head"], table["buffers"], strict=True):
        buffers = [item.as_buffer() for item in body.values]
        out.append(pickle.loads(head.as_buffer(), buffers=buffers))  # noqa: S301 - only what our own actors packed
    return out
