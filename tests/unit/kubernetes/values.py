"""Values that render writes overlays from, and what it wrote."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from serve_app.settings import ServiceSettings

SMALLEST = {"image": {"name": "images.example/rs-embed-serve", "tag": "0.1.0"}, "models": [{"model": "mosaiks"}]}
GPUS = {
    **SMALLEST,
    "namespace": "earth",
    "gpu": {"type": "l4", "count": 3},
    "models": [
        {"model": "dofa", "variant": "large", "replicas": {"min": 1, "max": 2}, "precision": "bfloat16"},
        {"model": "galileo", "gpus": 0.5, "replicas": {"min": 0, "max": 2}},
        {"model": "gse"},
    ],
    "provider": {"name": "gee", "project": "my-project", "service_account": "rs-embed@example.iam"},
    "weights": "pvc",
    "redis": True,
    "monitoring": True,
    "gateway": "my-class",
}
CPUS = {
    **SMALLEST,
    "models": [{"model": "galileo", "replicas": {"min": 0, "max": 8}, "cpus": 4}, {"model": "mosaiks"}],
    "provider": {"name": "gee", "project": "my-project", "credentials": "key"},
    "weights": "pvc",
}
EXAMPLES = {"smallest": SMALLEST, "gpus": GPUS, "cpus": CPUS}

type Render = Callable[..., list[str]]


def written(manifests: Path, name: str) -> Any:
    return yaml.safe_load((manifests / "overlays" / "mine" / name).read_text())


def written_settings(manifests: Path) -> ServiceSettings:
    (application,) = written(manifests, "serve.yaml")["applications"]
    return ServiceSettings.model_validate(application["args"])
