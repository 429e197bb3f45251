"""What an export will cost, from its plans alone: nothing is read and nothing is computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from rs_embed_core.chip import FetchPlan
from rs_embed_core.errors import JSONValue, RSEmbedError
from rs_embed_core.plan import recipe
from rs_embed_core.sizes import VALUE_BYTES, sample_values, samples_of
from rs_embed_core.specs.request import Ask
from rs_embed_core.specs.spatial import Spatial
from serve_app.export.chunks import Todo
from serve_app.export.ledger import Failure, Ledger
from serve_app.export.planning import plan_of

_ROW_BYTES = 300  # of a row beside its vector: a file's metas are alike, so little is left of them
_FILE_BYTES = 22_000  # of a file beside its rows: CRS, STAC collection, schema, the first row's meta
_VECTOR_SHARE = 0.8  # what zstd leaves of a vector's bytes (dofa; mosaiks 0.6, for its zeros)


@dataclass(frozen=True)
class ModelCost:
    """What one model takes.

    Attributes:
        rois: that will be computed.
        samples: inputs of the network; an ROI that is cut into tiles has several, and equal ROIs share theirs.
        device_s: seconds on one device; None where there is nothing to tell it by.
        measured: whether ``device_s`` is what parts that are done took; else it follows from parameters and tokens.
        bytes_written: as files that are there have it, else about.
    """

    rois: int
    samples: int
    device_s: float | None
    measured: bool
    bytes_written: float


@dataclass(frozen=True)
class Estimate:
    """What is still to do.

    Attributes:
        rois: of which something is missing.
        refused: of those, how many a model cannot plan.
        reads: of providers, at least; models of equal read share theirs, and so do ROIs of one file that are equal.
        pixels: frames x rows x columns of all reads.
        values: the same times bands.
        bytes_read: of these as float32 in memory; what crosses the network is less.
    """

    rois: int
    refused: int
    reads: int
    pixels: int
    values: int
    bytes_read: int
    models: Mapping[str, ModelCost]

    @property
    def device_s(self) -> float | None:
        """Of all models; None where one is not known."""
        known = [cost.device_s for cost in self.models.values()]
        return None if None in known else sum(seconds for seconds in known if seconds is not None)

    @property
    def bytes_written(self) -> float:
        """Of all models."""
        return sum(cost.bytes_written for cost in self.models.values())

    def to_dict(self) -> dict[str, JSONValue]:
        """The JSON form."""
        return {**asdict(self), "device_s": self.device_s, "bytes_written": self.bytes_written}


@dataclass
class Survey:
    """The plans of ROIs, added up.

    Attributes:
        rois: of which something is missing.
        nbytes: of the imagery and the samples of each place.
        planned: rows of each model; ``samples``: inputs of its network.
        problems: why a model cannot plan an ROI, with the model.
    """

    rois: int = 0
    nbytes: dict[int, float] = field(default_factory=dict)
    samples: dict[str, int] = field(default_factory=dict)
    planned: dict[str, int] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)
    problems: list[tuple[str, Failure]] = field(default_factory=list)
    reads: int = 0
    pixels: int = 0
    values: int = 0

    def add(self, indices: Sequence[int], roi: Spatial, asks: Mapping[str, Ask]) -> None:
        """Plan one place for these models: that of one ROI, or of several, which are counted and share the rest."""
        self.rois += len(indices)
        reads: set[FetchPlan] = set()
        held = 0
        for label, ask in asks.items():
            try:
                resolved = plan_of(ask, roi)
            except RSEmbedError as error:  # its row will say so too
                self.problems += [(label, Failure.of(index, error)) for index in indices]
                continue
            reads.update((resolved.fetch, *resolved.also))
            samples = samples_of(resolved)
            held += sample_values(resolved)
            self.samples[label] = self.samples.get(label, 0) + samples
            self.planned[label] = self.planned.get(label, 0) + len(indices)
        own = sum(read.pixels for read in reads)
        self.reads += len(reads)
        self.values += own
        self.pixels += sum(read.pixels // len(read.bands) for read in reads)
        self.nbytes[indices[0]] = float(VALUE_BYTES * max(own, held))


def survey(work: Iterable[Todo], rois: Mapping[int, Spatial], asks: Mapping[str, Ask]) -> Survey:
    """The plans of everything that is missing."""
    found = Survey()
    for entry in work:
        for label in {label for labels in entry.wanted.values() for label in labels}:
            found.files[label] = found.files.get(label, 0) + 1
        for index, labels in entry.asked.items():
            found.add((index, *entry.twins.get(index, ())), rois[index], {label: asks[label] for label in labels})
    return found


def estimate(found: Survey, asks: Mapping[str, Ask], ledgers: Sequence[Ledger], tflops: float) -> Estimate:
    """What the surveyed ROIs will cost.

    Args:
        ledgers: what is done of the same export says how long it took.
        tflops: what the device sustains, in 10^12 operations a second.
    """
    models = {
        ledger.label: _cost(
            asks[ledger.label],
            _Wanted(*(counts.get(ledger.label, 0) for counts in (found.planned, found.samples, found.files))),
            ledger,
            tflops,
        )
        for ledger in ledgers
    }
    return Estimate(
        rois=found.rois,
        refused=len({failure.index for _, failure in found.problems}),
        reads=found.reads,
        pixels=found.pixels,
        values=found.values,
        bytes_read=VALUE_BYTES * found.values,
        models=models,
    )


def operations(ask: Ask) -> float | None:
    """Floating-point operations of one sample, about: twice the parameters for every token.

    None for a network without parameters to count; 0 for a product, which computes nothing.
    """
    shared = recipe(ask)
    if shared.card.product is not None:
        return 0.0
    parameters_m = shared.card.variant(shared.selection.variant, shared.selection.modality).parameters_m
    if not parameters_m:
        return None
    shape = shared.input.shape_for(shared.selection.settings)
    return 2e6 * parameters_m * len(shared.frames) * (shape.image_size // shape.patch_size) ** 2


@dataclass(frozen=True)
class _Wanted:
    """What is missing of one model."""

    rois: int
    samples: int
    files: int


def _cost(ask: Ask, wanted: _Wanted, ledger: Ledger, tflops: float) -> ModelCost:
    shared = recipe(ask)
    dim = shared.card.variant(shared.selection.variant, shared.selection.modality).dim
    work = operations(ask)
    device_s = None if work is None else wanted.samples * work / (1e12 * tflops)
    row_bytes = _VECTOR_SHARE * VALUE_BYTES * dim + _ROW_BYTES
    markers = [marker for marker in ledger.markers.values() if marker.rows]
    done = sum(marker.rows for marker in markers)
    seconds = sum(marker.device_s for marker in markers)  # none where a service computed them
    if seconds:
        device_s = wanted.rois * seconds / done
    if done:  # the vector may be longer than the variant's, by the model's options
        there = sum(marker.file_bytes for marker in markers) - _FILE_BYTES * len(markers)
        row_bytes = max(0, there) / done
    written = wanted.rois * row_bytes + wanted.files * _FILE_BYTES
    return ModelCost(wanted.rois, wanted.samples, device_s, bool(seconds), written)
