"""The monitoring component: its rules and dashboards, and the metrics that they ask for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from serve_app.observe import metrics

ROOT = Path(__file__).parents[2]
COMPONENT = ROOT / "k8s" / "components" / "monitoring"
RUNBOOKS = ROOT / "docs" / "runbooks.md"
_RULES = ("objective.yaml", "rules.yaml", "imagery.yaml", "probe/probe.yaml")
_RECORDED = re.compile(r"\b[a-z_]+:\w+:\w+")
_NAME = re.compile(r"\bray_[a-z0-9_]+\b")
_LABEL = re.compile(r"\{[^}]*\}|\b(?:by|without) \([^)]*\)|\"[^\"]*\"")

# They count faults, so a scrape of a healthy service may lack them; that they can be made, a unit test says.
WITHOUT_A_FAULT_NEVER = (
    metrics.REQUEST_EXCUSED,
    metrics.FETCH_RETRIES,
    metrics.LIMITER_COMPLAINTS,
    metrics.LIMITER_LOST_RENEWALS,
    metrics.CACHE_FAILURES,
    metrics.FORWARD_HALVINGS,
    metrics.FORWARD_FAILURES,
    metrics.STREAM_RESENT_ROIS,
)

# Of Ray, and not exposed where the tests run; each with the reason.
_NOT_HERE: Mapping[str, str] = {
    "ray_node_gpus_utilization": "needs a GPU",
    "ray_node_gram_used": "needs a GPU",
    "ray_node_gram_available": "needs a GPU",
    "ray_serve_replica_shutdown_duration_ms_count": "counts replicas that have gone",
}


def not_here(name: str) -> bool:
    """Whether a metric of Ray's cannot be seen where the tests run."""
    return name in _NOT_HERE


def not_here_names() -> tuple[str, ...]:
    """All of those."""
    return tuple(_NOT_HERE)


def groups() -> list[dict[str, Any]]:
    """The groups of rules, as written; what is recorded comes before those that ask for it."""
    docs = [doc for name in _RULES for doc in yaml.safe_load_all((COMPONENT / name).read_text())]
    return [group for doc in docs if doc["kind"] == "PrometheusRule" for group in doc["spec"]["groups"]]


def rules() -> list[dict[str, Any]]:
    """The alerts, as written."""
    return [rule for group in groups() for rule in group["rules"] if "alert" in rule]


def records() -> dict[str, str]:
    """The recorded names with their expressions."""
    return {rule["record"]: rule["expr"] for group in groups() for rule in group["rules"] if "record" in rule}


def dashboards() -> dict[str, dict[str, Any]]:
    """The dashboards by file name."""
    return {path.name: json.loads(path.read_text()) for path in sorted(COMPONENT.glob("dashboards/*.json"))}


def queries(dashboard: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield title and query of everything that a dashboard asks Prometheus for."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield f"variable {variable['name']}", variable["query"]["query"]


def asked_metrics() -> Iterator[tuple[str, str]]:
    """Yield where a metric is asked for, and its name."""
    for rule in rules():
        yield from ((rule["alert"], name) for name in names_in(rule["expr"]))
    for recorded, expression in records().items():
        yield from ((recorded, name) for name in names_in(expression))
    for file, dashboard in dashboards().items():
        for title, query in queries(dashboard):
            yield from ((f"{file}: {title}", name) for name in names_in(query))


def asked_records() -> set[str]:
    """The recorded names that alerts and dashboards ask for."""
    asked = [rule["expr"] for rule in rules()]
    asked += [query for dashboard in dashboards().values() for _, query in queries(dashboard)]
    return {name for expression in asked for name in _RECORDED.findall(expression)}


def names_in(expression: str) -> list[str]:
    """The metrics in a PromQL expression."""
    return _NAME.findall(_LABEL.sub("", expression))
