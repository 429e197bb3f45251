"""The serveConfigV2 of each rendered overlay runs: on a local Ray of two nodes, without GPU, account or weights.

One cluster for all; each overlay is deployed over the one before it, as an operator's change would be.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

import psutil
import pytest
import yaml

from tests.k8s import callers
from tests.k8s.cluster import BIN, RayCluster, ray_cluster, status, until
from tests.k8s.deployable import fit, with_batch_size
from tests.k8s.manifests import K8S, Doc, documents, pods
from tests.k8s.serve_config import application, serve_config

_OVERLAYS = ["dev", "cpu-only", "production"]  # incremental renders production's: test_serve_config.py
_SCRIPTS = K8S / "base" / "scripts"
_DELAY_MS = 200
_DRAIN_S = 60
_DRAINING = ("RAY_SERVE_PROXY_MIN_DRAINING_PERIOD_S", "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S")

type Replicas = dict[str, list[str]]


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    """Started with the environment of production's pods; the shortest times of draining are for real networks."""
    (worker,) = (pod for pod in pods(documents("overlays/production")) if pod.where == "RayService rs-embed fetch")
    environment = {entry["name"]: entry["value"] for entry in worker.spec["containers"][0]["env"] if "value" in entry}
    with ray_cluster(environment | dict.fromkeys(_DRAINING, "5")) as started:
        yield started


@dataclass(frozen=True)
class Deployed:
    cluster: RayCluster
    config: Doc

    @property
    def url(self) -> str:
        return self.cluster.url

    def replicas(self) -> Replicas:
        """Ids of the replicas of each deployment."""
        found = self.cluster.applications()["rs-embed"]["deployments"]
        return {name: sorted(one["replica_id"] for one in entry["replicas"]) for name, entry in found.items()}

    def apply(self, config: Doc) -> None:
        """Change the running application; back when it runs."""
        self.cluster.put(config)
        running(self.cluster)


def running(cluster: RayCluster) -> None:
    def look() -> bool:
        state = cluster.applications().get("rs-embed", {"status": "NOT_STARTED"})
        assert state["status"] not in ("DEPLOY_FAILED", "UNHEALTHY"), state["message"]
        return state["status"] == "RUNNING"

    until("the application runs", look)


def deploy(cluster: RayCluster, overlay: str) -> Deployed:
    """What a person does by hand: `serve deploy` of the rendered config."""
    rendered = serve_config(documents(f"overlays/{overlay}"))
    config = fit(rendered, port=cluster.ports.serve, folder=cluster.folder, delay_ms=_DELAY_MS)
    file = cluster.folder / f"{overlay}.yaml"
    file.write_text(yaml.safe_dump(config))
    done = cluster.run(BIN / "serve", "deploy", file, "--address", cluster.dashboard)
    assert done.returncode == 0, done.stderr
    running(cluster)
    deployed = Deployed(cluster, config)
    until("HAProxy knows of it", lambda: status(f"{deployed.url}/livez") == 200)
    return deployed


@pytest.fixture(scope="module", params=_OVERLAYS)
def deployed(cluster: RayCluster, request: pytest.FixtureRequest) -> Deployed:
    return deploy(cluster, request.param)


def test_it_answers_through_http(deployed: Deployed) -> None:
    assert len(callers.vector(deployed.url, 1)) == callers.WIDTH
    assert status(f"{deployed.url}/livez") == 200


def test_haproxy_takes_the_requests(deployed: Deployed) -> None:
    until("HAProxy at Serve's port", lambda: deployed.cluster.ports.serve in _ports_of("haproxy"))


def _ports_of(name: str) -> set[int]:
    """Where the processes of this name listen; one may end under our eyes, as HAProxy's does at each reload."""
    found = set()
    for process in psutil.process_iter(["name"]):
        if process.info["name"] == name:
            with contextlib.suppress(psutil.Error):
                found |= {at.laddr.port for at in process.net_connections("tcp") if at.status == psutil.CONN_LISTEN}
    return found


def test_probes_of_the_manifests_pass(deployed: Deployed) -> None:
    ports = deployed.cluster.ports
    ready = [BIN / "python", _SCRIPTS / "ready.py", "--agent-port", ports.agent, "--serve-port", ports.serve]
    done = deployed.cluster.run(*map(str, ready))
    assert done.returncode == 0, done.stdout + done.stderr
    assert status(f"http://127.0.0.1:{ports.agent}/api/healthz") == 200
    assert status(f"{deployed.cluster.dashboard}/api/gcs_healthz") == 200


def test_an_update_in_place_fails_no_request(deployed: Deployed) -> None:
    callers.vector(deployed.url, 0)  # where no replica is kept, one is up now
    before = deployed.replicas()
    with callers.calling(deployed.url) as caller:
        until("requests", lambda: caller.answered > 2)
        deployed.apply(with_batch_size(deployed.config, 16))
        until("the new batch size", lambda: _batch_size(deployed.url) == 16)
        seen = caller.answered
        until("requests after it", lambda: caller.answered > seen + 2)
    assert caller.failures == []
    assert deployed.replicas() == before


def _batch_size(url: str) -> int:
    with urllib.request.urlopen(f"{url}/v1/models/mosaiks", timeout=30) as answer:  # noqa: S310 - ours
        (state,) = json.load(answer)["serving"].values()
    return state.get("batch_size", 0)


def test_streams_outlive_the_replicas_that_they_began_with(deployed: Deployed) -> None:
    """New args restart every replica: the old ones drain, and what they had not done the new ones do."""
    before = deployed.replicas()
    changed = copy.deepcopy(deployed.config)
    application(changed)["args"]["limits"]["max_rois"] = 50_000
    with callers.calling(deployed.url, callers.ask_many) as caller:
        until("a stream", lambda: caller.answered > 0)
        deployed.cluster.put(changed)
        until("new replicas", lambda: not _kept(before, deployed.replicas()))
        running(deployed.cluster)
        seen = caller.answered
        until("streams after it", lambda: caller.answered > seen + 1)
    assert caller.failures == []


def _kept(before: Replicas, after: Replicas) -> bool:
    """Whether a replica of before is still there, or a deployment that had one has none."""
    return any(not after.get(name) or set(ids) & set(after[name]) for name, ids in before.items() if ids)


def test_a_pod_that_goes_away_fails_no_request(cluster: RayCluster) -> None:
    """The preStop hook on the second node, as when its pod is deleted: it ends when nothing is served there."""
    deployed = deploy(cluster, "production")
    callers.vector(deployed.url, 0)
    node = _second_node(cluster)
    assert node in _serving_nodes(cluster)
    with callers.calling(deployed.url) as caller:
        until("requests", lambda: caller.answered > 2)
        hook = [BIN / "python", _SCRIPTS / "drain.py", "--seconds", _DRAIN_S, "--node-id", node]
        done = cluster.run(*map(str, hook))
        seen = caller.answered
        until("requests after it", lambda: caller.answered > seen + 2)
    assert done.returncode == 0, done.stdout + done.stderr
    assert caller.failures == []
    assert node not in _serving_nodes(cluster)


def _second_node(cluster: RayCluster) -> str:
    nodes = cluster.ask("/nodes?view=summary")["data"]["summary"]
    (worker,) = (entry["raylet"]["nodeId"] for entry in nodes if not entry["raylet"].get("isHeadNode"))
    return worker


def _serving_nodes(cluster: RayCluster) -> set[str]:
    deployments = cluster.applications()["rs-embed"]["deployments"].values()
    replicas = itertools.chain.from_iterable(entry["replicas"] for entry in deployments)
    return {one["node_id"] for one in replicas if one["state"] == "RUNNING"}


def test_an_application_that_is_taken_away_leaves_nothing(cluster: RayCluster) -> None:
    cluster.put({"applications": []})
    until("nothing is deployed", lambda: cluster.applications() == {})
