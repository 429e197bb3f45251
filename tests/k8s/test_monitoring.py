"""Rules and dashboards: well-formed, about metrics that exist, and each alert with a runbook."""

from __future__ import annotations

import ast
import os
import re
import subprocess
from pathlib import Path

import pytest
import ray
import yaml

from rs_embed_core.errors import ProviderAuth
from serve_app.observe import metrics
from tests.k8s.manifests import K8S, pods, rendered
from tests.k8s.manifests import documents as built
from tests.k8s.monitoring import (
    COMPONENT,
    ROOT,
    RUNBOOKS,
    asked_metrics,
    asked_records,
    dashboards,
    groups,
    names_in,
    not_here_names,
    queries,
    records,
    rules,
)
from tests.k8s.promtool import MISSING, is_left_out, promtool

_OURS = {name: measure for measure in metrics.ALL for name in measure.exported}
_ADDED = ("namespace", "ray_cluster", "NodeAddress")  # by the scrape and by Ray
PLAYED = sorted(Path(__file__).parent.glob("alerts*.yaml"))
_SELECTED = re.compile(r"(ray_rs_embed_[a-z0-9_]+)\{([^}]*)\}")
_BY = re.compile(r"\bby \(([^)]*)\)")


@pytest.fixture
def tool() -> Path:
    """The program promtool; its tests fail without it, unless it is said to be left out."""
    found = promtool()
    if found is None and is_left_out():
        pytest.skip("K8S_WITHOUT_PROMTOOL=1")
    assert found is not None, MISSING
    return found


def test_every_metric_of_ours_that_is_asked_for_is_defined() -> None:
    asked = {name for _, name in asked_metrics() if name.startswith("ray_rs_embed_")}
    assert asked <= set(_OURS), f"nothing writes {sorted(asked - set(_OURS))}"


def test_what_is_recorded_is_asked_for_and_the_reverse() -> None:
    assert asked_records() == set(records())


def test_every_metric_of_ours_is_looked_at() -> None:
    asked = {name for _, name in asked_metrics()}
    unseen = [measure.name for measure in metrics.ALL if not asked & set(measure.exported)]
    assert not unseen


def test_labels_are_those_that_the_metrics_have() -> None:
    expressions = [rule["expr"] for rule in rules()] + list(records().values())
    expressions += [query for board in dashboards().values() for _, query in queries(board)]
    found = 0
    for expression in expressions:
        for name, selection in _SELECTED.findall(expression):
            labels = set(re.findall(r"(\w+)(?==|!)", re.sub(r'"[^"]*"', "", selection)))
            assert labels <= {*_OURS[name].label_names, *_ADDED}, expression
            found += 1
        ours = [name for name in names_in(expression) if name in _OURS]
        for group in _BY.findall(expression):
            if ours and len(ours) == len(names_in(expression)):
                known = {label for name in ours for label in _OURS[name].label_names} | {"le", *_ADDED}
                assert set(group.split(", ")) <= known, expression
    assert found > 20


def test_nothing_asks_for_the_sum_of_a_histogram() -> None:
    """Ray makes them up from the middles of the buckets."""
    pages = [text for path in (ROOT / "docs").rglob("*.md") for text in re.findall(r"`[^`]*`", path.read_text())]
    wrong = [name for _, name in asked_metrics() if name.endswith("_sum")]
    wrong += [name for text in pages for name in names_in(text) if name.endswith("_sum")]
    assert not wrong
    assert "_sum" not in {suffix for measure in metrics.ALL for suffix in measure.suffixes}


def test_two_clusters_are_told_apart_everywhere() -> None:
    for expression in [*(rule["expr"] for rule in rules()), *records().values()]:
        kept = _BY.findall(expression)
        assert all("namespace" in group.split(", ") for group in kept), expression
        assert kept or "ray_node_" in expression or not names_in(expression), expression  # those keep every label
    for board in dashboards().values():
        for title, query in queries(board):
            selectors = re.findall(r"\bray_[a-z0-9_]+(\{[^}]*\})?", _BY.sub("", query))
            chosen = all('namespace=~"$namespace"' in selector for selector in selectors)
            assert chosen or title == "variable namespace", title


def _refusals() -> set[str]:
    """Codes of the errors by which providers refuse an account, as their sources have them."""
    codes = {ProviderAuth.default_code}
    for path in (ROOT / "rs_embed_core" / "providers").rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
                named = [word.value for word in call.keywords if word.arg == "code"]
                given = {"ProviderAuth": named, "_refused": call.args[1:2]}.get(call.func.id, [])
                codes |= {str(part.value) for part in given if isinstance(part, ast.Constant)}
    return codes


def test_every_refusal_of_an_account_raises_the_alert() -> None:
    (rule,) = (rule for rule in rules() if rule["alert"] == "RsEmbedProviderRefusesUs")
    asked = set(re.findall(r'outcome=~"([^"]*)"', rule["expr"]))
    (codes,) = (set(text.split("|")) for text in asked)
    assert {"credentials_expired", "missing_project"} < _refusals() <= codes


def test_what_ray_does_not_expose_here_it_does_elsewhere() -> None:
    """The names are in Ray's own source, so an upgrade that drops one is noticed."""
    package = Path(ray.__file__).parent
    reporter = (package / "dashboard/modules/reporter/reporter_agent.py").read_text()
    controller = (package / "serve/_private/deployment_state.py").read_text()
    asked = {name for _, name in asked_metrics()}
    for name in not_here_names():
        assert name in asked
        plain = name.removeprefix("ray_").removesuffix("_count")
        assert f'"{plain}"' in reporter + controller


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    headings = re.findall(r"^## (\w+)$", RUNBOOKS.read_text(), re.MULTILINE)
    alerts = [rule["alert"] for rule in rules()]
    assert sorted(headings) == sorted(alerts)
    for rule in rules():
        assert rule["annotations"]["runbook"] == f"docs/runbooks.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"]


def test_every_runbook_says_what_it_means_and_what_to_do() -> None:
    sections = re.split(r"^## ", RUNBOOKS.read_text(), flags=re.MULTILINE)[1:]
    assert len(sections) == len(rules())
    for section in sections:
        assert all(f"**{part}.**" in section for part in ("Means", "Look", "Do")), section.splitlines()[0]


def test_the_panels_that_runbooks_name_are_there() -> None:
    titles = {panel["title"] for board in dashboards().values() for panel in board["panels"]}
    named = {name.replace("\n", " ") for name in re.findall(r"(?<!\*)\*([A-Z][^*]+)\*(?!\*)", RUNBOOKS.read_text())}
    assert len(named) > 10
    assert named <= titles, named - titles


def test_panels_do_not_overlap() -> None:
    for board in dashboards().values():
        seen: dict[tuple[int, int], str] = {}
        for panel in board["panels"]:
            at = panel["gridPos"]
            cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            assert not cells & set(seen), panel["title"]
            assert at["x"] + at["w"] <= 24
            seen |= dict.fromkeys(cells, panel["title"])
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


@pytest.fixture(scope="module")
def overlay(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The base with this component, and the probe that is one of its own."""
    folder = tmp_path_factory.mktemp("overlay")
    parts = {"resources": [K8S / "base"], "components": [COMPONENT, COMPONENT / "probe"]}
    relative = {name: [os.path.relpath(path, folder) for path in paths] for name, paths in parts.items()}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump({"namespace": "rs-embed", **relative}))
    return os.path.relpath(folder, K8S)


def test_the_pod_monitors_find_pods_and_ports(overlay: str) -> None:
    docs = built(overlay)
    monitors = [doc for doc in docs if doc["kind"] == "PodMonitor"]
    assert len(monitors) == 2
    for monitor in monitors:
        wanted = monitor["spec"]["selector"]["matchLabels"]
        chosen = [pod for pod in pods(docs) if wanted.items() <= pod.labels.items()]
        assert chosen, monitor["metadata"]["name"]
        for endpoint in monitor["spec"]["podMetricsEndpoints"]:
            for pod in chosen:
                if pod.owner["kind"] == "RayService":
                    ports = [port["name"] for part in pod.containers for port in part.get("ports", [])]
                    assert endpoint["port"] in ports, (monitor["metadata"]["name"], pod.where)


def test_what_is_asked_for_is_kept(overlay: str) -> None:
    monitors = [doc for doc in built(overlay) if doc["kind"] == "PodMonitor"]
    for monitor in monitors:
        (endpoint,) = (point for point in monitor["spec"]["podMetricsEndpoints"] if point["port"] == "metrics")
        (kept,) = (rule["regex"] for rule in endpoint["metricRelabelings"] if rule["action"] == "keep")
        assert [name for _, name in asked_metrics() if not re.fullmatch(kept, name)] == []
        dropped = [rule["regex"] for rule in endpoint["metricRelabelings"] if rule["action"] == "labeldrop"]
        assert not any(re.fullmatch(regex, label) for regex in dropped for label in ("WorkerId", "NodeAddress"))


def test_an_overlay_carries_the_dashboard(overlay: str) -> None:
    text = rendered(overlay)
    assert 'grafana_dashboard: "1"' in text
    assert "rs-embed.json: |" in text


def test_promtool_takes_the_rules(tool: Path, tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": groups()}))
    done = subprocess.run(
        [tool, "check", "rules", "--lint-fatal", tmp_path / "rules.yaml"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules()) + len(records())} rules found" in done.stdout


def test_promtool_refuses_a_query_that_is_none(tool: Path, tmp_path: Path) -> None:
    """So that the test above could fail."""
    rule = {**rules()[0], "expr": "sum(rate(ray_rs_embed_stream_rows_total[5m]) > 1"}
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "planted", "rules": [rule]}]}))
    done = subprocess.run([tool, "check", "rules", tmp_path / "rules.yaml"], check=False, capture_output=True)
    assert done.returncode != 0


@pytest.mark.parametrize("played", PLAYED, ids=lambda path: path.stem)
def test_alerts_fire_when_they_should_and_not_otherwise(played: Path, tool: Path, tmp_path: Path) -> None:
    """Each file plays time series to the rules, good and bad ones."""
    every = [rule for group in groups() for rule in group["rules"]]
    bare = [{name: value for name, value in rule.items() if name != "annotations"} for rule in every]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": bare}]}))
    (tmp_path / played.name).write_text(played.read_text())
    done = subprocess.run([tool, "test", "rules", tmp_path / played.name], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_raised_once_in_its_test() -> None:
    played = [test for path in PLAYED for test in yaml.safe_load(path.read_text())["tests"]]
    raised = {case["alertname"] for test in played for case in test["alert_rule_test"] if case.get("exp_alerts")}
    assert raised == {rule["alert"] for rule in rules()}
