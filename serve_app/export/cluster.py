"""The Ray that an export runs on, and what it lacks. Ray's environment is set before Ray is imported."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from rs_embed_core.errors import Unavailable
from serve_app.export.job import ExportJob
from serve_app.settings import ServiceSettings, prepare_ray_environment


@contextmanager
def connected(job: ExportJob, settings: ServiceSettings) -> Iterator[dict[str, float]]:
    """What Ray has, while the block runs.

    It is the Ray that this process uses already, that of ``RAY_ADDRESS``, one that ``ray start`` has started on this
    machine, or else one of its own, which ends with the block.

    Raises:
        Unavailable: a Ray of its own, which never grows, can hold no actor of the job.
    """
    prepare_ray_environment(settings)
    import ray  # noqa: PLC0415 - the environment must be set first, and importing it is slow

    was_there = ray.is_initialized()
    own = False
    if not was_there:
        found = ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)
        session = str(found.address_info["session_dir"])  # type: ignore[attr-defined]  # of a RayContext, not a Client
        own = session.endswith(f"_{os.getpid()}")  # it is named after the process that has started it
    try:
        there = ray.cluster_resources()  # type: ignore[no-untyped-call]  # Ray's
        if own:
            check_fits(job, settings, there)
        yield there
    finally:
        if not was_there:
            ray.shutdown()


def check_fits(job: ExportJob, settings: ServiceSettings, there: Mapping[str, float]) -> None:
    """Refuse actors of which not even one has room.

    Raises:
        Unavailable: it says which resource is too little.
    """
    for name, _, each in _pools(job, settings):
        for resource, number in each.items():
            if number > there.get(resource, 0.0):
                have = f"this machine's Ray has {there.get(resource, 0.0):g}"
                msg = f"one {name} wants {number:g} {resource}, and {have}."
                raise Unavailable(msg, hint="Ask for less, or set RAY_ADDRESS to a cluster.", retryable=False)


def shortages(job: ExportJob, settings: ServiceSettings, there: Mapping[str, float]) -> list[str]:
    """What the job's actors want and Ray does not have (yet: a cluster may grow), one text for each resource."""
    wanted: dict[str, float] = {}
    for _, actors, each in _pools(job, settings):
        for name, number in each.items():
            wanted[name] = wanted.get(name, 0.0) + actors * number
    return [
        f"the workers want {number:g} {name}, and there are {there.get(name, 0.0):g}"
        for name, number in wanted.items()
        if number > there.get(name, 0.0)
    ]


class Patience:
    """For how long no node could have held some actor of the job, were it empty.

    Ray waits for a node without end; where there is none to be had, the export fails after ``workers.wait_s``.
    """

    def __init__(self, job: ExportJob, settings: ServiceSettings) -> None:
        self._pools = _pools(job, settings)
        self._most_s = job.workers.wait_s
        self._since: float | None = None

    def renew(self) -> None:
        """Rows have come, so all actors have their nodes."""
        self._since = None

    def look(self, nodes: Iterable[Mapping[str, float]], now: float) -> None:
        """Note who has no node.

        Args:
            nodes: the resources of each that is alive.
            now: seconds on any clock.

        Raises:
            Unavailable: it has been so for too long.
        """
        there = list(nodes)
        lacking = [f"{name} ({_text(each)})" for name, _, each in self._pools if not _has_place(each, there)]
        if not lacking:
            self._since = None
            return
        self._since = now if self._since is None else self._since
        if now - self._since >= self._most_s:
            msg = f"for {now - self._since:.0f} s there has been no node for one {' and one '.join(lacking)}."
            hint = "Are there such nodes, and quota for them? workers.wait_s says how long they are waited for."
            raise Unavailable(msg, hint=hint)


def _has_place(each: Mapping[str, float], nodes: Iterable[Mapping[str, float]]) -> bool:
    return any(all(node.get(name, 0.0) >= number for name, number in each.items()) for node in nodes)


def _text(resources: Mapping[str, float]) -> str:
    return ", ".join(f"{number:g} {name}" for name, number in resources.items() if number)


def _pools(job: ExportJob, settings: ServiceSettings) -> list[tuple[str, int, dict[str, float]]]:
    """The job's actors: what one is called, how many there are, and what each reserves."""
    if job.service is not None:
        return []
    workers, fetching = job.workers, settings.fetch
    return [
        ("encoder", workers.encoders, {"CPU": workers.num_cpus, "GPU": workers.num_gpus, **workers.resources}),
        ("reader", fetching.actors, {"CPU": fetching.num_cpus, **fetching.resources}),
    ]
