"""What stands in spec.serveConfigV2, and what Serve does not tell about it: keys that it does not know."""

from __future__ import annotations

import yaml
from ray.serve.schema import ServeDeploySchema

from serve_app.settings import ServiceSettings
from tests.k8s.manifests import Doc, service
from tests.k8s.unknown import unknown


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
    return list(unknown(config, ServeDeploySchema))
