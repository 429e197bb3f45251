"""``rs-embed export``: many ROIs and models into partitioned GeoParquet, on Ray."""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from typing import TYPE_CHECKING

from serve_app.commands.arguments import model_and_variant
from serve_app.commands.command import Failed, Lines, Subcommands, add_command, add_json, dumps
from serve_app.commands.configuration import read_settings
from serve_app.commands.export_lines import (
    by_code,
    estimate_lines,
    failure_lines,
    file_lines,
    imagery_lines,
    progress_line,
)

if TYPE_CHECKING:
    from serve_app.export.job import ExportJob
    from serve_app.export.ledger import Failure
    from serve_app.export.planned import Export

_EXAMPLES = (
    "rs-embed export --rois fields.parquet --out embeddings --model mosaiks --model dofa/base --year 2022 --dry-run",
    "rs-embed export job.yaml",
    "rs-embed export job.yaml --service rs-embed",
    "rs-embed export job.yaml --rois gs://bucket/fields.parquet --out gs://bucket/embeddings --num-gpus 1",
)
_MANY = 100_000  # ROIs, whose plans take a while
_AGAIN, _FINAL = 1, 3  # exit codes: another run may mend some of the failures, or none


def add(commands: Subcommands) -> None:
    """Add ``export``."""
    summary = "embed the ROIs of a file into GeoParquet files, resumably, on Ray"
    parser = add_command(commands, "export", export, summary=summary, examples=_EXAMPLES)
    parser.add_argument("job", nargs="?", metavar="JOB.yaml", help="what to do; flags win over it")
    what = parser.add_argument_group("what")
    what.add_argument("--rois", metavar="FILE", help="GeoParquet, Parquet, CSV or GeoJSON: a path, gs:// or s3://")
    what.add_argument("--out", metavar="DIR", help="folder of the results: a path, gs:// or s3://; may have {start}")
    what.add_argument(
        "--model", action="append", metavar="ID[/VARIANT]", help="may be repeated; models share their reads"
    )
    what.add_argument("--start", metavar="DATE", help="first day, such as 2022-06-01")
    what.add_argument("--end", metavar="DATE", help="first day after the window")
    what.add_argument("--year", type=int, help="a calendar year instead")
    what.add_argument(
        "--as-of", metavar="DATE", help="day that the job's last_months counts back from (default: today)"
    )
    what.add_argument("--backend", metavar="NAME", help="where imagery comes from (default: the settings' default)")
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
    parser.set_defaults(to_the_end=True)  # rs-embed export job.yaml | head


def export(args: argparse.Namespace) -> Lines:
    """Yield what will be done, how far it is, and what failed.

    Raises:
        Failed: more ROIs did than are allowed to.
    """
    from serve_app.commands.rois import is_large, scan_places
    from serve_app.export.planned import Export

    job = job_of(args)
    settings = read_settings(args.config, flags=job.settings)
    quiet = args.json
    if not quiet and is_large(job.rois):
        yield f"reading {job.rois}"
    places = scan_places(job.rois, job.columns)
    if not quiet and len(places.rows) > _MANY:
        yield f"planning {len(places.rows)} ROIs"
    planned = Export.planned(job, settings, places.rows, columns=places.columns, replace=args.replace)
    if not quiet:
        yield from file_lines(places.unused, planned.ids)
    if args.dry_run:
        yield from _foreseen(planned, for_programs=quiet)
        return
    if not quiet:
        yield from estimate_lines(planned, planned.estimate)
    estimate = planned.estimate.to_dict()
    try:
        yield from _run(planned, quiet=quiet)
    except KeyboardInterrupt:
        yield f"stopped: {planned.kept} rows are kept in {job.out}; run it again for the others"
        raise
    failures = planned.failures
    if quiet:
        result = {"rows": planned.kept, "failures": list(map(_failure, failures))}
        yield dumps({"estimate": estimate, "problems": [], "result": result})
    else:
        yield from _ended(planned)
    if len(failures) > planned.allowed_failures:
        raise Failed(_AGAIN if any(failure.again for _, failure in failures) else _FINAL)


def _foreseen(planned: Export, *, for_programs: bool) -> Lines:
    """Yield what a run would take, and what would fail in it."""
    problems = planned.problems
    if for_programs:
        yield dumps({"estimate": planned.estimate.to_dict(), "problems": list(map(_failure, problems)), "result": None})
        return
    yield from estimate_lines(planned, planned.estimate)
    if problems:
        yield f"will fail: {by_code(problems)}"
        yield from failure_lines(problems)
    yield from (f"weights of {label}: not on this machine: {text}" for label, text in planned.weights_missing.items())


def _ended(planned: Export) -> Lines:
    """Yield what there is now."""
    from serve_app.export.ledger import FAILURES

    failures, out = planned.failures, planned.job.out
    yield f"rows in {out}: {planned.kept}; failures: {by_code(failures)}"
    if any(imagery.provider == "synthetic" for imagery in planned.imagery.values()):
        yield from imagery_lines(planned)
    yield from failure_lines(failures)
    if failures:
        yield f"  all of them: {out.rstrip('/')}/{FAILURES}"


def _failure(entry: tuple[str, Failure]) -> dict[str, object]:
    label, found = entry
    return {"model": label, **vars(found)}


def job_of(args: argparse.Namespace) -> ExportJob:
    """The job that file and flags describe.

    Raises:
        InvalidRequest: a mistake in either.
    """
    from serve_app.export.job import read_job

    names = ("rois", "out", "as_of", "backend", "part_rois", "service")
    flags: dict[str, object] = {name: value for name in names if (value := vars(args)[name]) is not None}
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

    with connected(planned.job, planned.settings) if planned.work else nullcontext() as there:
        from serve_app.export.run import run  # Ray reads its environment when it is imported

        if there is not None and not quiet:
            yield from (f"waiting: {lack}" for lack in shortages(planned.job, planned.settings, there))
        for progress in run(planned):
            if planned.work and not quiet:
                yield progress_line(progress)
