"""Violations of our own rules, planted for test_rules.py, and what the rules take for granted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import yaml

from tests.k8s.manifests import Doc, documents, named, service
from tests.k8s.serve_config import application, serve_config

type Plant = Callable[[list[Doc]], object]


def _spec(docs: list[Doc]) -> Doc:
    return service(docs)["spec"]


def _cluster(docs: list[Doc]) -> Doc:
    return _spec(docs)["rayClusterConfig"]


def _group(docs: list[Doc], index: int = 0) -> Doc:
    return _cluster(docs)["workerGroupSpecs"][index]


def _pod(docs: list[Doc], index: int = 0) -> Doc:
    return _group(docs, index)["template"]["spec"]


def _ray(docs: list[Doc], index: int = 0) -> Doc:
    return _pod(docs, index)["containers"][0]


def _job_cluster(docs: list[Doc]) -> Doc:
    return named(docs, "RayJob", "rs-embed-export")["spec"]["rayClusterSpec"]


def _nodes(docs: list[Doc]) -> Doc:
    """How the fetch pods are spread over nodes."""
    (constraint,) = (
        one for one in _pod(docs)["topologySpreadConstraints"] if one["topologyKey"] == "kubernetes.io/hostname"
    )
    return constraint


def _variable(docs: list[Doc], name: str, value: str, index: int = 0) -> None:
    _ray(docs, index)["env"].append({"name": name, "value": value})


def _serve(docs: list[Doc], change: Callable[[Doc], object]) -> None:
    config = serve_config(docs)
    change(config)
    _spec(docs)["serveConfigV2"] = yaml.safe_dump(config)


def _args(docs: list[Doc], change: Callable[[Doc], object]) -> None:
    _serve(docs, lambda config: change(application(config)["args"]))


def _without(items: list[Doc], **having: Any) -> None:
    items[:] = [item for item in items if not having.items() <= item.items()]


PLANTS: dict[str, list[Plant]] = {
    "resources": [
        lambda docs: _ray(docs)["resources"]["limits"].update(memory="32Gi"),
        lambda docs: _ray(docs)["resources"].pop("requests"),
        lambda docs: _cluster(docs)["autoscalerOptions"].pop("resources"),
    ],
    "security": [
        lambda docs: _pod(docs)["securityContext"].pop("runAsNonRoot"),
        lambda docs: _pod(docs)["securityContext"].update(runAsUser=0),
        lambda docs: _ray(docs)["securityContext"].update(readOnlyRootFilesystem=False),
        lambda docs: _cluster(docs)["autoscalerOptions"].pop("securityContext"),
        lambda docs: _ray(docs)["securityContext"]["capabilities"].update(add=["SYS_PTRACE"]),
        lambda docs: _pod(docs).update(hostNetwork=True),
        lambda docs: _pod(docs).update(hostPID=True),
        lambda docs: _pod(docs)["volumes"].append({"name": "node", "hostPath": {"path": "/"}}),
        lambda docs: _ray(docs)["ports"][0].update(hostPort=8000),
        lambda docs: named(docs, "Namespace", "rs-embed")["metadata"].pop("labels"),
    ],
    "writable": [
        lambda docs: _without(_ray(docs)["volumeMounts"], mountPath="/tmp"),  # noqa: S108 - a mount path
        lambda docs: _without(_ray(docs)["env"], name="HOME"),
    ],
    "images": [
        lambda docs: _ray(docs).update(image="registry.example.com:5000/rs-embed-serve"),
        lambda docs: _ray(docs).update(image="rs-embed-serve:latest"),
    ],
    "tokens": [
        lambda docs: _pod(docs).pop("automountServiceAccountToken"),
        lambda docs: _pod(docs).update(automountServiceAccountToken=True),
    ],
    "disruption": [
        lambda docs: named(docs, "PodDisruptionBudget", "fetch")["spec"].update(minAvailable="50%"),
        lambda docs: named(docs, "PodDisruptionBudget", "fetch")["spec"].update(maxUnavailable=1),
    ],
    "secrets": [
        lambda docs: docs.append({"kind": "Secret", "metadata": {"name": "x"}, "spec": {}}),
        lambda docs: _variable(docs, "REDIS_PASSWORD", "hunter2"),
        lambda docs: named(docs, "ConfigMap", "rs-embed-export")["data"].update(key='{"private_key": "x"}'),
    ],
    "selectors": [
        lambda docs: named(docs, "PodDisruptionBudget", "fetch")["spec"]["selector"]["matchLabels"].update(a="b"),
        lambda docs: named(docs, "Service", "rs-embed-redis")["spec"].update(selector={"app": "redis"}),
        lambda docs: named(docs, "NetworkPolicy", "requests")["spec"]["podSelector"]["matchLabels"].update(a="b"),
        lambda docs: _pod(docs)["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"].update(a="b"),
    ],
    "references": [
        lambda docs: _pod(docs).update(serviceAccountName="nobody"),
        lambda docs: _without(docs, kind="PersistentVolumeClaim"),
        lambda docs: _cluster(docs)["authOptions"].update(secretName="other"),
        lambda docs: _ray(docs)["volumeMounts"].append({"name": "nothing", "mountPath": "/x"}),
        lambda docs: _ray(docs).update(envFrom=[{"configMapRef": {"name": "nothing"}}]),
    ],
    "ports": [
        lambda docs: _ray(docs)["ports"][0].pop("name"),
        lambda docs: _ray(docs)["livenessProbe"]["httpGet"].update(port="agent"),
    ],
    "mounts": [
        lambda docs: _ray(docs)["volumeMounts"].append({"name": "tmp", "mountPath": "/cache"}),
        lambda docs: _variable(docs, "HOME", "/tmp"),  # noqa: S108 - a mount path
        lambda docs: _pod(docs)["volumes"].append({"name": "more", "emptyDir": {"sizeLimit": "1Gi"}}),
        lambda docs: _pod(docs)["volumes"][0]["emptyDir"].pop("sizeLimit"),
    ],
    "shared_memory": [
        lambda docs: _group(docs)["rayStartParams"].update({"object-store-memory": "8000000000"}),
        lambda docs: _ray(docs)["resources"]["limits"].update(memory="8Gi"),
        lambda docs: _without(_ray(docs)["volumeMounts"], mountPath="/dev/shm"),  # noqa: S108 - a mount path
    ],
    "labels": [lambda docs: _group(docs)["template"]["metadata"]["labels"].pop("app.kubernetes.io/instance")],
    "room": [
        lambda docs: _group(docs)["resources"].pop("ee_fetch"),
        lambda docs: _group(docs, 1)["resources"].update(ee_fetch="4"),
        lambda docs: _args(docs, lambda args: args["models"][0].update(num_gpus=2)),
        lambda docs: _args(docs, lambda args: args["models"][0].update(max_replicas=40)),
        lambda docs: _args(docs, lambda args: args["fetch"].update(actors=100)),
        lambda docs: _args(docs, lambda args: args["fetch"].pop("resources")),
    ],
    "idle_gpus": [
        lambda docs: _group(docs, 1).update(minReplicas=1),
        lambda docs: _cluster(docs)["headGroupSpec"]["rayStartParams"].pop("num-cpus"),
    ],
    "group_order": [lambda docs: _cluster(docs)["workerGroupSpecs"].reverse()],
    "draining": [
        lambda docs: _args(docs, lambda args: args["limits"].update(timeout_s=3600)),
        lambda docs: _spec(docs).update(rayClusterDeletionDelaySeconds=60),
        lambda docs: _serve(docs, lambda config: config["http_options"].update(request_timeout_s=300)),
        lambda docs: _ray(docs).pop("lifecycle"),
        lambda docs: _pod(docs).pop("terminationGracePeriodSeconds"),
        lambda docs: _serve(
            docs, lambda config: application(config)["deployments"][0].pop("graceful_shutdown_timeout_s")
        ),
    ],
    "entrance": [
        lambda docs: _serve(docs, lambda config: config["http_options"].update(host="127.0.0.1")),
        lambda docs: _spec(docs).update(excludeHeadPodFromServeSvc=False),
    ],
    "haproxy": [
        lambda docs: _args(docs, lambda args: args["http"].update(haproxy=False)),
        lambda docs: _variable(docs, "RAY_SERVE_ENABLE_HA_PROXY", "0"),
        lambda docs: _variable(docs, "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S", "120"),
        lambda docs: _serve(docs, lambda config: application(config)["deployments"][0].update(ray_actor_options={})),
    ],
    "quota": [
        lambda docs: _args(docs, lambda args: args["providers"]["gee"].update(at_once=100)),
        lambda docs: _args(docs, lambda args: args["fetch"].pop("concurrency")),
        lambda docs: _args(docs, lambda args: args["providers"]["gee"].update(at_once=20)),
    ],
    "disk_cache": [
        lambda docs: _args(docs, lambda args: args["fetch"]["cache"].update(disk_mb=100_000)),
        lambda docs: _args(docs, lambda args: args["fetch"]["cache"].update(disk_path="/chips")),
    ],
    "node_disk": [
        lambda docs: _ray(docs)["resources"]["requests"].update({"ephemeral-storage": "60Gi"}),
        lambda docs: _ray(docs)["resources"]["requests"].update({"ephemeral-storage": "8Gi"}),
    ],
    "weights": [
        lambda docs: _without(_ray(docs, 1)["volumeMounts"], name="weights"),
        lambda docs: _args(docs, lambda args: args["checkpoints"].update(root="/models")),
    ],
    "earth_engine": [
        lambda docs: _pod(docs, 1)["volumes"].append({"name": "x", "secret": {"secretName": "rs-embed-earth-engine"}}),
        lambda docs: _variable(docs, "GOOGLE_APPLICATION_CREDENTIALS", "{...}"),
        lambda docs: _pod(docs, 1).update(serviceAccountName="fetch"),
    ],
    "offline": [lambda docs: _without(_ray(docs, 1)["env"], name="HF_HUB_OFFLINE")],
    "budgets": [
        lambda docs: docs.remove(named(docs, "PodDisruptionBudget", "fetch")),
        lambda docs: named(docs, "PodDisruptionBudget", "fetch")["spec"].update(minAvailable=5),
        lambda docs: named(docs, "PodDisruptionBudget", "fetch")["spec"].update(minAvailable=2),
        lambda docs: _group(docs).update(minReplicas=1),
        lambda docs: named(docs, "PodDisruptionBudget", "fetch")["spec"]["selector"]["matchLabels"].update(
            {"ray.io/group": "gpu"}
        ),
    ],
    "spread": [
        lambda docs: _pod(docs).pop("topologySpreadConstraints"),
        lambda docs: _nodes(docs).update(whenUnsatisfiable="ScheduleAnyway"),
        lambda docs: _nodes(docs).update(maxSkew=2),
        lambda docs: _nodes(docs).pop("nodeTaintsPolicy"),
        lambda docs: _nodes(docs).pop("matchLabelKeys"),
    ],
    "ray_tokens": [
        lambda docs: _cluster(docs).pop("authOptions"),
        lambda docs: _cluster(docs)["authOptions"].pop("secretName"),
        lambda docs: _job_cluster(docs)["authOptions"].update(mode="disabled"),
    ],
    "scaling": [
        lambda docs: _cluster(docs).update(enableInTreeAutoscaling=False),
        lambda docs: _cluster(docs)["autoscalerOptions"].update(version="v1"),
        lambda docs: _job_cluster(docs).pop("enableInTreeAutoscaling"),
    ],
    "gpu_groups": [
        lambda docs: _pod(docs, 1).pop("tolerations"),
        lambda docs: _ray(docs, 1)["resources"]["limits"].pop("nvidia.com/gpu"),
        lambda docs: _group(docs, 1)["resources"].update(GPU="2"),
        lambda docs: _ray(docs)["resources"]["limits"].update({"nvidia.com/gpu": "1"}),
        lambda docs: _pod(docs).update(tolerations=[{"key": "nvidia.com/gpu", "operator": "Exists"}]),
    ],
    "probes": [
        lambda docs: _ray(docs, 1).pop("readinessProbe"),
        lambda docs: _ray(docs).pop("livenessProbe"),
        lambda docs: _ray(docs)["livenessProbe"]["httpGet"].update(path="/healthz"),
        lambda docs: _job_cluster(docs)["workerGroupSpecs"][0]["template"]["spec"]["containers"][0].pop(
            "readinessProbe"
        ),
    ],
    "session": [
        lambda docs: _without(_cluster(docs)["autoscalerOptions"]["volumeMounts"], name="ray-logs"),
        lambda docs: _without(
            _job_cluster(docs)["headGroupSpec"]["template"]["spec"]["containers"][0]["volumeMounts"], name="ray-logs"
        ),
    ],
    "lasting_head": [
        lambda docs: _cluster(docs).pop("gcsFaultToleranceOptions"),
        lambda docs: _cluster(docs)["gcsFaultToleranceOptions"].update(redisAddress="redis:6379"),
        lambda docs: _cluster(docs)["gcsFaultToleranceOptions"].update(redisPassword={"value": "hunter2"}),
    ],
    "undisturbed": [
        lambda docs: _cluster(docs)["headGroupSpec"]["template"]["metadata"].pop("annotations"),
        lambda docs: _group(docs)["template"]["metadata"]["annotations"].popitem(),
        lambda docs: _cluster(docs)["headGroupSpec"]["template"]["spec"].pop("affinity"),
        lambda docs: _job_cluster(docs)["headGroupSpec"]["template"]["metadata"].pop("annotations"),
        lambda docs: _job_cluster(docs)["headGroupSpec"]["template"]["spec"].pop("affinity"),
        lambda docs: _job_cluster(docs)["workerGroupSpecs"][0]["template"]["metadata"].pop("annotations"),
        lambda docs: _job_cluster(docs)["workerGroupSpecs"][0]["template"]["spec"].pop("affinity"),
    ],
}


def test_the_head_of_production_may_go() -> None:
    assert "gcsFaultToleranceOptions" in _cluster(documents("overlays/production"))
