"""What stands in spec.serveConfigV2, and what Serve does not tell about it: keys that it does not know."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import yaml
from pydantic import BaseModel
from ray.serve.schema import ServeDeploySchema

from serve_app.settings import ServiceSettings
from tests.k8s.manifests import Doc, service


def serve_config(docs: list[Doc]) -> Doc:
    """The Serve config of the RayService."""
    return yaml.safe_load(service(docs)["spec"]["serveConfigV2"])


def application(config: Doc) -> Doc:
    (found,) = config["applications"]
    return found


def settings_of(config: Doc) -> ServiceSettings:
    """What ``build`` gets; an unknown key is an error of its own."""
    return ServiceSettings.model_validate(application(config)["args"])


def unknown_keys(config: Doc) -> list[str]:
    """Paths of keys that Serve would pass over without a word."""
    return list(_unknown(config, ServeDeploySchema, ""))


def _unknown(value: Any, annotation: Any, at: str) -> Iterator[str]:
    if isinstance(value, list):
        for i, item in enumerate(value):
            yield from _unknown(item, annotation, f"{at}[{i}]")
    elif isinstance(value, dict) and (models := list(_models(annotation))):
        fields = {name: field for model in models for name, field in model.model_fields.items()}
        for name, item in value.items():
            if name not in fields:
                yield f"{at}.{name}".lstrip(".")
            else:
                yield from _unknown(item, fields[name].annotation, f"{at}.{name}")


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models among what an annotation allows: of ``list[X] | None`` it is X."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)
