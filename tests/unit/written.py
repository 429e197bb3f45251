"""A metric that remembers what is written to it, in place of Ray's."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from serve_app.observe.measures import Measure


@dataclass
class Written:
    """What a metric was told."""

    total: float = 0.0
    labels: list[dict[str, str]] = field(default_factory=list)

    observed: list[float] = field(default_factory=list)

    def observe(self, amount: float, labels: dict[str, str]) -> None:
        self.observed.append(amount)
        self.labels.append(labels)

    def set(self, amount: float, labels: dict[str, str]) -> None:
        self.observe(amount, labels)

    def inc(self, amount: float, labels: dict[str, str]) -> None:
        self.total += amount
        self.labels.append(labels)


def written(monkeypatch: pytest.MonkeyPatch, measure: Measure) -> Written:
    """What is written to the metric from now on."""
    into = Written()
    monkeypatch.setitem(vars(measure), "_made", into)
    return into
