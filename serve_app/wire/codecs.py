"""Stage stream: the media types of a reply, and rows to and from them.

To write: ``encode_stream`` (HTTP), ``record_batches`` (the in-cluster handle). To read: ``read_arrow``
(HTTP), ``rows_of`` with ``summary_of`` and ``Summary`` (the handle), then ``to_embedding``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping

import numpy as np
from pydantic_core import from_json

from rs_embed_core.embedding import Embedding, georeference
from rs_embed_core.errors import JSONValue, RSEmbedError
from rs_embed_core.geo import Grid
from serve_app.wire.arrow import arrow_stream, read_arrow, record_batches, rows_of, summary_of
from serve_app.wire.reply import Reply, Summary
from serve_app.wire.rows import Row
from serve_app.wire.text import json_document, ndjson_stream

__all__ = [
    "ARROW", "JSON", "MEDIA_TYPES", "NDJSON", "Reply", "Summary", "encode_stream", "read_arrow",
    "record_batches", "rows_of", "summary_of", "to_embedding",
]  # fmt: skip

ARROW = "application/vnd.apache.arrow.stream"
JSON = "application/json"
NDJSON = "application/x-ndjson"

type Encode = Callable[[Reply, AsyncIterator[list[Row]]], AsyncGenerator[bytes]]

_ENCODINGS: Mapping[str, Encode] = {JSON: json_document, ARROW: arrow_stream, NDJSON: ndjson_stream}
MEDIA_TYPES = tuple(_ENCODINGS)  # in the order of preference where a caller has none


def encode_stream(media_type: str, reply: Reply, rows: AsyncIterator[list[Row]]) -> AsyncGenerator[bytes]:
    """The body of a reply, piece by piece; memory is bounded by the lists that ``rows`` yields.

    ``rows`` is closed with the body.
    """
    return _ENCODINGS[media_type](reply, rows)


def to_embedding(row: Row) -> Embedding:
    """The result of a row, in memory of its own; a grid with CRS and coordinates as its meta has them.

    Raises:
        RSEmbedError: the row's own error.
    """
    if row.error is not None or row.data is None:
        raise row.error or RSEmbedError("the row has neither numbers nor an error.")
    meta: dict[str, JSONValue] = {} if row.meta is None else from_json(row.meta)
    data = np.array(row.data, np.float32)
    if data.ndim == 1:
        return Embedding(data, meta)
    grid = _grid_of(meta, *data.shape[1:])
    return Embedding(georeference(data, grid, name=f"{meta.get('model')}-{meta.get('variant')}"), meta)


def _grid_of(meta: Mapping[str, JSONValue], height: int, width: int) -> Grid:
    crs, transform = meta.get("crs"), meta.get("transform")
    if not isinstance(crs, str) or not isinstance(transform, list) or len(transform) != 6:
        return Grid("", (1.0, 0.0, 0.0, 0.0, -1.0, 0.0), height, width)
    a, b, c, d, e, f = (value if isinstance(value, int | float) else 0.0 for value in transform)
    return Grid(crs, (a, b, c, d, e, f), height, width)
