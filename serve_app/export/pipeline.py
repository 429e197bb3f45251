"""The Ray Data pipeline of an export: chunks in, outcomes out, as they come. Imports Ray."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable, Mapping
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.data import ActorPoolStrategy, DataContext, Dataset

from rs_embed_core.errors import RSEmbedError
from serve_app.export.chunks import Chunk, chunks
from serve_app.export.packing import packed, unpacked
from serve_app.export.planned import Export
from serve_app.export.stages import AskService, EncodeRois, Outcomes, ReadRois

_ASKED_ROIS = 1024  # of a service at once, as its client does
_ASKED_S = 3600.0  # for an answer: what a service takes at most, by its default
_MOST_BLOCKS = 10_000  # Ray Data looks at each before the first starts: 400 a second on two cores
_AT_ONCE = 2  # calls of an actor: while one waits for its last reads, or assembles, the next goes on


def outcomes_of(export: Export) -> Generator[Outcomes]:
    """Yield what becomes of everything that is missing.

    Raises:
        RSEmbedError: no worker can do anything: weights are missing, the service is not there.
    """
    if not export.work:
        return
    _be_quiet()
    pipeline = _asking(export) if export.job.service is not None else _computing(export)
    for table in pipeline.iter_batches(batch_size=None, batch_format="pyarrow"):
        for value in unpacked(table):
            if isinstance(value, RSEmbedError):
                raise value
            yield value


def nodes() -> list[Mapping[str, float]]:
    """The resources of each node that is alive, whoever has them."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]  # Ray's


def _computing(export: Export) -> Dataset:
    """Read on the CPUs, encode on the GPUs: Ray Data keeps both busy and bounds what waits between them."""
    job, settings, fetching = export.job, export.settings, export.settings.fetch
    blocks = _blocks(chunks(export.work, export.rois, export.surveyed.nbytes))
    return (
        ray.data.from_arrow(blocks)
        .map_batches(
            ReadRois,
            fn_constructor_args=(export.asks, settings, job.read_timeout_s, f"{settings.name}-export-quota"),
            **_pool(min(len(blocks), fetching.actors), num_cpus=fetching.num_cpus, resources=fetching.resources),
        )
        .map_batches(
            EncodeRois,
            fn_constructor_args=(export.asks, job.workers.placed(), settings.checkpoints),
            **_pool(
                min(len(blocks), job.workers.encoders),
                num_cpus=job.workers.num_cpus,
                resources=job.workers.resources,
                num_gpus=job.workers.num_gpus,
            ),
        )
    )


def _asking(export: Export) -> Dataset:
    job = export.job
    models = {
        label: {"model": ask.model, "model_config": dict(ask.model_config), "modality": ask.modality}
        for label, ask in export.asks.items()
    }
    one = next(iter(export.asks.values()))
    how = {
        "temporal": one.temporal,
        "fetch": one.fetch,
        "output": one.output,
        "input_prep": one.input_prep,
        "backend": one.backend,
    }
    blocks = _blocks(chunks(export.work, export.rois, dict.fromkeys(export.rois, 0.0), _ASKED_ROIS))
    return ray.data.from_arrow(blocks).map_batches(
        AskService,
        fn_constructor_args=(job.service, models, how, _ASKED_S),
        **_pool(min(len(blocks), job.askers), num_cpus=0, resources={}),
    )


def _blocks(work: Iterable[Chunk]) -> list[pa.Table]:
    """One for each chunk: what is lost with a process is done again, chunk by chunk. Several where there are many."""
    found = list(work)
    each = 1 + len(found) // _MOST_BLOCKS
    return [packed(found[first : first + each]) for first in range(0, len(found), each)]


def _pool(size: int, *, num_cpus: float, resources: Mapping[str, float], num_gpus: float = 0) -> dict[str, Any]:
    """Arguments of ``map_batches`` for a pool of actors; Ray Data restarts those that die."""
    compute = ActorPoolStrategy(size=size, max_concurrent_calls_per_actor=_AT_ONCE, enable_true_multi_threading=True)
    # A batch is one chunk, also where a block has several; Ray Data refuses whole blocks (None) where there are GPUs.
    out: dict[str, Any] = {"compute": compute, "batch_size": 1, "batch_format": "pyarrow", "num_cpus": num_cpus}
    if num_gpus:
        out["num_gpus"] = num_gpus
    if resources:
        out["resources"] = dict(resources)
    return out


def _be_quiet() -> None:
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
