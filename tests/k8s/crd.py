"""KubeRay's CRDs as schemas that reject what the API server would silently drop."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from tests.k8s.manifests import Doc

_CRDS = Path(__file__).parent / "crds"
_KINDS = {"RayService": "ray.io_rayservices.yaml", "RayJob": "ray.io_rayjobs.yaml"}
KINDS = tuple(_KINDS)


def mistakes(doc: Doc) -> list[str]:
    """What is wrong with an object of KubeRay's, with the path to it."""
    schema, validator = _schema(doc["kind"])
    found = validator.iter_errors(_as_stored(copy.deepcopy(doc), schema))
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in found]


@functools.cache
def _schema(kind: str) -> tuple[Doc, jsonschema.Validator]:
    """The v1 schema, with and without what is made strict of it."""
    crd = yaml.load((_CRDS / _KINDS[kind]).read_bytes(), Loader=yaml.CSafeLoader)
    (version,) = (version for version in crd["spec"]["versions"] if version["name"] == "v1")
    schema = version["schema"]["openAPIV3Schema"]
    schema["properties"] |= {
        "apiVersion": {"const": "ray.io/v1"},
        "kind": {"const": kind},
        "metadata": {"type": "object"},
    }
    _make_strict(schema)
    return schema, jsonschema.Draft202012Validator(schema)


def _make_strict(node: Any) -> None:
    """Forbid unknown fields, where a field of the API server's would be dropped without a word."""
    if isinstance(node, list):
        for item in node:
            _make_strict(item)
        return
    if not isinstance(node, dict):
        return
    if node.get("x-kubernetes-int-or-string"):
        node.pop("type", None)
    open_ended = "additionalProperties" in node or node.get("x-kubernetes-preserve-unknown-fields")
    if isinstance(node.get("properties"), dict) and not open_ended:
        node["additionalProperties"] = False
    for value in node.values():
        _make_strict(value)


def _as_stored(value: Any, schema: Doc) -> Any:
    """The object as the API server stores it: nulls dropped, defaults filled in."""
    if isinstance(value, list):
        return [_as_stored(item, schema.get("items", {})) for item in value]
    if not isinstance(value, dict):
        return value
    known = schema.get("properties", {})
    nullable = {name for name, child in known.items() if child.get("nullable")}
    unknown = value.keys() - known.keys() if known else set()  # dropped too, and to be reported
    kept = {name: item for name, item in value.items() if item is not None or name in nullable | unknown}
    defaults = {name: copy.deepcopy(child["default"]) for name, child in known.items() if "default" in child}
    other = schema.get("additionalProperties")
    rest = other if isinstance(other, dict) else {}
    return {name: _as_stored(item, known.get(name, rest)) for name, item in (defaults | kept).items()}
