"""The Ray that an export runs on, and what it lacks. Ray's environment is set before Ray is imported."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from serve_app.export.job import ExportJob
from serve_app.settings import ServiceSettings, prepare_ray_environment


@contextmanager
def connected(settings: ServiceSettings) -> Iterator[dict[str, float]]:
    """What Ray has, while the block runs.

    It is the Ray that this process uses already, that of ``RAY_ADDRESS``, one that ``ray start`` has started on this
    machine, or else one of its own, which ends with the block.
    """
    prepare_ray_environment(settings)
    import ray  # noqa: PLC0415 - the environment must be set first, and importing it is slow

    was_there = ray.is_initialized()
    if not was_there:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)
    try:
        yield ray.cluster_resources()  # type: ignore[no-untyped-call]  # Ray's
    finally:
        if not was_there:
            ray.shutdown()


def shortages(job: ExportJob, settings: ServiceSettings, there: Mapping[str, float]) -> list[str]:
    """What the job's actors want and Ray does not have (yet: a cluster may grow), one text for each resource."""
    if job.service is not None:
        return []
    workers, fetching = job.workers, settings.fetch
    wanted: dict[str, float] = {}
    pools = (
        (workers.encoders, {"CPU": workers.num_cpus, "GPU": workers.num_gpus, **workers.resources}),
        (fetching.actors, {"CPU": fetching.num_cpus, **fetching.resources}),
    )
    for actors, each in pools:
        for name, number in each.items():
            wanted[name] = wanted.get(name, 0.0) + actors * number
    return [
        f"the workers want {number:g} {name}, and there are {there.get(name, 0.0):g}"
        for name, number in wanted.items()
        if number > there.get(name, 0.0)
    ]
