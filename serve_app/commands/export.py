"""``rs-embed export``: many ROIs and models into partitioned GeoParquet, on Ray."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

from serve_app.commands.arguments import model_and_variant
from serve_app.commands.command import Failed, Lines, Subcommands, add_command, add_json, dumps, table
from serve_app.commands.configuration import read_settings

if TYPE_CHECKING:
    from serve_app.export.estimate import Estimate, ModelCost
    from serve_app.export.job import ExportJob
    from serve_app.export.ledger import Failure
    from serve_app.export.planned import Export
    from serve_app.export.run import Progress

_EXAMPLES = (
    "rs-embed export --rois fields.parquet --out embeddings --model mosaiks --model dofa/base --year 2022 --dry-run",
    "rs-embed export job.yaml",
    "rs-embed export job.yaml --service rs-embed",
    "rs-embed export job.yaml --rois gs://bucket/fields.parquet --out gs://bucket/embeddings --num-gpus 1",
)
_SHOWN = 20  # failures that are printed


def add(commands: Subcommands) -> None:
    """Add ``export``."""
    summary = "embed the ROIs of a file into GeoParquet files, resumably, on Ray"
    parser = add_command(commands, "export", export, summary=summary, examples=_EXAMPLES)
    parser.add_argument("job", nargs="?", metavar="JOB.yaml", help="what to do; flags win over it")
    what = parser.add_argument_group("what")
    what.add_argument("--rois", metavar="FILE", help="GeoParquet, Parquet, CSV or GeoJSON: a path, gs:// or s3://")
    what.add_argument("--out", metavar="DIR", help="folder of the results: a path, gs:// or s3://")
    what.add_argument(
        "--model", action="append", metavar="ID[/VARIANT]", help="may be repeated; models share their reads"
    )
    what.add_argument("--start", metavar="DATE", help="first day, such as 2022-06-01")
    what.add_argument("--end", metavar="DATE", help="first day after the window")
    what.add_argument("--year", type=int, help="a calendar year instead")
    what.add_argument("--part-rois", type=int, metavar="N", help="ROIs of one file (default: 1024)")
    who = parser.add_argument_group("who computes (default: actors of the job itself)")
    text = "a Serve application of the same Ray cluster (default name: rs-embed)"
    who.add_argument("--service", nargs="?", const="rs-embed", metavar="NAME", help=text)
    who.add_argument("--encoders", type=int, metavar="N", help="actors that compute (default: 1)")
    who.add_argument("--num-gpus", type=float, metavar="N", help="GPUs of each of them (default: 0)")
    who.add_argument("--config", metavar="FILE", help="the service's settings: providers, fetch, checkpoints")
    parser.add_argument("--dry-run", action="store_true", help="say what it would take; read and compute nothing")
    parser.add_argument("--replace", action="store_true", help="compute again what was made in another way")
    add_json(parser)


def export(args: argparse.Namespace) -> Lines:
    """Yield what will be done, how far it is, and what failed.

    Raises:
        Failed: more ROIs did than are allowed to.
    """
    from serve_app.commands.rois import scan_rois
    from serve_app.export.ledger import FAILURES
    from serve_app.export.planned import Export

    job = job_of(args)
    settings = read_settings(args.config, flags=job.settings)
    planned = Export.planned(job, settings, scan_rois(job.rois), replace=args.replace)
    estimate = planned.estimate
    if not args.json:
        yield from _estimate_lines(planned, estimate)
    if not args.dry_run:
        yield from _run(planned, quiet=args.json)
    failures = [] if args.dry_run else planned.failures
    if args.json:
        result = {"rows": _rows(planned), "failures": [{"model": name, **vars(found)} for name, found in failures]}
        yield dumps({"estimate": estimate.to_dict(), "result": None if args.dry_run else result})
    elif not args.dry_run:
        yield f"rows in {job.out}: {_rows(planned)}; failures: {len(failures)}"
        yield from (f"  {_who(name, found)}{found.code}: {found.message}" for name, found in failures[:_SHOWN])
        if failures:
            yield f"  all of them: {job.out.rstrip('/')}/{FAILURES}"
    if len(failures) > job.allowed_failures:
        raise Failed


def job_of(args: argparse.Namespace) -> ExportJob:
    """The job that file and flags describe.

    Raises:
        InvalidRequest: a mistake in either.
    """
    from serve_app.export.job import read_job

    given = {"rois": args.rois, "out": args.out, "part_rois": args.part_rois, "service": args.service}
    flags: dict[str, object] = {name: value for name, value in given.items() if value is not None}
    if args.model:
        flags["models"] = [_model(text) for text in args.model]
    when = {name: value for name in ("year", "start", "end") if (value := vars(args)[name]) is not None}
    if when:
        flags["temporal"] = when
    job = read_job(args.job, flags)
    workers = {name: value for name in ("encoders", "num_gpus") if (value := vars(args)[name]) is not None}
    return read_job(args.job, {**flags, "workers": {**job.workers.model_dump(), **workers}}) if workers else job


def _model(text: str) -> dict[str, object]:
    model, variant = model_and_variant(text)
    return {"model": model, "model_config": {"variant": variant}} if variant else {"model": model}


def _run(planned: Export, *, quiet: bool) -> Lines:
    """Yield how far it is."""
    from serve_app.export.cluster import connected, shortages

    with connected(planned.settings) if planned.work else nullcontext() as there:
        from serve_app.export.run import run  # Ray reads its environment when it is imported

        if there is not None and not quiet:
            yield from (f"waiting: {lack}" for lack in shortages(planned.job, planned.settings, there))
        for progress in run(planned):
            if planned.work and not quiet:
                yield _progress_line(progress)


def _rows(planned: Export) -> int:
    return sum(marker.rows for ledger in planned.ledgers.values() for marker in ledger.markers.values())


def _who(name: str, found: Failure) -> str:
    """The ROI and the model; what is wrong with a row of the file says by itself which one it is."""
    return f"ROI {found.index}, {name}: " if name else ""


def _estimate_lines(planned: Export, estimate: Estimate) -> Lines:
    files = len(planned.parts) * len(planned.asks)
    todo = sum(len({label for labels in entry.wanted.values() for label in labels}) for entry in planned.work)
    bad = f" (bad rows: {len(planned.refused)})" if planned.refused else ""
    yield f"ROIs: {len(planned.rois)}{bad}; files: {files}, complete: {files - todo}"
    if not planned.work:
        return
    yield (
        f"to do: ROIs {estimate.rois}, reads {estimate.reads}, pixels {_count(estimate.pixels)}, "
        f"{_size(estimate.bytes_read)} of imagery in memory, {_size(estimate.bytes_written)} to write"
    )
    yield from table([("MODEL", "ROIS", "SAMPLES", "DEVICE", "WRITTEN"), *map(_cost_row, estimate.models.items())])
    yield f"DEVICE: measured where parts are complete, else about, at {planned.job.workers.tflops:g} TFLOP/s"


def _cost_row(entry: tuple[str, ModelCost]) -> Sequence[str]:
    label, cost = entry
    seconds = "not known" if cost.device_s is None else f"{_time(cost.device_s)}{', measured' if cost.measured else ''}"
    return label, str(cost.rois), str(cost.samples), seconds, _size(cost.bytes_written)


def _progress_line(progress: Progress) -> str:
    rate = progress.done / progress.elapsed_s if progress.elapsed_s else 0.0
    left = f", about {_time(progress.left_s)} left" if progress.left_s else ""
    failed = f", {progress.failed} failed" if progress.failed else ""
    return (
        f"{progress.done} of {progress.total} rows, {progress.files} files{failed}, "
        f"{rate:.0f} rows/s, {_time(progress.elapsed_s)}{left}"
    )


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
