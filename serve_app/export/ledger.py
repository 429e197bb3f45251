"""What of an export is done: a marker beside each file says so, and says when something has changed since."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from rs_embed_core.errors import InvalidRequest, JSONValue, ModelError, NoImagery, RSEmbedError, SpecError
from serve_app.export.configuration import VERSION, changes, set_up_as
from serve_app.export.parts import Part, digest
from serve_app.export.store import Store

FAILURES = "_failures.jsonl"  # the file that lists them all
_DONE = "_done"
OWN_FOLDERS = ("", _DONE)  # beside those of the models
_MADE = "_made.json"
_ANSWERED = "_service.json"
_SHOWN = 5  # changes that are named
_READS_AT_ONCE = 32  # of markers: in an object store each takes a while
_MARKER = re.compile(r"part-\d{5,}\.json")
_DATA = re.compile(r"part-\d{5,}\.parquet")
_FINAL = (SpecError, ModelError, NoImagery)  # the ROI's or the model's own affair: they will fail again
_TEMPORARY_CODES = ("checkpoint_error", "out_of_memory", "forward_error")


@dataclass(frozen=True)
class Failure:
    """Why one ROI has no row.

    Attributes:
        again: whether another run should try it again.
    """

    index: int
    code: str
    message: str
    again: bool

    @classmethod
    def of(cls, index: int, error: RSEmbedError) -> Failure:
        """The failure that an error is."""
        final = isinstance(error, _FINAL) and error.code not in _TEMPORARY_CODES and not error.retryable
        return cls(index, error.code, str(error), not final)


@dataclass(frozen=True)
class Marker:
    """What became of one part for one model; written after its file.

    Attributes:
        digest: of the part's ROIs and of how they were embedded.
        rows: in the file; with none there is no file.
        device_s: seconds that the forwards of these rows took.
        columns: digest of what goes along with the rows, as ``columns_digest`` has it.
    """

    digest: str
    rows: int
    failures: tuple[Failure, ...] = ()
    file_bytes: int = 0
    device_s: float = 0.0
    columns: str = ""

    def to_dict(self) -> dict[str, JSONValue]:
        """The JSON form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Marker:
        """The marker that ``to_dict`` described.

        Raises:
            KeyError, TypeError: it is none.
        """
        failures = tuple(Failure(**failure) for failure in value["failures"])
        return cls(**{**value, "failures": failures})


@dataclass(frozen=True)
class Made:
    """How the files of one model are made: its configuration, and which ROIs go into which part.

    Attributes:
        version: of this program; another one is said, and its results are kept.
    """

    configuration: Mapping[str, JSONValue]
    rois: int
    rois_digest: str
    part_rois: int
    version: str = VERSION

    @classmethod
    def of(cls, configuration: Mapping[str, JSONValue], parts: Sequence[Part], part_rois: int) -> Made:
        """For these parts."""
        rois = sum(len(part.indices) for part in parts)
        return cls(configuration, rois, digest([part.digest for part in parts]), part_rois)

    def to_dict(self) -> dict[str, JSONValue]:
        """The JSON form."""
        return asdict(self)

    def digests(self, parts: Iterable[Part]) -> dict[int, str]:
        """What the marker of each part must say, by number: it changes with the ROIs and with the configuration."""
        made = digest(dict(self.configuration))
        return {part.number: digest([made, part.digest]) for part in parts}


def data_file(label: str, part: Part) -> str:
    """The file of a part and model."""
    return f"model={label}/{part.name}.parquet"


def marker_file(label: str, part: Part) -> str:
    """Its marker."""
    return f"{_DONE}/{label}/{part.name}.json"


@dataclass
class Ledger:
    """The markers of one model.

    Attributes:
        digests: what the marker of each part must say, by number.
        stale: names of markers of another configuration, or of parts that there are no more.
        orphans: names of data files that no marker speaks for: a run was killed before it wrote the marker.
        before: how what is there was made (``_made.json``); None where nothing says it.
        answered: how the service that computes was set up for the rows that are there; None until it is known.
    """

    label: str
    digests: Mapping[int, str]
    markers: dict[int, Marker] = field(default_factory=dict)
    stale: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    before: Mapping[str, Any] | None = None  # Any: JSON
    answered: Mapping[str, Any] | None = None

    @classmethod
    def read(cls, store: Store, label: str, made: Made, parts: Sequence[Part]) -> Ledger:
        """What the store has. A marker that cannot be read is none, and neither is one of a file of another size."""
        ledger = cls(label, made.digests(parts), before=store.read_json(f"{_DONE}/{label}/{_MADE}"))
        by_name = {f"{part.name}.json": part for part in parts}
        there = {name: size for name, size in store.sizes(f"model={label}").items() if _DATA.fullmatch(name)}
        known = set()
        for name, marker in _markers(store, f"{_DONE}/{label}"):
            part, file = by_name.get(name), f"{name.removesuffix('.json')}.parquet"
            if part is None or marker.digest != ledger.digests[part.number]:
                ledger.stale.append(name)
            elif not marker.rows or there.get(file) == marker.file_bytes:
                ledger.markers[part.number] = marker
            else:
                continue
            known.add(file)
        ledger.orphans += sorted(there.keys() - known)
        return ledger

    def missing(self, part: Part) -> tuple[int, ...]:
        """The ROIs of a part that have neither a row nor a failure for good."""
        marker = self.markers.get(part.number)
        if marker is None:
            return part.indices
        again = {failure.index for failure in marker.failures if failure.again}
        return tuple(index for index in part.indices if index in again)

    def finished(self, part: Part) -> Marker | None:
        """The marker of a part whose file has all rows that it can have; None without a file, or with rows to come."""
        marker = self.markers.get(part.number)
        return marker if marker is not None and marker.rows and not self.missing(part) else None

    @property
    def version_before(self) -> str | None:
        """That of the program that has last made files which count; None where there are none."""
        found = (self.before or {}).get("version")
        return found if self.markers and isinstance(found, str) else None

    def check(self, made: Made) -> None:
        """Refuse to mix results that were made in different ways.

        Raises:
            InvalidRequest: the store has some that were, or may have been; it says what differs.
        """
        hint = "Give another --out; or --replace, to compute again what differs."
        if self.orphans and self.before is None:
            msg = f"nothing says how {self.orphans[0]} of {self.label} in --out was made."
            raise InvalidRequest(msg, hint=hint)
        if not self.stale:
            return
        differs = [] if self.before is None else changes(self.before, made.to_dict())
        differs = [change for change in differs if not change.startswith("rois_digest")] or differs
        if len(differs) > _SHOWN:
            differs = [*differs[:_SHOWN], f"and {len(differs) - _SHOWN} more"]
        said = "; ".join(differs) or f"{len(self.stale)} parts have other digests"
        msg = f"the results of {self.label} in --out were made in another way ({said})."
        raise InvalidRequest(msg, hint=hint)

    def begin(self, store: Store, made: Made) -> None:
        """Remove what does not count, and say how the files are made, before there is one."""
        for name in self.stale:  # first the marker, so that no file is ever taken for what it is not
            store.delete(f"{_DONE}/{self.label}/{name}")
            store.delete(f"model={self.label}/{name.removesuffix('.json')}.parquet")
        for name in self.orphans:
            store.delete(f"model={self.label}/{name}")
        self.stale.clear()
        self.orphans.clear()
        for folder in (f"{_DONE}/{self.label}", f"model={self.label}"):
            store.sweep(folder)
        if not self.markers:
            store.delete(f"{_DONE}/{self.label}/{_ANSWERED}")
        if self.before != made.to_dict():
            store.write_json(f"{_DONE}/{self.label}/{_MADE}", made.to_dict())
            self.before = made.to_dict()

    def check_answer(self, store: Store, meta: Mapping[str, JSONValue]) -> None:
        """Refuse a row of a service that is set up in another way than it was for the rows before; note the first.

        Raises:
            InvalidRequest: it says what differs.
        """
        name, found = f"{_DONE}/{self.label}/{_ANSWERED}", set_up_as(meta)
        if self.answered is None:
            self.answered = store.read_json(name)
        if self.answered is None:
            store.write_json(name, found)
            self.answered = found
        if differs := changes(self.answered, found):
            msg = f"the service makes {self.label} in another way than it did before ({'; '.join(differs)})."
            hint = f"Give another --out; or remove model={self.label} and {_DONE}/{self.label} from this one."
            raise InvalidRequest(msg, hint=hint)


def _markers(store: Store, folder: str) -> list[tuple[str, Marker]]:
    """Those that can be read, by the names of their files."""
    names = sorted(name for name in store.sizes(folder) if _MARKER.fullmatch(name))
    with ThreadPoolExecutor(_READS_AT_ONCE) as threads:
        found = list(threads.map(lambda name: store.read_json(f"{folder}/{name}"), names))
    out = []
    for name, value in zip(names, found, strict=True):
        # None: it was cut off, or another run has removed it meanwhile.
        with suppress(KeyError, TypeError):
            out += [] if value is None else [(name, Marker.from_dict(value))]
    return out
