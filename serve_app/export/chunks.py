"""What is sent to the job's workers at once: a few ROIs of one part, and the models that lack them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rs_embed_core.specs.spatial import Spatial
from serve_app.export.ledger import Ledger
from serve_app.export.parts import Part

_MOST_ROIS = 64  # as in a block of the service: a whole batch, and few enough to lose with a process
_MOST_BYTES = 128e6

type Place = tuple[int, Spatial]
"""The row of an ROI in its file, and the ROI."""


@dataclass(frozen=True)
class Chunk:
    """Some ROIs.

    Attributes:
        part: number of their part.
        labels: names of the models that they are wanted for.
    """

    part: int
    labels: tuple[str, ...]
    places: tuple[Place, ...]


@dataclass(frozen=True)
class Todo:
    """What one part lacks.

    Attributes:
        wanted: for each ROI, the models that it is wanted for.
        twins: of an ROI, the others in ``wanted`` that are the same place: what becomes of it becomes of them too.
    """

    part: Part
    wanted: Mapping[int, tuple[str, ...]]
    twins: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    @property
    def asked(self) -> dict[int, tuple[str, ...]]:
        """``wanted``, each place once."""
        others = {index for twins in self.twins.values() for index in twins}
        return {index: labels for index, labels in self.wanted.items() if index not in others}


def todo(parts: Sequence[Part], ledgers: Sequence[Ledger], rois: Mapping[int, Spatial]) -> list[Todo]:
    """What is missing of an export, parts that are complete left out.

    Equal places are neighbours on the curve, so that, but for the borders of parts, each is asked for once.
    """
    out = []
    for part in parts:
        missing = {ledger.label: set(ledger.missing(part)) for ledger in ledgers}
        wanted = {
            index: labels
            for index in part.indices
            if (labels := tuple(label for label, lacking in missing.items() if index in lacking))
        }
        if wanted:
            out.append(Todo(part, wanted, _twins(wanted, rois)))
    return out


def _twins(wanted: Mapping[int, tuple[str, ...]], rois: Mapping[int, Spatial]) -> dict[int, tuple[int, ...]]:
    """Of each place the first ROI, with the others that are wanted for the same models."""
    same: dict[tuple[Spatial, tuple[str, ...]], list[int]] = {}
    for index, labels in wanted.items():
        same.setdefault((rois[index], labels), []).append(index)
    return {first: tuple(others) for first, *others in same.values() if others}


def chunks(
    work: Iterable[Todo], rois: Mapping[int, Spatial], nbytes: Mapping[int, float], most_rois: int = _MOST_ROIS
) -> Iterator[Chunk]:
    """Yield what is missing in chunks whose imagery fits; neighbours stay together.

    Args:
        nbytes: of what will be read for each ROI.
        most_rois: in a chunk.
    """
    for entry in work:
        places: list[Place] = []
        labels: tuple[str, ...] = ()
        held = 0.0
        for index, wanted in entry.asked.items():
            full = len(places) == most_rois or held + nbytes[index] > _MOST_BYTES
            if places and (full or wanted != labels):
                yield Chunk(entry.part.number, labels, tuple(places))
                places, held = [], 0.0
            labels = wanted
            places.append((index, rois[index]))
            held += nbytes[index]
        yield Chunk(entry.part.number, labels, tuple(places))
