"""The small programs that the manifests carry: of the weights' Job, the export's starter, Redis, the preStop hook."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from ray.exceptions import RpcError
from ray.util.state.exception import ServerUnavailable

from serve_app.export.job import read_job
from serve_app.settings import ServiceSettings
from tests.k8s import crd
from tests.k8s.manifests import K8S, Doc, documents, named, of_kind
from tests.k8s.serve_config import serve_config, settings_of

_START = K8S / "components/jobs/start_export.py"
_EXPORT = K8S / "overlays/production/export.yaml"
_BUCKET = "gs://my-bucket/embeddings"
_DRAIN = K8S / "base/scripts/drain.py"


@dataclass
class ApiServer:
    """As much of Kubernetes' API as the starter asks: RayJobs of one namespace."""

    jobs: dict[str, Doc]
    tokens: set[str] = field(default_factory=set)
    url: str = ""


@contextmanager
def api_server(jobs: dict[str, Doc]) -> Iterator[ApiServer]:
    state = ApiServer(jobs)
    folder = "/apis/ray.io/v1/namespaces/rs-embed/rayjobs"

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == folder:
                self._answer(200, {"items": list(state.jobs.values())})
                return
            found = state.jobs.get(self.path.removeprefix(f"{folder}/"))
            self._answer(200 if found else 404, found or {"reason": "NotFound"})

        def do_POST(self) -> None:
            job = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            known = self.path == folder and job["metadata"]["name"] not in state.jobs
            if known:
                state.jobs[job["metadata"]["name"]] = job
            self._answer(201 if known else 409, job)

        def do_DELETE(self) -> None:
            self._answer(200, state.jobs.pop(self.path.removeprefix(f"{folder}/")))

        def _answer(self, status: int, body: Doc) -> None:
            state.tokens.add(self.headers["Authorization"])
            text = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield state
        server.shutdown()


@pytest.fixture
def account(tmp_path: Path) -> Path:
    for name, text in {"namespace": "rs-embed", "token": "a-token", "ca.crt": ""}.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def _template() -> Doc:
    (job,) = of_kind(documents("overlays/production"), "RayJob")
    return job


def _start(server: ApiServer, account: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, _START, "--template", "rs-embed-export", "--server", server.url, "--account", account]
    return subprocess.run(list(map(str, command)), check=False, capture_output=True, text=True, timeout=60)


def test_an_export_is_started_from_its_template(account: Path) -> None:
    with api_server({"rs-embed-export": _template()}) as server:
        done = _start(server, account)
    assert done.returncode == 0, done.stderr
    (name,) = server.jobs.keys() - {"rs-embed-export"}
    started = server.jobs[name]
    assert name in done.stdout
    assert len(name) <= 47
    assert crd.mistakes(started) == []
    assert not started["spec"].get("suspend")
    assert started["spec"]["rayClusterSpec"] == _template()["spec"]["rayClusterSpec"]
    day = name.removeprefix("rs-embed-export-")[:8]
    *command, as_of = started["spec"]["entrypoint"].split()
    assert command[:2] == ["rs-embed", "export"]
    assert command[-1] == "--as-of"  # else a retry in the next month would have another window
    assert as_of == f"{day[:4]}-{day[4:6]}-{day[6:]}"
    assert server.tokens == {"Bearer a-token"}


def test_of_those_that_ended_the_newest_stay(account: Path) -> None:
    def job(name: str, status: str) -> Doc:
        return {"metadata": {"name": name}, "status": {"jobDeploymentStatus": status}}

    dated = [job(f"rs-embed-export-2024010{day}-030000", "Complete") for day in (1, 2, 4, 5)]
    others = [
        job("rs-embed-export-mine", "Complete"),
        job("rs-embed-export-20240106-030000", "Failed"),
    ]
    jobs = {one["metadata"]["name"]: one for one in [*dated, *others]}
    with api_server({"rs-embed-export": _template(), **jobs}) as server:
        assert _start(server, account).returncode == 0
    gone = jobs.keys() - server.jobs.keys()
    assert gone == {"rs-embed-export-20240101-030000", "rs-embed-export-20240102-030000"}


@pytest.mark.parametrize("status", ["Running", "Retrying", "Suspended", None])
def test_none_is_started_while_another_has_not_ended(status: str | None, account: Path) -> None:
    """They would write the same parts, and each takes the whole part of the quota."""
    name = "rs-embed-export-20240103-030000"
    running: Doc = {"metadata": {"name": name}, "status": {"jobDeploymentStatus": status} if status else {}}
    old = {f"rs-embed-export-2024010{day}-030000": "Complete" for day in (1, 2, 4, 5)}
    jobs = {key: {"metadata": {"name": key}, "status": {"jobDeploymentStatus": value}} for key, value in old.items()}
    with api_server({"rs-embed-export": _template(), name: running, **jobs}) as server:
        done = _start(server, account)
    assert done.returncode == 1
    assert name in done.stdout
    assert server.jobs.keys() == {"rs-embed-export", name, *old}


def test_the_starter_may_do_what_it_does() -> None:
    (role,) = (doc for doc in of_kind(documents("overlays/production"), "Role"))
    assert role["rules"] == [
        {"apiGroups": ["ray.io"], "resources": ["rayjobs"], "verbs": ["get", "list", "create", "delete"]}
    ]


def test_without_a_template_nothing_is_started(account: Path) -> None:
    with api_server({}) as server:
        done = _start(server, account)
    assert done.returncode != 0
    assert server.jobs == {}


def test_the_template_itself_is_suspended() -> None:
    assert _template()["spec"]["suspend"] is True
    assert all(doc["spec"]["suspend"] for doc in of_kind(documents("overlays/production"), "CronJob"))


def test_the_export_s_job_file_is_one() -> None:
    job = read_job(_EXPORT, {"as_of": "2024-03-06"})
    assert list(job.asks()) == ["dofa-base", "galileo-base"]
    assert (job.temporal, job.out) == ({"start": "2024-02-01", "end": "2024-03-01"}, f"{_BUCKET}/start=2024-02-01")
    assert job.rois.startswith("gs://")  # pods have no folder in common
    assert ServiceSettings.model_validate(dict(job.settings)).providers.default == "gee"


def test_production_exports_what_its_own_job_file_says_and_shares_the_quota() -> None:
    docs = documents("overlays/production")
    (config,) = (doc for doc in of_kind(docs, "ConfigMap") if doc["metadata"]["name"] == "rs-embed-export")
    assert config["data"] == {"export.yaml": _EXPORT.read_text()}
    exported = ServiceSettings.model_validate(yaml.safe_load(config["data"]["export.yaml"])["settings"]).providers.gee
    served = settings_of(serve_config(docs)).providers.gee
    assert exported is not None
    assert served is not None
    assert exported.at_once + served.at_once <= 40  # of a project that Google has not given more


def test_the_driver_of_an_export_has_the_identity_and_the_way_out_of_the_fetch_pods() -> None:
    spec = _template()["spec"]
    wanted = json.loads(spec["entrypointResources"])
    hold = [
        group
        for group in spec["rayClusterSpec"]["workerGroupSpecs"]
        if all(float(group["resources"].get(name, 0)) >= amount for name, amount in wanted.items())
    ]
    (group,) = hold
    pod = group["template"]
    assert group["minReplicas"] >= 1  # it waits for no autoscaler
    assert pod["metadata"]["labels"]["rs-embed/egress"] == "internet"
    assert pod["spec"]["serviceAccountName"] == "fetch"
    mounts = {mount["mountPath"] for mount in pod["spec"]["containers"][0]["volumeMounts"]}
    assert str(Path(spec["entrypoint"].split()[2]).parent) in mounts
    assert not any("spot" in one["key"] for one in pod["spec"].get("tolerations", []))


def test_workers_of_the_export_fit_its_pods() -> None:
    job = read_job(_EXPORT, {})
    fetch, gpu = (group["resources"] for group in _template()["spec"]["rayClusterSpec"]["workerGroupSpecs"])
    settings = ServiceSettings.model_validate(dict(job.settings))
    assert job.workers.num_cpus <= float(gpu["CPU"])
    assert settings.fetch.num_cpus * float(fetch["ee_fetch"]) + 1 <= float(fetch["CPU"])  # and the driver's


def test_redis_takes_the_place_of_its_shell(tmp_path: Path) -> None:
    """A shell as the first process would keep the signal that the pod ends to itself."""
    (container,) = named(documents("overlays/production"), "StatefulSet", "rs-embed-redis")["spec"]["template"]["spec"][
        "containers"
    ]
    server = tmp_path / "redis-server"
    server.write_text('#!/bin/sh\necho $$; cat "$1"\n')
    server.chmod(0o755)
    (script,) = container["args"]
    command = [*container["command"], script.replace("/config/", f"{tmp_path}/")]
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "REDIS_PASSWORD": "a-password"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        number, *config = process.communicate(timeout=60)[0].splitlines()
    assert int(number) == process.pid
    assert 'requirepass "a-password"' in config
    assert (tmp_path / "redis.conf").stat().st_mode & 0o077 == 0


@dataclass
class Cluster:
    """A GCS that does not answer now and then, and a node that serves a while longer.

    Attributes:
        answers: what each question gets, in turn: class names, or an error.
    """

    answers: list[list[str] | Exception]
    announced: int = 0
    hung: threading.Event = field(default_factory=threading.Event)

    def announce(self, remaining_s: int) -> None:
        assert remaining_s > 0
        self.announced += 1
        if self.announced == 1:
            raise subprocess.CalledProcessError(1, "ray drain-node")

    def serving(self) -> list[str]:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def hanging(self) -> list[str]:
        self.hung.wait(60)
        return []


def _drained(cluster: Cluster, seconds: float, **how: float) -> list[str]:
    drained = runpy.run_path(str(_DRAIN))["drained"]
    return drained(cluster.announce, cluster.serving, seconds, pause_s=0.01, **how)


def test_a_gcs_that_restarts_is_asked_again() -> None:
    away = [ConnectionError("no GCS"), ServerUnavailable("no dashboard"), RpcError("unavailable")]
    cluster = Cluster([["ProxyActor"], *away, ["ProxyActor"], [], ["never asked"]])
    assert _drained(cluster, 60) == []
    assert cluster.announced == 1 + 1 + len(away)
    assert cluster.answers == [["never asked"]]


def test_what_still_serves_when_the_time_is_over_is_said() -> None:
    assert _drained(Cluster([["ServeReplica:router"]] * 1000), 0.5) == ["ServeReplica:router"]


def test_a_cluster_that_never_answers_is_not_called_drained() -> None:
    assert _drained(Cluster([ConnectionError("no GCS")] * 1000), 0.5) != []


def test_where_nobody_answers_any_more_a_pod_does_not_wait_out_its_time() -> None:
    """The head of a cluster that is deleted goes first; its workers would hold their GPUs for the longest request."""
    cluster = Cluster([["ServeReplica:router"]] * 3 + [ConnectionError("no GCS")] * 1000)
    assert _drained(cluster, 3600, patience_s=0.2) == ["ServeReplica:router"]
    assert cluster.answers  # the time was not up


def test_a_question_that_hangs_holds_up_nothing() -> None:
    cluster = Cluster([])
    drained = runpy.run_path(str(_DRAIN))["drained"]
    assert drained(lambda _: None, cluster.hanging, 0.2, pause_s=0.01) == ["what, nobody could say"]
    assert drained(lambda _: None, cluster.hanging, 3600, patience_s=0.2, pause_s=0.01) == ["what, nobody could say"]
    assert not cluster.hung.is_set()
    cluster.hung.set()
