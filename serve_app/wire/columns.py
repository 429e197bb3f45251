"""Stage stream: the numbers of many rows as one Arrow column, and back. No Python loop over numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve_app.wire.rows import Row

type Numbers = NDArray[np.float32]
_AXES = 3  # D, h, w


@dataclass(frozen=True)
class Layout:
    """How the numbers of a stream lie.

    Attributes:
        shape: of every row (a fixed-shape tensor); None where each row has its own: then a struct of
            ``data``, the values in row-major order, and ``shape``, as Arrow's variable-shape tensor lies.
        dtype: float32 or float16.
    """

    shape: tuple[int, ...] | None
    dtype: np.dtype[np.floating]

    @property
    def type(self) -> pa.DataType:
        """The Arrow type of the column."""
        value = pa.from_numpy_dtype(self.dtype)
        if self.shape is not None:
            return pa.fixed_shape_tensor(value, list(self.shape))
        return pa.struct([("data", pa.list_(value)), ("shape", pa.list_(pa.int32(), _AXES))])

    def column(self, rows: Sequence[Row]) -> pa.Array:
        """The numbers of the rows; null where a row has none."""
        validity = None
        if any(row.data is None for row in rows):
            validity = pa.py_buffer(np.packbits([row.data is not None for row in rows], bitorder="little"))
        if self.shape is None:
            return self._ragged(rows, validity)
        return self._tensor(rows, validity, self.shape)

    def _tensor(self, rows: Sequence[Row], validity: pa.Buffer | None, shape: tuple[int, ...]) -> pa.Array:
        gap = np.zeros(shape, np.float32)  # what lies under a null
        stacked = np.stack([gap if row.data is None else row.data for row in rows]) if rows else gap[:0]
        kind = self.type
        storage = _nested(kind.storage_type, len(rows), [validity], [self._values(stacked)])
        return pa.ExtensionArray.from_storage(kind, storage)

    def _ragged(self, rows: Sequence[Row], validity: pa.Buffer | None) -> pa.Array:
        arrays = [np.empty(0, np.float32) if row.data is None else row.data.ravel() for row in rows]
        ends = np.cumsum([0, *map(len, arrays)], dtype=np.int32)
        shapes = np.zeros((len(rows), _AXES), np.int32)
        for i, row in enumerate(rows):
            if row.data is not None:
                shapes[i] = row.data.shape
        kind, count = self.type, len(rows)
        values = self._values(np.concatenate(arrays) if arrays else ends[:0])
        data = _nested(kind.field("data").type, count, [None, pa.py_buffer(ends)], [values])
        dims = _nested(kind.field("shape").type, count, [None], [_flat(shapes)])
        return _nested(kind, count, [validity], [data, dims])

    def _values(self, data: NDArray[np.generic]) -> pa.Array:
        with np.errstate(over="ignore"):  # float16 was asked for: beyond 65504 it says inf
            return _flat(np.ascontiguousarray(data, self.dtype))


def numbers_of(column: pa.Array) -> Sequence[Numbers | None]:
    """The float32 numbers of each row: views of the column, or of one float32 copy of a float16 column."""
    storage = column.storage if isinstance(column, pa.ExtensionArray) else column
    if isinstance(column, pa.FixedShapeTensorArray):
        width, stop = storage.type.list_size, storage.offset + len(storage)
        values = _numpy(storage.values)[: width * stop].reshape(stop, *column.type.shape)
        rows: list[Numbers] = list(values[storage.offset :])
    else:
        lists, shapes = storage.field("data"), storage.field("shape")
        values, ends = _numpy(lists.values), lists.offsets.to_numpy()
        dims = shapes.flatten().to_numpy().reshape(-1, _AXES)
        bounds = zip(ends[:-1], ends[1:], dims, strict=True)
        rows = [values[start:end].reshape(shape) for start, end, shape in bounds]
    if not storage.null_count:
        return rows
    present = storage.is_valid().to_numpy(zero_copy_only=False)
    return [row if valid else None for row, valid in zip(rows, present, strict=True)]


def _numpy(values: pa.Array) -> Numbers:
    return np.asarray(values.to_numpy(), np.float32)


def _flat(data: NDArray[np.generic]) -> pa.Array:
    """A contiguous array as an Arrow array of the same memory."""
    return pa.Array.from_buffers(pa.from_numpy_dtype(data.dtype), data.size, [None, pa.py_buffer(data)])


def _nested(kind: pa.DataType, count: int, buffers: list[pa.Buffer | None], children: list[pa.Array]) -> pa.Array:
    return pa.Array.from_buffers(kind, count, buffers, children=children)
