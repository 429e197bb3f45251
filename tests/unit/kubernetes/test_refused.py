"""What render refuses: mistakes in the file, and what could be deployed and would not work."""

from __future__ import annotations

from pathlib import Path

import pytest

from rs_embed_core.errors import InvalidRequest, RSEmbedError, UnknownModel, UnknownOption, Unsupported
from tests.unit.kubernetes.values import GPUS, SMALLEST, Render


def refused(render: Render, values: object) -> str:
    """Why; there is always a hint."""
    with pytest.raises(RSEmbedError) as caught:
        render(values)
    assert caught.value.hint
    return " ".join(str(caught.value).split())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_s": []}, "model_s: there is no such key; did you mean models?"),
        ({"gpu": {"typ": "l4", "count": 1}}, "gpu.typ: there is no such key; did you mean type?"),
        (
            {"models": [{"model": "dofa", "replica": 2}]},
            "models.0.replica: there is no such key; did you mean replicas",
        ),
        ({"models": [{"model": "dofa", "replicas": {"mim": 2}}]}, "did you mean min?"),
        ({"models": [{"model": "dofa", "replicas": {"min": 3, "max": 2}}]}, "min 3 is more than max 2"),
        ({"models": []}, "models: "),
        ({"models": [{"model": "dofa", "gpus": 0.1}]}, "at most five replicas share a GPU"),
        ({"image": {"name": "x"}}, "image: neither tag nor digest"),
        ({"image": {"name": "x", "tag": "latest"}}, "latest is another image tomorrow"),
        ({"image": {"name": "x", "digest": "sha256:12"}}, "image.digest"),
        ({"namespace": "Not_One"}, "namespace: "),
        ({"gpu": {"type": "v100", "count": 1}}, "type 'v100' is not known"),
        ({"gpu": {"type": "l40s", "count": 1}}, "GKE has no label for l40s"),
        ({"provider": {"name": "gee"}}, "project is missing"),
        ({"provider": {"name": "stac", "project": "p"}}, "are Earth Engine's; the name is stac"),
        ({"provider": {"name": "stac", "service_account": "s@p"}}, "Earth Engine and the buckets of exports"),
        ({"provider": {"name": "gee", "project": "p", "credentials": "key", "service_account": "s"}}, "the key's"),
        (
            {"settings": {"limits": {"max_roi": 1}}},
            "settings.limits.max_roi: there is no such key; did you mean max_rois",
        ),
        ({"settings": {"fetch": {"actors": 0}}}, "settings.fetch.actors"),
        ({"settings": {"models": []}}, "settings.models is not for here"),
        ({"gateway": ""}, "gateway"),
        ({"redis": "images.example/redis"}, "redis"),
        ({"redis": "redis.internal.example.com:6379"}, "an address and no image: say redis: {address: ..., cidr: ...}"),
        ({"redis": {"address": "redis.internal.example.com:6379"}}, "redis.RedisValues.cidr"),
        ({"redis": {"addr": "redis:6379", "cidr": "10.0.0.0/29"}}, "did you mean address?"),
        ({"redis": {"address": "redis", "cidr": "10.0.0.0/29"}}, "redis.RedisValues.address"),
        ({"redis": "images.example/redis:latest"}, "latest is another image tomorrow"),
        ({"storage_class": "standard-rwx"}, "storage_class is of the volume of weights"),
    ],
)
def test_a_mistake_in_the_file_says_where(change: dict[str, object], said: str, render: Render) -> None:
    assert said in refused(render, {**SMALLEST, **change})


@pytest.mark.parametrize(
    ("model", "error", "said"),
    [
        ({"model": "dofo"}, UnknownModel, "dofa"),
        ({"model": "dofa", "variant": "huge"}, UnknownOption, "base, large"),
    ],
)
def test_an_unknown_model_or_variant(
    model: dict[str, str], error: type[RSEmbedError], said: str, render: Render
) -> None:
    with pytest.raises(error, match=said):
        render({**SMALLEST, "models": [model]})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"provider": {"name": "gee", "project": "p", "at_once": 41}}, "41 requests at once are more than the 40"),
        ({"fetch": {"actors": 8, "concurrency": 16}}, "8 fetch actors with 16 reads each are 128 at once"),
        ({"settings": {"providers": {"gee": {"at_once": 50}}}}, "50 requests at once are more than the 40"),
        ({"gpu": {"type": "l4", "count": 2}}, "the models want 3 GPUs (dofa-large 2 x 1, galileo-nano 2 x 0.5)"),
        (
            {"models": [{"model": "satvision", "gpus": 0.5}], "gpu": {"type": "t4", "count": 1, "node_selector": {}}},
            "GB",
        ),
        ({"models": [{"model": "dofa"}, {"model": "dofa", "variant": "base"}]}, "dofa-base is listed twice"),
        ({"models": [{"model": "gse", "gpus": 1}]}, "gse is a precomputed product"),
        ({"models": [{"model": "tessera"}]}, "tessera is read through tessera, which is not set up"),
        ({"weights": "cache", "models": [{"model": "fomo"}]}, "on no Hub, so pods cannot fetch them"),
        ({"models": [{"model": "galileo", "gpus": 0}]}, "fetch pods, which do not have the weights"),
        ({"models": [{"model": "dofa", "gpus": 0.5, "cpus": 4}]}, "4 CPUs with 0.5 of a GPU"),
        ({"settings": {"limits": {"timeout_s": 3600}}}, "limits.timeout_s is 3600, and pods take 900 s to drain"),
        ({"models": [{"model": "mosaiks", "gpus": 0, "cpus": 8}]}, "mosaiks asks for 8 CPUs, and a pod has 6"),
        ({"settings": {"fetch": {"resources": {"ee_fetch": 5}}}}, "a fetch actor asks for 5 ee_fetch"),
        ({"settings": {"fetch": {"num_cpus": 7}}}, "a fetch actor asks for 7 CPU, and a fetch pod has 6"),
        ({"settings": {"http": {"router_resources": {"router": 2}}}}, "a router asks for 2 router"),
        (
            {"settings": {"fetch": {"cache": {"disk_mb": 10_000}}}},
            "disk_mb is 10000, and the volume of fetch pods holds 9664",
        ),
        ({"settings": {"fetch": {"cache": {"disk_path": "/data/chips"}}}}, "can write below /cache alone"),
        ({"settings": {"checkpoints": {"root": "/data"}}}, "what is fetched is at /weights"),
        ({"settings": {"http": {"haproxy": False}}}, "http.haproxy is False, and pods are started for True"),
        (
            {"monitoring": False, "settings": {"observe": {"traces": {"endpoint": "http://collector:4318"}}}},
            "no way to a collector",
        ),
        ({"provider": {"name": "gee", "project": "p", "at_once": 21}}, "more than half of the 40"),
        ({"settings": {"providers": {"gee": {"at_once": 21}}}}, "more than half of the 40"),
        ({"models": [{"model": "copernicus"}]}, "copernicus is read through copernicus, which is not set up"),
        (
            {"models": [{"model": "copernicus"}], "settings": {"providers": {"copernicus": {}}}},
            "providers.copernicus has no path",
        ),
        (  # each on a node of its own, because two are kept
            {"models": [{"model": "galileo", "gpus": 0.2, "replicas": {"min": 2, "max": 4}}]},
            "the models want 4 GPUs",
        ),
    ],
)
def test_what_could_be_deployed_and_would_not_work(change: dict[str, object], said: str, render: Render) -> None:
    assert said in refused(render, {**GPUS, **change})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"http": {"router_resources": {"router": 0}}}, "http.router_resources have no router"),
        ({"fetch": {"resources": {"ee_fetch": 0}}}, "fetch.resources have no ee_fetch"),
    ],
)
def test_what_keeps_off_gpu_pods_stays(settings: dict[str, object], said: str, render: Render) -> None:
    assert said in refused(render, {**GPUS, "settings": settings})


def test_resources_are_added_to_those_of_the_base(render: Render) -> None:
    render({**GPUS, "settings": {"http": {"router_resources": {}}, "fetch": {"resources": {}}}})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rois": "/exports/rois.parquet"}, "/exports/rois.parquet is a path"),
        ({"model": ["dofa"]}, "export.model: there is no such key; did you mean models?"),
        ({"settings": {"providers": {"gee": {"at_once": 20}}}}, "20 requests at once and the service's 32 are more"),
        ({"models": ["mosaiks", "mosaiks"]}, "named twice"),
        ({"workers": {"num_gpus": 2}}, "num_gpus is 2, and exports compute on pods with one GPU"),
        ({"workers": {"num_gpus": 0}}, "num_gpus is 0, and exports compute on pods with one GPU"),
        ({"workers": {"num_gpus": "half"}}, "export.workers.num_gpus"),
        ({"workers": {"num_cpus": 8}}, "num_cpus is 8, and a GPU pod has 6"),
        ({"models": ["dofa"]}, "the export's dofa-base is not among the models"),
        ({"as_of": "2026-03-06"}, "each start says its own day"),
    ],
)
def test_an_export_that_cannot_work(change: dict[str, object], said: str, render: Render) -> None:
    job = {"rois": "gs://bucket/rois.parquet", "out": "gs://bucket/out", "models": ["galileo"], **change}
    assert said in refused(render, {**GPUS, "export": job})


def test_exports_need_gpus(render: Render) -> None:
    assert "exports compute on GPUs" in refused(render, {**SMALLEST, "export": {"models": ["mosaiks"]}})


@pytest.mark.parametrize(
    ("models", "said"),
    [
        (
            [{"model": "satvision", "cpus": 4, "replicas": {"min": 1, "max": 4}}],
            "4 x satvision (11.0 GB at least) may share a pod, and its memory without /dev/shm is 25.8 GB",
        ),
        (
            [
                {"model": "satvision", "cpus": 4, "replicas": {"min": 1, "max": 2}},
                {"model": "prithvi", "variant": "600_tl", "replicas": {"min": 0, "max": 9}},
            ],
            "and 2 x prithvi",
        ),
    ],
)
def test_models_on_cpus_that_would_share_too_little_memory(models: object, said: str, render: Render) -> None:
    assert said in refused(render, {**SMALLEST, "models": models})


@pytest.mark.parametrize(
    "replicas",
    [
        {"cpus": 8, "replicas": {"min": 1, "max": 4}},  # two on a pod
        {"cpus": 4, "replicas": {"min": 2, "max": 4}},  # each on a pod of its own
        {"cpus": 4, "replicas": 2},
    ],
)
def test_models_on_cpus_that_have_their_memory(replicas: dict[str, object], render: Render) -> None:
    render({**SMALLEST, "models": [{"model": "satvision", **replicas}]})


def test_a_model_beside_the_fetch_actors_has_memory_too(render: Render) -> None:
    large = {"model": "satvision", "gpus": 0, "cpus": 2}
    said = refused(render, {**GPUS, "weights": "image", "models": [{**large, "replicas": {"min": 0, "max": 2}}]})
    assert "2 x satvision" in said
    assert "10.7 GB" in said


def test_half_of_the_quota_is_enough_behind_a_gateway(render: Render) -> None:
    render({**GPUS, "provider": {"name": "gee", "project": "p", "at_once": 20}, "fetch": {"actors": 4}})


def test_a_map_on_a_volume_of_ones_own_is_taken(render: Render) -> None:
    render({**SMALLEST, "models": [{"model": "copernicus"}], "settings": {"providers": {"copernicus": {"path": "/m"}}}})


def test_gpus_need_gpus(render: Render) -> None:
    assert "there are none" in refused(render, {**SMALLEST, "models": [{"model": "mosaiks", "gpus": 1}]})


@pytest.mark.parametrize("text", ["", "- a list", "a: [unclosed"])
def test_a_file_that_holds_no_values(text: str, render: Render) -> None:
    with pytest.raises(InvalidRequest, match=r"values\.yaml"):
        render(text)


def test_a_folder_that_holds_no_manifests(render: Render, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="--manifests"):
        render(SMALLEST, "--manifests", str(tmp_path))
