"""Every overlay keeps every rule, and each rule finds the violations that are planted for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from tests.k8s import (
    cluster_rules,
    house_rules,
    network_plants,
    network_rules,
    operator_rules,
    service_rules,
    test_house_rules,
    test_operator_rules,
)
from tests.k8s.house_rules import Rule
from tests.k8s.manifests import OVERLAYS, Doc, documents


class Planted(NamedTuple):
    """Some rules, and violations of each by its name; ``overlay`` has all that is broken there."""

    rules: tuple[Rule, ...]
    plants: dict[str, list[Callable[[list[Doc]], object]]]
    overlay: str


ALL = (
    Planted(
        (*house_rules.RULES, *service_rules.RULES, *cluster_rules.RULES), test_house_rules.PLANTS, "overlays/production"
    ),
    Planted(network_rules.RULES, network_plants.PLANTS, "overlays/incremental"),
    Planted(operator_rules.RULES, test_operator_rules.PLANTS, "overlays/production"),
)
_RULES = [rule for planted in ALL for rule in planted.rules]


@pytest.mark.parametrize("folder", ["base", *(f"overlays/{name}" for name in OVERLAYS)])
@pytest.mark.parametrize("rule", _RULES, ids=lambda rule: rule.__name__)
def test_the_rule_is_kept(rule: Rule, folder: str) -> None:
    assert list(rule(documents(folder))) == []


@pytest.mark.parametrize("planted", ALL)
def test_there_is_a_plant_for_each_rule(planted: Planted) -> None:
    assert planted.plants.keys() == {rule.__name__ for rule in planted.rules}


@pytest.mark.parametrize(
    ("rule", "plant", "overlay"),
    [
        pytest.param(rule, plant, planted.overlay, id=rule.__name__)
        for planted in ALL
        for rule in planted.rules
        for plant in planted.plants[rule.__name__]
    ],
)
def test_a_planted_violation_is_found(rule: Rule, plant: Callable[[list[Doc]], object], overlay: str) -> None:
    docs = documents(overlay)
    plant(docs)
    assert list(rule(docs))
