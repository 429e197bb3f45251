"""The stages of an export as Ray Data runs them, each an actor: read, encode; or ask a service.

An error that ends the export is handed on as a value, for whoever started it to raise: one that a worker raised would
arrive as a text inside of Ray's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pydantic_core import to_json

from rs_embed_core.errors import RoiTooLarge, RSEmbedError
from rs_embed_core.specs.request import Ask
from serve_app.client import EmbeddingClient, StreamItem
from serve_app.export.chunks import Chunk, Place
from serve_app.export.encoding import Encoding
from serve_app.export.job import Workers
from serve_app.export.packing import packed, unpacked
from serve_app.export.reading import Block, Reading
from serve_app.observe.measures import belong_to
from serve_app.settings import CheckpointSettings, ServiceSettings
from serve_app.wire.rows import Row

_APPLICATION = "export"  # what metrics call it


@dataclass(frozen=True, eq=False)
class ReadChunk:
    """A chunk with its imagery, ready for each of its models."""

    chunk: Chunk
    blocks: Mapping[str, Block]


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What became of a chunk for one model.

    Attributes:
        rows: one for each ROI.
        device_s: that the forwards took; 0 where a service computed.
    """

    part: int
    label: str
    rows: tuple[Row, ...]
    device_s: float = 0.0


class ReadRois:
    """Chunks in, imagery out. Runs where the CPUs and the network are."""

    def __init__(self, asks: Mapping[str, Ask], settings: ServiceSettings, timeout_s: float, quota: str) -> None:
        belong_to(_APPLICATION)
        self._reading = _made(lambda: Reading(asks, settings, timeout_s=timeout_s, quota=quota))

    def __call__(self, table: pa.Table) -> pa.Table:
        """See ``ReadChunk``."""
        return _answered(table, self._read)

    def _read(self, chunk: Chunk) -> Iterable[ReadChunk]:
        reading = _there(self._reading)
        return [ReadChunk(chunk, reading.read(chunk.places, chunk.labels))]


class EncodeRois:
    """Imagery in, rows out. Runs where the GPUs are."""

    def __init__(self, asks: Mapping[str, Ask], workers: Workers, checkpoints: CheckpointSettings) -> None:
        belong_to(_APPLICATION)
        self._encoding = _made(lambda: Encoding(asks, workers, checkpoints))

    def __call__(self, table: pa.Table) -> pa.Table:
        """See ``Outcomes``."""
        return _answered(table, self._encoded)

    def _encoded(self, read: ReadChunk) -> Iterable[Outcomes]:
        encoding, chunk = _there(self._encoding), read.chunk
        for label in chunk.labels:
            rows, seconds = encoding.rows(label, read.blocks[label], dict(chunk.places))
            yield Outcomes(chunk.part, label, tuple(rows), seconds)


class AskService:
    """Chunks in, rows of a service out, over its handle.

    Args:
        models: by label, as ``stream_models`` takes them.
        how: its other arguments.
        timeout_s: for the answer to one chunk.
    """

    def __init__(
        self, application: str, models: Mapping[str, Mapping[str, Any]], how: Mapping[str, Any], timeout_s: float
    ) -> None:
        self._client = _made(lambda: EmbeddingClient.from_handle(application, timeout_s=timeout_s))
        self._models = models
        self._how = how

    def __call__(self, table: pa.Table) -> pa.Table:
        """See ``Outcomes``."""
        return _answered(table, self._asked)

    def _asked(self, chunk: Chunk) -> Iterable[Outcomes]:
        rows = alone_where_large(chunk, self._rows)
        return [Outcomes(chunk.part, label, tuple(found.values())) for label, found in rows.items()]

    def _rows(self, labels: Sequence[str], places: Sequence[Place]) -> Rows:
        models = {label: self._models[label] for label in labels}
        out: Rows = {label: {} for label in labels}
        rois = [roi for _, roi in places]
        for label, item in _there(self._client).stream_models(models, spatials=rois, **self._how):
            index = places[item.index][0]
            out[label][index] = _row(item, index)
        return out


type Rows = dict[str, dict[int, Row]]
"""By label and index."""


def alone_where_large(chunk: Chunk, ask: Callable[[Sequence[str], Sequence[Place]], Rows]) -> Rows:
    """The rows of a chunk; a place that is too large is asked for once more, model by model.

    It may be too large only for the read that the models have in common: see ``plan_of``.
    """
    rows = ask(chunk.labels, chunk.places)
    for label, found in rows.items() if len(chunk.labels) > 1 else ():
        large = {index for index, row in found.items() if isinstance(row.error, RoiTooLarge)}
        if places := tuple(place for place in chunk.places if place[0] in large):
            found.update(ask((label,), places)[label])
    return rows


def _made[T](make: Callable[[], T]) -> T | RSEmbedError:
    try:
        return make()
    except RSEmbedError as error:
        return error


def _there[T](made: T | RSEmbedError) -> T:
    if isinstance(made, RSEmbedError):
        raise made
    return made


def _answered[T](table: pa.Table, work: Callable[[T], Iterable[object]]) -> pa.Table:
    """What the work makes of the values of a table; an error of this stage, or of the one before, in its place."""
    out: list[object] = []
    for value in unpacked(table):
        try:
            out.extend([value] if isinstance(value, RSEmbedError) else work(value))
        except RSEmbedError as error:
            out.append(error)
    return packed(out)


def _row(item: StreamItem, index: int) -> Row:
    if item.embedding is None:
        return Row(index, error=item.error)
    meta = to_json(item.embedding.meta).decode()
    return Row(index, item.embedding.data, meta)  # type: ignore[arg-type]  # a vector: exports have no grids
