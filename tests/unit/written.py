"""A metric that remembers what is written to it, in place of Ray's."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from serve_app.observe.measures import Count


@dataclass
class Written:
    """What a counter was told."""

    total: float = 0.0
    labels: list[dict[str, str]] = field(default_factory=list)

    def inc(self, amount: float, labels: dict[str, str]) -> None:
        self.total += amount
        self.labels.append(labels)


def written(monkeypatch: pytest.MonkeyPatch, measure: Count) -> Written:
    """What is written to the counter from now on."""
    into = Written()
    monkeypatch.setitem(vars(measure), "_made", into)
    return into
