"""A Ray cluster of two nodes on this machine, as the manifests would start it, and its Serve API.

It has ports and a folder of its own, and is ended by the processes that were started here: ``ray stop`` would end
every Ray of the machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from serve_app.serving import free_port
from tests.k8s.manifests import ROOT, Doc

BIN = Path(sys.executable).parent
_PATIENCE_S = 180
_END_S = 8
_TOKEN = "k8s-tests-" + "0" * 38  # a token has 48 characters
_STORE = 200_000_000
_RESOURCES = {"ee_fetch": 100, "router": 1, "encode": 100}


@dataclass(frozen=True)
class Ports:
    """All above 20000: Ray's own workers take lower ones."""

    gcs: int
    dashboard: int
    serve: int
    other_serve: int
    agent: int
    other_agent: int
    haproxy: int  # the first of four

    @classmethod
    def free(cls) -> Ports:
        first = free_port(10)
        return cls(*range(first, first + 7))

    def of_haproxy(self, node: int) -> dict[str, str]:
        """Its ports on a node, beside that of Serve: each pod has these for itself, here two nodes share them."""
        return {
            "RAY_SERVE_HAPROXY_METRICS_PORT": str(self.haproxy + 2 * node),
            "RAY_SERVE_HAPROXY_STATS_PORT": str(self.haproxy + 2 * node + 1),
        }


@dataclass(frozen=True)
class RayCluster:
    """Two nodes; the second is a worker."""

    ports: Ports
    environment: Mapping[str, str]
    folder: Path

    @property
    def url(self) -> str:
        """Where the first node's proxy listens."""
        return f"http://127.0.0.1:{self.ports.serve}"

    @property
    def dashboard(self) -> str:
        return f"http://127.0.0.1:{self.ports.dashboard}"

    def run(self, *command: str | Path, patience_s: float = _PATIENCE_S) -> subprocess.CompletedProcess[str]:
        """A command with the cluster's environment."""
        environment = {**os.environ, **self.environment}
        return subprocess.run(
            list(map(str, command)), env=environment, check=False, capture_output=True, text=True, timeout=patience_s
        )

    def ask(self, path: str, *, method: str = "GET", body: Doc | None = None) -> Any:
        """What the dashboard's API says, as KubeRay's operator asks it."""
        headers = {"Authorization": f"Bearer {_TOKEN}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.dashboard}{path}", data, headers, method=method)  # noqa: S310 - ours
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return json.loads(answer.read() or b"null")

    def applications(self) -> Doc:
        """State of the Serve applications, by name."""
        return self.ask("/api/serve/applications/")["applications"]

    def put(self, config: Doc) -> None:
        """Apply a Serve config, as the operator does."""
        self.ask("/api/serve/applications/", method="PUT", body=config)


def until[T](what: str, look: Callable[[], T | None], patience_s: float = _PATIENCE_S) -> T:
    """What ``look`` finds, once it is true."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if found := look():
                return found
        time.sleep(0.3)
    raise AssertionError(f"not within {patience_s} s: {what}")


def status(url: str) -> int:
    """The status of a GET."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - of this machine
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


@contextlib.contextmanager
def ray_cluster(environment: Mapping[str, str]) -> Iterator[RayCluster]:
    """The cluster while the block runs; ``environment`` is that of the pods."""
    folder = Path(tempfile.mkdtemp(prefix="rsk-"))  # short: socket paths have 107 characters at most
    ports = Ports.free()
    own = {
        "HOME": str(folder),  # no token file, no cache of this machine
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "RAY_ADDRESS": f"127.0.0.1:{ports.gcs}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": _TOKEN,
        "RAY_SERVE_WORKER_PROXY_HTTP_PORT": str(ports.other_serve),  # two nodes on one machine
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "proxy" / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "proxy" / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "proxy" / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder / "proxy"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "proxy" / "server-state"),
    }
    cluster = RayCluster(ports, {**environment, **own}, folder)
    started = []
    try:
        started.append(_start(cluster, _head(ports, folder), ports.of_haproxy(0), "head"))
        until("the dashboard", lambda: status(f"{cluster.dashboard}/api/gcs_healthz") == 200)
        started.append(_start(cluster, _worker(ports), ports.of_haproxy(1), "worker"))
        until("the second node", lambda: status(f"http://127.0.0.1:{ports.other_agent}/api/healthz") == 200)
        yield cluster
    finally:
        _end(started, folder)


def _common(agent_port: int) -> list[str]:
    resources = json.dumps(_RESOURCES)
    return [
        f"--dashboard-agent-listen-port={agent_port}",
        "--node-ip-address=127.0.0.1",
        "--num-cpus=16",
        "--num-gpus=0",
        f"--resources={resources}",
        f"--object-store-memory={_STORE}",
        "--disable-usage-stats",
        "--block",
    ]


def _head(ports: Ports, folder: Path) -> list[str]:
    where = [f"--port={ports.gcs}", f"--dashboard-port={ports.dashboard}", f"--temp-dir={folder}"]
    return ["--head", *where, "--include-dashboard=true", *_common(ports.agent)]


def _worker(ports: Ports) -> list[str]:
    return [f"--address=127.0.0.1:{ports.gcs}", *_common(ports.other_agent)]


def _start(cluster: RayCluster, arguments: list[str], environment: Mapping[str, str], name: str) -> psutil.Popen:
    with (cluster.folder / f"{name}.log").open("w") as log:
        return psutil.Popen(
            [str(BIN / "ray"), "start", *arguments],
            env={**os.environ, **cluster.environment, **environment},
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=cluster.folder,
        )


def _end(started: list[psutil.Popen], folder: Path) -> None:
    """End what was started and what that has started: Ray's daemons leave their parent, but carry the folder's name."""
    ours = [process for top in started for process in _family(top)]
    ours += [process for process in psutil.process_iter() if _mentions(process, str(folder))]
    for process in dict.fromkeys(ours):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGTERM)
    _, alive = psutil.wait_procs(dict.fromkeys(ours), _END_S)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, _END_S)
    shutil.rmtree(folder, ignore_errors=True)


def _family(top: psutil.Popen) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return [top, *top.children(recursive=True)]
    return []


def _mentions(process: psutil.Process, text: str) -> bool:
    with contextlib.suppress(psutil.Error):
        return any(text in argument for argument in process.cmdline())
    return False
