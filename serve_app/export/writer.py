"""Rows of an export become files: collected until a part is complete, then written with its marker."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic_core import from_json, to_json

from rs_embed_core.embedding import Embedding
from rs_embed_core.errors import RSEmbedError
from rs_embed_core.export.geoparquet import write_geoparquet
from rs_embed_core.specs.spatial import Spatial
from serve_app.export.chunks import Todo
from serve_app.export.columns import columns_digest
from serve_app.export.ledger import Failure, Ledger, Marker, data_file, marker_file
from serve_app.export.parts import Part
from serve_app.export.stages import Outcomes
from serve_app.export.store import Store
from serve_app.wire.rows import Row


@dataclass
class Gathered:
    """The rows of a part and model, so far.

    Attributes:
        left: ROIs without a row.
        twins: as in ``Todo``.
    """

    part: Part
    label: str
    left: set[int]
    rows: list[Row] = field(default_factory=list)
    device_s: float = 0.0
    twins: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    def add(self, outcomes: Outcomes) -> int:
        """Take rows of ROIs that have none yet; how many those were."""
        before = len(self.left)
        for row in outcomes.rows:
            for index in {row.index, *self.twins.get(row.index, ())} & self.left:
                self.left.remove(index)
                self.rows.append(replace(row, index=index))
        new = before - len(self.left)
        if new:  # what is done again, with a worker that died, is no cost of these rows
            self.device_s += outcomes.device_s
        return new


class Gathering:
    """Rows on their way into parts; what is complete is let go.

    Args:
        work: what is missing.
    """

    def __init__(self, work: Iterable[Todo]) -> None:
        self._open = {
            (entry.part.number, label): Gathered(entry.part, label, indices, twins=entry.twins)
            for entry in work
            for label, indices in _by_label(entry).items()
        }

    @property
    def left(self) -> int:
        """Rows of all models that have not come."""
        return sum(len(gathered.left) for gathered in self._open.values())

    def add(self, outcomes: Outcomes) -> tuple[int, Gathered | None]:
        """How many rows are new, and the part and model that they complete."""
        key = (outcomes.part, outcomes.label)
        if key not in self._open:
            return 0, None
        gathered = self._open[key]
        new = gathered.add(outcomes)
        return new, None if gathered.left else self._open.pop(key)


def _by_label(entry: Todo) -> dict[str, set[int]]:
    out: dict[str, set[int]] = {}
    for index, labels in entry.wanted.items():
        for label in labels:
            out.setdefault(label, set()).add(index)
    return out


class Writer:
    """Writes the parts of an export; several threads may.

    Args:
        ledgers: by label; what is written is noted there too.
        rois: by index.
        columns: what goes along with each row of the file of ROIs; its geometry, too.
    """

    def __init__(
        self,
        store: Store,
        ledgers: Mapping[str, Ledger],
        rois: Mapping[int, Spatial],
        columns: pa.Table | None = None,
    ) -> None:
        self._columns = columns if columns is not None and columns.num_columns else None
        self._store = store
        self._ledgers = ledgers
        self._rois = rois

    def write(self, gathered: Gathered) -> Marker:
        """Write the file of a part and model, with the rows that it had before, and then its marker.

        Without a new row it is written for its columns' sake.
        """
        part, ledger = gathered.part, self._ledgers[gathered.label]
        before = ledger.markers.get(part.number)
        name = data_file(gathered.label, part)
        found = {row.index: _embedding(row) for row in gathered.rows if row.error is None}
        failures = [Failure.of(row.index, row.error) for row in gathered.rows if row.error is not None]
        seconds = gathered.device_s
        if before is not None:
            new = found.keys() | {failure.index for failure in failures}
            failures += [failure for failure in before.failures if failure.index not in new]
            seconds += before.device_s
            if before.rows:
                found |= dict(self._rows_of(name))
        size = self._write_file(name, found) if found else 0
        failures.sort(key=lambda failure: failure.index)
        along = columns_digest(self._columns, part)
        marker = Marker(ledger.digests[part.number], len(found), tuple(failures), size, round(seconds, 6), along)
        self._store.write_json(marker_file(gathered.label, part), marker.to_dict())
        ledger.markers[part.number] = marker
        return marker

    def _write_file(self, name: str, found: Mapping[int, Embedding]) -> int:
        indices = sorted(found)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "part.parquet"
            rois = [self._rois[i] for i in indices]
            more = None if self._columns is None else self._columns.take(indices)
            write_geoparquet(path, [found[i] for i in indices], rois, indices=indices, columns=more)
            content = path.read_bytes()
        self._store.write(name, content)
        return len(content)

    def _rows_of(self, name: str) -> Iterator[tuple[int, Embedding]]:
        with self._store.open(name) as file:
            table = pq.read_table(file, columns=["index", "embedding", "meta"])
        for row in table.to_pylist():
            yield row["index"], Embedding(np.array(row["embedding"], np.float32), from_json(row["meta"]))


def _embedding(row: Row) -> Embedding:
    if row.data is None or row.meta is None:
        raise RSEmbedError(f"ROI {row.index} has neither numbers nor an error.")
    return Embedding(row.data, from_json(row.meta))


def list_failures(
    store: Store,
    name: str,
    failures: Sequence[tuple[str, Failure]],
    rois: Mapping[int, Spatial],
    ids: Sequence[object] | None = None,
) -> None:
    """Write every failure as a line of JSON: model, index, code, message, again and the ROI; none removes the file.

    Args:
        ids: of the rows of the file of ROIs, where it has some.
    """
    if not failures:
        store.delete(name)
        return
    lines = [
        to_json(
            {
                "model": label,
                **vars(failure),
                **({} if ids is None else {"id": ids[failure.index]}),
                "roi": rois[failure.index].to_dict() if failure.index in rois else None,
            },
            bytes_mode="hex",  # an id may be of any type: bytes that are no text, not a number, ...
            inf_nan_mode="null",
            fallback=str,
        )
        for label, failure in failures
    ]
    store.write(name, b"\n".join(lines) + b"\n")
