"""What ``rs-embed export`` says: the estimate, how far it is, and what failed."""

from __future__ import annotations

import datetime as dt
import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from serve_app.commands.command import Lines, table

if TYPE_CHECKING:
    from serve_app.export.estimate import Estimate, ModelCost
    from serve_app.export.ledger import Failure
    from serve_app.export.planned import Export
    from serve_app.export.run import Progress

_SHOWN = 20  # failures that are printed
_NAMED = 8  # columns and ids

type Failures = Sequence[tuple[str, Failure]]
"""Each with its model; a row that is no ROI has none."""


def file_lines(unused: Sequence[str], ids: Sequence[object] | None) -> Lines:
    """Yield what of the file of ROIs may not be as it was meant."""
    if unused:
        yield f"columns that do not count: {_some(unused)} (keep: [...] writes them along; dates are the job's)"
    twice = [name for name, count in Counter(map(str, ids or ())).items() if count > 1]
    if twice:
        yield f"ids of several rows: {len(twice)} ({_some(twice)})"


def _some(names: Sequence[str]) -> str:
    return ", ".join([*names[:_NAMED], *(["..."] if len(names) > _NAMED else [])])


def estimate_lines(planned: Export, estimate: Estimate) -> Lines:
    """Yield what there is, what is complete, and what the rest will take."""
    files = len(planned.parts) * len(planned.asks)
    todo = sum(len({label for labels in entry.wanted.values() for label in labels}) for entry in planned.work)
    bad = f" (bad rows: {len(planned.refused)})" if planned.refused else ""
    yield f"ROIs: {len(planned.rois)}{bad}; files: {files}, complete: {files - todo}"
    yield from imagery_lines(planned)
    for label, ledger in planned.ledgers.items():
        if gone := len(ledger.stale) + len(ledger.orphans):
            yield f"files of {label} that are removed first: {gone}"
    if planned.outdated:
        yield f"files with other columns beside their rows: {len(planned.outdated)} (written anew, nothing is computed)"
    if not planned.work:
        return
    others = {ledger.version_before for ledger in planned.ledgers.values()} - {None, planned.version}
    yield from (f"made with version {other} so far; this is {planned.version}" for other in sorted(map(str, others)))
    yield (
        f"to do: ROIs {estimate.rois}, reads {estimate.reads}, pixels {_count(estimate.pixels)}, "
        f"{_size(estimate.bytes_read)} of imagery in memory, {_size(estimate.bytes_written)} to write"
    )
    yield from table([("MODEL", "ROIS", "SAMPLES", "DEVICE", "WRITTEN"), *map(_cost_row, estimate.models.items())])
    yield f"DEVICE: measured where parts are complete, else about, at {planned.job.workers.tflops:g} TFLOP/s"


def imagery_lines(planned: Export) -> Lines:
    """Yield where the imagery comes from and of which dates; the models of each where that differs."""
    texts: dict[str, list[str]] = {}
    for label, imagery in planned.imagery.items():
        made_up = " (made up)" if imagery.provider == "synthetic" else ""
        window = f"{imagery.start} to {imagery.end}{_open_end(imagery.end)}"
        text = f"{imagery.provider or 'that of the service'}{made_up}, {window}"
        texts.setdefault(text, []).append(label)
    for text, labels in texts.items():
        yield f"imagery: {text}{'' if len(texts) == 1 else f': {", ".join(labels)}'}"


def _open_end(end: dt.date) -> str:
    from serve_app.export.window import today  # its package loads NumPy, which help does without

    return " (not over yet: later runs add nothing to what is made now)" if end > today() else ""


def failure_lines(failures: Failures) -> Lines:
    """Yield the first failures, one a line."""
    yield from (f"  {_who(name, found)}{found.code}: {found.message}" for name, found in failures[:_SHOWN])


def by_code(failures: Failures) -> str:
    """How many there are, and of what: ``12 (no_imagery 10, provider_timeout 2)``."""
    codes = Counter(found.code for _, found in failures).most_common()
    return f"{len(failures)}{f' ({", ".join(f"{code} {count}" for code, count in codes)})' if codes else ''}"


def progress_line(progress: Progress) -> str:
    """How far it is."""
    rate = progress.done / progress.elapsed_s if progress.elapsed_s else 0.0
    left = f", about {_time(progress.left_s)} left" if progress.left_s else ""
    failed = f", {progress.failed} failed" if progress.failed else ""
    return (
        f"{progress.done} of {progress.total} rows, {progress.files} files{failed}, "
        f"{rate:.0f} rows/s, {_time(progress.elapsed_s)}{left}"
    )


def _who(name: str, found: Failure) -> str:
    """The ROI and the model; what is wrong with a row of the file says by itself which one it is."""
    return f"ROI {found.index}, {name}: " if name else ""


def _cost_row(entry: tuple[str, ModelCost]) -> Sequence[str]:
    label, cost = entry
    seconds = "not known" if cost.device_s is None else f"{_time(cost.device_s)}{', measured' if cost.measured else ''}"
    return label, str(cost.rois), str(cost.samples), seconds, _size(cost.bytes_written)


def _count(number: float) -> str:
    return _scaled(number, ("", " thousand", " million", " billion", " trillion"))


def _size(nbytes: float) -> str:
    return _scaled(nbytes, (" B", " kB", " MB", " GB", " TB", " PB"))


def _scaled(number: float, units: Sequence[str]) -> str:
    power = 0 if number < 1 else min(len(units) - 1, int(math.log10(number) / 3 + 1e-9))
    return f"{number / 1000**power:.3g}{units[power]}"


def _time(seconds: float) -> str:
    for unit, length in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"
