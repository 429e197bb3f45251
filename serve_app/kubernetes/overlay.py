"""The files of an overlay: ``kustomization.yaml`` with its patches, ``serve.yaml``, ``export.yaml`` if it exports."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml

from rs_embed_core.registry import get_card
from serve_app.kubernetes.checks import check
from serve_app.kubernetes.exports import export_file, export_groups
from serve_app.kubernetes.groups import ENCODERS, FETCH, cpu_group, fetch_group, gpu_group, kept
from serve_app.kubernetes.manifests import Manifests, megabytes
from serve_app.kubernetes.settings import Tree, arguments, settings_of
from serve_app.kubernetes.together import check_together
from serve_app.kubernetes.values import RedisValues, Values
from serve_app.router import default_ask
from serve_app.settings import ModelSettings, ServiceSettings

_SERVE = "serve.yaml"
_EXPORT = "export.yaml"
_EXPORTS = "rs-embed-export"  # the ConfigMap that carries it, and the RayJob that reads it
_CONFIG = "rs-embed-serve-config"  # the ConfigMap that carries it into spec.serveConfigV2
_IMAGE = "rs-embed-serve"
_SERVICE = {"kind": "RayService", "name": "rs-embed"}
_CONTAINER = "template/spec/containers/0/resources"  # of a group: Kubernetes', where its own are Ray's
_LONGEST_BATCH_S = 120  # that an encoder may finish when it is told to go
_AFTER_TIMEOUT_S = 60  # Serve's own limit must not cut what limits.timeout_s ends properly


class _Dumper(yaml.SafeDumper):
    """YAML as a person would write it: a text of several lines stands as a block."""


def _scalar(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _scalar)


def render(values: Values, manifests: Manifests, out: Path, source: str) -> dict[str, str]:
    """The text of each file of the overlay; equal values give equal text.

    Args:
        out: the overlay's folder: paths in it are relative, as kustomize wants them.
        source: the values file's name, for the comment at the head.

    Raises:
        InvalidRequest, UnknownModel, UnknownOption: values that cannot work.
        Unsupported: there are no manifests here.
    """
    config = manifests.serve
    (application,) = config["applications"]
    application["args"] = arguments(values, application["args"])
    settings = settings_of(application["args"])
    check(values, settings, manifests)
    application["deployments"] = [*_routers(application), *_encoders(settings)]
    config["http_options"]["request_timeout_s"] = settings.limits.timeout_s + _AFTER_TIMEOUT_S
    config["logging_config"] = {"encoding": "JSON"}
    note = f"# Written by `rs-embed k8s render` from {source}: change that and render again.\n"
    files = {_SERVE: config, "kustomization.yaml": _kustomization(values, settings, manifests, out)}
    if values.export is not None and values.gpu is not None:
        files[_EXPORT] = export_file(values.export, values, application["args"])
        _add_exports(
            files["kustomization.yaml"], export_groups(files[_EXPORT], values.gpu, manifests.resources(ENCODERS))
        )
    return {name: note + _yaml(content) for name, content in files.items()}


def _yaml(content: object) -> str:
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=120)


def _routers(application: Tree) -> Iterator[Tree]:
    """Yield what k8s/base says of its routers; its encoders are not these."""
    yield from (entry for entry in application["deployments"] if entry["name"] == "router")


def _encoders(settings: ServiceSettings) -> Iterator[Tree]:
    for model in _computed(settings):
        # Who keeps two means to keep one when a node goes.
        apart = {"max_replicas_per_node": 1} if model.min_replicas > 1 else {}
        yield {"name": default_ask(model)[1].encoder, **apart, "graceful_shutdown_timeout_s": _LONGEST_BATCH_S}


def _computed(settings: ServiceSettings) -> list[ModelSettings]:
    """The models that have an encoder: not the precomputed products."""
    return [model for model in settings.models if get_card(model.model)[0].product is None]


def _kustomization(values: Values, settings: ServiceSettings, manifests: Manifests, out: Path) -> Tree:
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": values.namespace,
        "resources": [manifests.seen_from(out, "base")],
        "components": [manifests.component(name, out) for name in _components(values)],
        "images": [_image(values), *_redis(values)],
        "configMapGenerator": [
            {"name": _CONFIG, "behavior": "replace", "files": [_SERVE], "options": {"disableNameSuffixHash": True}}
        ],
        "replacements": [
            {
                "source": {"kind": "ConfigMap", "name": _CONFIG, "fieldPath": f"data.[{_SERVE}]"},
                "targets": [{"select": dict(_SERVICE), "fieldPaths": ["spec.serveConfigV2"]}],
            }
        ],
        "patches": [
            *_groups(values, settings, manifests),
            *_identity(values),
            *_gateway(values),
            *_redis_elsewhere(values),
            *_weights(values),
        ],
    }


def _add_exports(kustomization: Tree, operations: Sequence[Tree]) -> None:
    """Have the overlay make the ConfigMap of the job file, and the RayJob fit for it."""
    made = {"name": _EXPORTS, "files": [_EXPORT], "options": {"disableNameSuffixHash": True}}
    kustomization["configMapGenerator"].append(made)
    kustomization["patches"].append(_patch({"kind": "RayJob", "name": _EXPORTS}, operations))


def _components(values: Values) -> list[str]:
    wanted = {
        "jobs": values.export is not None,  # before those that patch what it brings
        "earth-engine-key": values.provider.credentials == "key",
        "weights-pvc": values.weights == "pvc",
        "weights-cache": values.weights == "cache",
        "redis": bool(values.redis),
        "monitoring": values.monitoring,
        "gateway": bool(values.gateway),
    }
    return [name for name, is_wanted in wanted.items() if is_wanted]


def _image(values: Values) -> Tree:
    image = values.image
    version = {"newTag": image.tag} if image.digest is None else {"digest": image.digest}
    return {"name": _IMAGE, "newName": image.name, **version}


def _redis(values: Values) -> Iterator[Tree]:
    if isinstance(values.redis, str):
        name, at, digest = values.redis.partition("@")
        name, version = (name, {"digest": digest}) if at else _name_and_tag(name)
        yield {"name": "redis", "newName": name, **version}


def _redis_elsewhere(values: Values) -> Iterator[Tree]:
    """Yield the patches that use a Redis of one's own, and bring none."""
    redis = values.redis
    if not isinstance(redis, RedisValues):
        return
    for version, kind in (("apps/v1", "StatefulSet"), ("v1", "Service")):
        yield _without(version, kind, "rs-embed-redis")
    yield _without("networking.k8s.io/v1", "NetworkPolicy", "redis")
    path = "/spec/rayClusterConfig/gcsFaultToleranceOptions/redisAddress"
    yield _patch(_SERVICE, [{"op": "replace", "path": path, "value": redis.address}])
    way = {
        "to": [{"ipBlock": {"cidr": str(redis.cidr)}}],
        "ports": [{"protocol": "TCP", "port": redis.port}],
    }
    operations = [{"op": "replace", "path": "/spec/egress/0", "value": way}]
    yield _patch({"kind": "NetworkPolicy", "name": "to-redis"}, operations)


def _name_and_tag(image: str) -> tuple[str, Tree]:
    name, _, tag = image.rpartition(":")
    return name, {"newTag": tag}


def _groups(values: Values, settings: ServiceSettings, manifests: Manifests) -> Iterator[Tree]:
    """Yield the patches of the worker groups."""
    fetch, encoders = manifests.resources(FETCH), manifests.resources(ENCODERS)
    on_cpus = [model for model in _computed(settings) if not model.num_gpus]
    of_fetch = fetch_group(settings, fetch, () if values.gpu is None else on_cpus)
    yield _patch(_SERVICE, of_fetch)
    shared = {place: manifests.volume_mb(place, "shared-memory") for place in (FETCH, ENCODERS)}
    if kept(of_fetch) < 2:
        # A budget that keeps the only pod of a group would let no node be drained.
        yield _without("policy/v1", "PodDisruptionBudget", "fetch")
    if values.gpu is not None:
        check_together(on_cpus, fetch, megabytes(manifests.memory(FETCH)) - shared[FETCH])
        yield _patch(_SERVICE, gpu_group(values.gpu, settings, encoders))
        return
    patches = list(manifests.without_gpus())
    yield from patches
    pod, memory = _of_encoders(patches, "resources"), _of_encoders(patches, _CONTAINER)["limits"]["memory"]
    check_together(on_cpus, pod, megabytes(memory) - shared[ENCODERS])
    yield _patch(_SERVICE, cpu_group(on_cpus, pod))


def _without(version: str, kind: str, name: str) -> Tree:
    """A patch that leaves an object out."""
    gone = {"$patch": "delete", "apiVersion": version, "kind": kind, "metadata": {"name": name}}
    return {"target": {"kind": kind, "name": name}, "patch": _yaml(gone)}


def _of_encoders(patches: Sequence[Tree], path: str) -> Tree:
    """What patches say at a path of the group that they make of the GPUs'."""
    operations = [entry for patch in patches for entry in yaml.safe_load(patch["patch"]) if isinstance(entry, dict)]
    (found,) = (entry["value"] for entry in operations if entry["path"].endswith(f"/{ENCODERS}/{path}"))
    return dict(found)


def _identity(values: Values) -> Iterator[Tree]:
    """Yield the patches that let fetch pods be the Google service account: for Earth Engine, and buckets of exports."""
    provider = values.provider
    if provider.credentials != "workload-identity" or (provider.name != "gee" and provider.service_account is None):
        return
    if provider.service_account is not None:
        annotation = {"iam.gke.io/gcp-service-account": provider.service_account}
        operations = [{"op": "add", "path": "/metadata/annotations", "value": annotation}]
        yield _patch({"kind": "ServiceAccount", "name": "fetch"}, operations)
    tokens = {  # of the node's metadata server, and of GKE's in its place
        "to": [{"ipBlock": {"cidr": "169.254.169.254/32"}}, {"ipBlock": {"cidr": "169.254.169.252/32"}}],
        "ports": [{"protocol": "TCP", "port": 80}, {"protocol": "TCP", "port": 988}],
    }
    operations = [{"op": "add", "path": "/spec/egress/-", "value": tokens}]
    yield _patch({"kind": "NetworkPolicy", "name": "internet"}, operations)


def _gateway(values: Values) -> Iterator[Tree]:
    if isinstance(values.gateway, str):
        path = "/spec/upgradeStrategy/clusterUpgradeOptions/gatewayClassName"
        yield _patch(_SERVICE, [{"op": "replace", "path": path, "value": values.gateway}])


def _weights(values: Values) -> Iterator[Tree]:
    """Yield the patches of the volume of weights and of the Job that fills it.

    A Job cannot be changed: with other models or another image it is another one, and the old one goes by itself.
    """
    if values.weights != "pvc":
        return
    if values.storage_class is not None:
        operations = [{"op": "add", "path": "/spec/storageClassName", "value": values.storage_class}]
        yield _patch({"kind": "PersistentVolumeClaim", "name": "rs-embed-weights"}, operations)
    models = [(entry.model, entry.variant) for entry in values.models]
    digest = hashlib.sha256(repr((_image(values), models)).encode()).hexdigest()
    operations = [{"op": "replace", "path": "/metadata/name", "value": f"weights-{digest[:8]}"}]
    yield _patch({"kind": "Job", "name": "weights"}, operations)


def _patch(target: Mapping[str, str], operations: Sequence[Tree]) -> Tree:
    return {"target": dict(target), "patch": _yaml(list(operations))}
