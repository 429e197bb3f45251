"""Start the service on this machine: Ray, Serve, the application; and stop it without a process left behind."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from serve_app.settings import ServiceSettings, prepare_ray_environment

_log = logging.getLogger(__name__)
_TRIES = 3
_OBJECT_STORE_SHARE = 0.2
_OBJECT_STORE_MB = (200, 4000)


@dataclass(frozen=True)
class Serving:
    """A running service."""

    url: str
    settings: ServiceSettings


@contextmanager
def serving(settings: ServiceSettings, *, num_cpus: int | None = None) -> Iterator[Serving]:
    """Run the service while the block runs; it answers when the block starts.

    A local Ray of its own is started and stopped again; with a cluster (``RAY_ADDRESS``) use ``serve run`` or
    ``serve deploy`` with ``serve_app.app:build`` instead.

    Args:
        num_cpus: logical CPUs of the local Ray; None takes what the deployments ask for, at least the machine's.

    Raises:
        RuntimeError: Ray or the application did not start.
    """
    prepare_ray_environment(settings)
    import ray  # noqa: PLC0415 - the environment must be set first, and importing it is slow
    from ray import serve  # noqa: PLC0415 - see above

    from serve_app.app import build  # noqa: PLC0415 - it imports Ray

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    temporary = Path(tempfile.mkdtemp(prefix="rse-"))  # short: socket paths below it have 107 characters at most
    try:
        _start_ray(temporary, num_cpus or _cpus_wanted(settings))
        http = {"host": settings.http.host, "port": settings.http.port}
        encoding = settings.observe.log_format.upper()
        serve.start(proxy_location="HeadOnly", http_options=http, logging_config={"encoding": encoding})
        serve.run(build(settings), name=settings.name, route_prefix="/")
        yield Serving(f"http://{settings.http.host}:{settings.http.port}", settings)
    finally:
        if ray.is_initialized():
            serve.shutdown()  # type: ignore[no-untyped-call]  # Ray's
            ray.shutdown()
        shutil.rmtree(temporary, ignore_errors=True)


def _cpus_wanted(settings: ServiceSettings) -> int:
    """Logical CPUs, so that a small machine can hold every deployment: they reserve, they do not compute."""
    wanted = settings.http.routers * settings.http.router_num_cpus
    wanted += sum(model.max_replicas * model.num_cpus for model in settings.models)
    wanted += settings.fetch.actors * settings.fetch.num_cpus
    return int(wanted) + 2


def _start_ray(temporary: Path, num_cpus: int) -> None:
    """``ray.init``, again if the machine was too busy for Ray's own 30 s limit."""
    import ray  # noqa: PLC0415 - see serving()

    for attempt in range(1, _TRIES + 1):
        try:
            ray.init(
                address="local",
                num_cpus=num_cpus,
                include_dashboard=False,
                log_to_driver=False,
                configure_logging=True,
                logging_level=logging.WARNING,
                object_store_memory=_object_store_bytes(),
                _temp_dir=str(temporary),
            )
        except Exception as error:  # Ray raises no finer class when its own limit passes
            ray.shutdown()
            if attempt == _TRIES:
                raise RuntimeError(f"Ray did not start: {error}") from error
            _log.warning("Ray did not start, trying again", extra={"attempt": attempt})
            time.sleep(attempt)
        else:
            return


def _object_store_bytes() -> int:
    free = shutil.disk_usage("/dev/shm").free if Path("/dev/shm").exists() else 2**31  # noqa: S108 - where Ray puts it
    low, high = _OBJECT_STORE_MB
    return int(min(max(free * _OBJECT_STORE_SHARE, low * 1e6), high * 1e6))


def free_port(count: int = 1) -> int:
    """A TCP port from 20001 to 29999 that is nobody's on the loopback interface; the first of ``count`` in a row.

    Ray's own workers take lower ones, Serve's replicas those from 30000, and (on Linux) outgoing connections those from
    32768. Two processes that look at once start at different ports: Serve's proxies share a port without complaint.
    """
    first = 20_001 + os.getpid() * 7 % 9_000
    for port in range(first, first + 1000 - count):
        if all(map(_is_free, range(port, port + count))):
            return port
    raise RuntimeError(f"no {count} free ports in a row from {first} on")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))  # unlike a connection tried, also refused where an outgoing one begins
        except OSError:
            return False
        return True
