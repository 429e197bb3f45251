"""``Export``: what a job means, and what of it is still to do. Nothing runs here, and nothing is written."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from rs_embed_core.errors import CheckpointError, InvalidRequest, RSEmbedError
from rs_embed_core.plan import backend_of, recipe
from rs_embed_core.specs.request import Ask
from rs_embed_core.specs.spatial import Spatial
from serve_app.export.chunks import Todo, todo
from serve_app.export.columns import columns_digest
from serve_app.export.configuration import configuration, weights_of
from serve_app.export.estimate import Estimate, Survey, estimate, survey
from serve_app.export.job import ExportJob
from serve_app.export.ledger import Failure, Ledger, Made
from serve_app.export.parts import Part, partition
from serve_app.export.planning import check_backends
from serve_app.export.rows import ends_of
from serve_app.export.store import Store
from serve_app.settings import ServiceSettings


@dataclass(frozen=True)
class Imagery:
    """What one model is made from.

    Attributes:
        provider: None where a service knows it.
        start, end: the window really used, ``[start, end)``.
    """

    provider: str | None
    start: dt.date
    end: dt.date


@dataclass(frozen=True)
class Export:
    """One export, planned.

    Attributes:
        rois: by their rows in the file; those that are none are in ``refused``.
        made: how each model's files are made.
        work: what is missing.
        ends: numbers of rows that the file has had; what was appended since has parts of its own.
        columns: what goes along with each row of the file.
    """

    job: ExportJob
    settings: ServiceSettings
    asks: Mapping[str, Ask]
    rois: Mapping[int, Spatial]
    refused: Sequence[Failure]
    store: Store
    parts: Sequence[Part]
    made: Mapping[str, Made]
    ledgers: Mapping[str, Ledger]
    work: Sequence[Todo]
    surveyed: Survey
    ends: Sequence[int]
    columns: pa.Table | None = None

    @classmethod
    def planned(
        cls,
        job: ExportJob,
        settings: ServiceSettings,
        found: Sequence[Spatial | RSEmbedError],
        *,
        columns: pa.Table | None = None,
        replace: bool = False,
    ) -> Export:
        """The export of a file's rows; what the store has of it is looked at, and nothing is changed.

        Args:
            found: a row's ROI, or what is wrong with it.
            columns: that go along with it.
            replace: what was made in another way is not refused.

        Raises:
            InvalidRequest: no ROI; or the store has results that were made in another way.
            UnknownProvider: the backend is not set up.
        """
        asks = job.asks()
        if job.service is None:  # which knows its own
            check_backends(settings, asks.values())
        rois = {index: roi for index, roi in enumerate(found) if not isinstance(roi, RSEmbedError)}
        refused = [Failure.of(index, row) for index, row in enumerate(found) if isinstance(row, RSEmbedError)]
        if not rois:
            said = f" {refused[0].message}" if refused else ""
            raise InvalidRequest(f"{job.rois} has no ROI.{said}", hint="Give at least one.")
        store = Store.at(job.out)
        store.check_writable()
        ends = ends_of(store, len(found))
        parts = partition(rois, job.part_rois, ends[:-1])
        made = {label: Made.of(configuration(ask, job, settings), parts, job.part_rois) for label, ask in asks.items()}
        ledgers = {label: Ledger.read(store, label, made[label], parts) for label in asks}
        if not replace:
            for label, ledger in ledgers.items():
                ledger.check(made[label])
        work = todo(parts, list(ledgers.values()), rois)
        surveyed = survey(work, rois, asks)
        return cls(job, settings, asks, rois, refused, store, parts, made, ledgers, work, surveyed, ends, columns)

    @cached_property
    def outdated(self) -> list[tuple[str, Part]]:
        """Files that are complete, but for columns of the file of ROIs that are others now; with their models."""
        found = []
        for part in self.parts:
            # What is not finished is written anyway, with the columns of now.
            markers = {label: marker for label, ledger in self.ledgers.items() if (marker := ledger.finished(part))}
            along = columns_digest(self.columns, part) if markers else ""
            found += [(label, part) for label, marker in markers.items() if marker.columns != along]
        return found

    @property
    def estimate(self) -> Estimate:
        """What is still to do."""
        return estimate(self.surveyed, self.asks, list(self.ledgers.values()), self.job.workers.tflops)

    @property
    def rows(self) -> int:
        """Rows that are missing, of all models."""
        return sum(len(labels) for entry in self.work for labels in entry.wanted.values())

    @property
    def version(self) -> str:
        """Of this program."""
        return next(made.version for made in self.made.values())

    @property
    def kept(self) -> int:
        """Rows that are there, of all models."""
        return sum(marker.rows for ledger in self.ledgers.values() for marker in ledger.markers.values())

    @property
    def failures(self) -> list[tuple[str, Failure]]:
        """Of all runs so far, each with its model; a row that is no ROI has none."""
        found = [("", failure) for failure in self.refused]
        for label, ledger in self.ledgers.items():
            found += [(label, failure) for _, marker in sorted(ledger.markers.items()) for failure in marker.failures]
        return found

    @property
    def ids(self) -> list[object] | None:
        """Of the rows of the file; None where the job names no column of ids."""
        if self.columns is None or self.job.id_column is None:
            return None
        ids: list[object] = self.columns[self.job.id_column].to_pylist()
        return ids

    @property
    def problems(self) -> list[tuple[str, Failure]]:
        """What is known to fail before anything runs: rows that are no ROI, and ROIs that a model cannot plan."""
        return [*(("", failure) for failure in self.refused), *self.surveyed.problems]

    @property
    def allowed_failures(self) -> float:
        """Failures with which the export counts as good."""
        allowed = self.job.allowed_failures
        return allowed if allowed >= 1 else allowed * len(self.asks) * (len(self.rois) + len(self.refused))

    @property
    def imagery(self) -> dict[str, Imagery]:
        """By model."""
        default, by_service = self.settings.providers.default, self.job.service is not None
        out = {}
        for label, ask in self.asks.items():
            window = recipe(ask).window
            out[label] = Imagery(None if by_service else backend_of(ask, default), window.start, window.end)
        return out

    @property
    def weights_missing(self) -> dict[str, str]:
        """What this machine lacks of the models' weights, by model; the workers' machines may have it."""
        if self.job.service is not None:
            return {}
        wanted = {label: weights for label, ask in self.asks.items() if (weights := weights_of(ask)) is not None}
        if not wanted:
            return {}
        from rs_embed_core.checkpoints import Checkpoints  # noqa: PLC0415 - torch, only where there are weights

        there, out = Checkpoints(self.settings.checkpoints.root, offline=True), {}
        for label, weights in wanted.items():
            try:
                there.locate(weights)
            except CheckpointError as error:
                out[label] = error.message
        return out
