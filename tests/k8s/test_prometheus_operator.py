"""PodMonitor, PrometheusRule and Probe have the fields that the Prometheus operator reads, and of its types."""

from __future__ import annotations

from typing import Any

import pytest
from cloudcoil.models.prometheus_operator import v1
from pydantic import BaseModel, ValidationError

from tests.k8s.manifests import OVERLAYS, Doc, called, documents, of_kind
from tests.k8s.unknown import unknown

KINDS: dict[str, type[BaseModel]] = {
    "PodMonitor": v1.PodMonitor,
    "PrometheusRule": v1.PrometheusRule,
    "Probe": v1.Probe,
}


def mistakes(doc: Doc) -> list[str]:
    """What is wrong with an object of the Prometheus operator's: unknown keys first, since the types ignore them."""
    model = KINDS[doc["kind"]]
    found = list(unknown(doc, model))
    try:
        model.model_validate(doc)
    except ValidationError as error:
        found += [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
    return found


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_objects_have_known_fields_of_the_right_types(overlay: str) -> None:
    found = {called(doc): mistakes(doc) for doc in of_kind(documents(f"overlays/{overlay}"), *KINDS)}
    assert not {name: wrong for name, wrong in found.items() if wrong}


def test_the_probe_has_too() -> None:
    docs = documents("components/monitoring/probe")
    assert {doc["kind"] for doc in docs} == {"Probe", "PrometheusRule"}
    assert [mistakes(doc) for doc in docs] == [[], []]
    docs[0]["spec"]["targets"]["staticConfig"]["urls"] = []
    assert mistakes(docs[0])


def test_production_has_both_of_the_others() -> None:
    kinds = {doc["kind"] for doc in of_kind(documents("overlays/production"), *KINDS)}
    assert kinds == {"PodMonitor", "PrometheusRule"}


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("PodMonitor", ("spec", "podMetricsEndpoint"), []),
        ("PodMonitor", ("spec", "podMetricsEndpoints", 0, "ports"), "metrics"),
        ("PodMonitor", ("spec", "podMetricsEndpoints", 0, "relabelings", 0, "sourceLabel"), "a"),
        ("PodMonitor", ("spec", "podMetricsEndpoints", 0, "interval"), 15),
        ("PodMonitor", ("spec", "selector"), "workers"),
        ("PrometheusRule", ("spec", "groups", 0, "rules", 0, "annotation"), {}),
        ("PrometheusRule", ("spec", "groups", 0, "rules", 0, "labels", "severity"), ["critical"]),
        ("PrometheusRule", ("spec", "groups", 0, "rules", 0, "expr"), None),
    ],
)
def test_a_mistake_is_found(kind: str, path: tuple[Any, ...], value: Any) -> None:
    doc = of_kind(documents("overlays/production"), kind)[0]
    *above, last = path
    at: Any = doc
    for step in above:
        at = at[step]
    at[last] = value
    assert mistakes(doc)
