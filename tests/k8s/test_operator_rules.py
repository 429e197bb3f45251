"""Violations of the operator's rules, planted for test_rules.py, and what is none."""

from __future__ import annotations

from collections.abc import Callable

from tests.k8s.manifests import Doc, documents, of_kind, service
from tests.k8s.operator_rules import RULES

type Plant = Callable[[list[Doc]], object]


def _cluster(docs: list[Doc]) -> Doc:
    return service(docs)["spec"]["rayClusterConfig"]


def _head(docs: list[Doc]) -> Doc:
    return _cluster(docs)["headGroupSpec"]


def _worker(docs: list[Doc]) -> Doc:
    return _cluster(docs)["workerGroupSpecs"][0]


def _environment(docs: list[Doc]) -> list[Doc]:
    return _head(docs)["template"]["spec"]["containers"][0]["env"]


def _job(docs: list[Doc]) -> Doc:
    (job,) = of_kind(docs, "RayJob")
    return job["spec"]


def _upgrade(docs: list[Doc], **options: object) -> None:
    right = {"gatewayClassName": "istio", "stepSizePercent": 10, "maxSurgePercent": 25, "intervalSeconds": 60}
    strategy = {"type": "NewClusterWithIncrementalUpgrade", "clusterUpgradeOptions": right | options}
    service(docs)["spec"]["upgradeStrategy"] = strategy


def _annotate(docs: list[Doc], **annotations: str) -> None:
    wanted = {f"ray.io/{name.replace('_', '-')}": value for name, value in annotations.items()}
    service(docs)["metadata"].setdefault("annotations", {}).update(wanted)


PLANTS: dict[str, list[Plant]] = {
    "gated_fields": [
        lambda docs: _cluster(docs).update(networkPolicy={"mode": "DenyAll"}),
        lambda docs: _cluster(docs).update(gcsFaultToleranceOptions={"backend": "rocksdb"}),
        lambda docs: docs.append({"kind": "RayCronJob", "metadata": {"name": "x"}}),
    ],
    "ray_version": [
        lambda docs: _cluster(docs).update(rayVersion="2.59.0"),
        lambda docs: _cluster(docs).pop("rayVersion"),
    ],
    "token_auth": [
        lambda docs: _cluster(docs).update(rayVersion="2.51.1"),
        lambda docs: _cluster(docs)["authOptions"].update(enableK8sTokenAuth=True),
    ],
    "head_service_name": [lambda docs: _head(docs).update(headService={"metadata": {"name": "mine"}})],
    "restart_policy": [lambda docs: _worker(docs)["template"]["spec"].update(restartPolicy="Always")],
    "resources_once": [
        lambda docs: _worker(docs)["rayStartParams"].update({"num-cpus": "4"}),
        lambda docs: _worker(docs)["rayStartParams"].update(labels="a=b"),
    ],
    "incremental_upgrade": [
        lambda docs: _upgrade(docs, stepSizePercent=50),
        lambda docs: _upgrade(docs, intervalSeconds=0),
        lambda docs: _upgrade(docs, gatewayClassName=""),
        lambda docs: (_upgrade(docs), _cluster(docs).update(enableInTreeAutoscaling=False)),
        lambda docs: service(docs)["spec"].update(upgradeStrategy={"type": "Rolling"}),
    ],
    "names": [
        lambda docs: service(docs)["metadata"].update(name="r" * 48),
        lambda docs: service(docs)["metadata"].update(name="1st"),
        lambda docs: _worker(docs).update(groupName="fetch_group"),
    ],
    "cluster_upgrade_strategy": [lambda docs: _cluster(docs).update(upgradeStrategy={"type": "Recreate"})],
    "fault_tolerance": [
        lambda docs: _environment(docs).append({"name": "RAY_REDIS_ADDRESS", "value": "redis:6379"}),
        lambda docs: _head(docs)["rayStartParams"].update({"redis-password": "x"}),
        lambda docs: _annotate(docs, ft_enabled="true"),
        lambda docs: _cluster(docs).update(gcsFaultToleranceOptions={"externalStorageNamespace": "mine"}),
    ],
    "autoscaler_environment": [
        lambda docs: _environment(docs).append({"name": "RAY_enable_autoscaler_v2", "value": "1"})
    ],
    "initializing_timeout": [
        lambda docs: _annotate(docs, initializing_timeout="soon"),
        lambda docs: _annotate(docs, initializing_timeout="0"),
    ],
    "job_options": [
        lambda docs: _job(docs).update(shutdownAfterJobFinishes=False),
        lambda docs: _job(docs).update(deletionStrategy={"deletionRules": [{"policy": "DeleteSelf"}]}),
        lambda docs: _job(docs).update(clusterSelector={"ray.io/cluster": "x"}),
        lambda docs: _job(docs).update(submissionMode="SidecarMode"),
        lambda docs: _job(docs).update(submissionMode="InteractiveMode"),
        lambda docs: _job(docs).pop("rayClusterSpec"),
        lambda docs: _job(docs).update(backoffLimit=-1),
    ],
}


def test_an_incremental_upgrade_with_its_prerequisites_is_right() -> None:
    docs = documents("overlays/production")
    _upgrade(docs)
    (rule,) = (rule for rule in RULES if rule.__name__ == "incremental_upgrade")
    assert list(rule(docs)) == []
