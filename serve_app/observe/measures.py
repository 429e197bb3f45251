"""The three kinds of metric. They are ``ray.util.metrics``: Ray's agents export them to Prometheus as ``ray_<name>``.

A metric is made in the process that first writes it, so importing the table of them loads no Ray. One write costs
2 microseconds (docs/guide/operations.md): stages write once per block or forward, not once per ROI.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from ray.util import metrics

SECONDS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
"""Boundaries of times: half a decade apart, from a cached chip to a long job."""


@dataclass(frozen=True)
class Measure:
    """A metric.

    Attributes:
        stage: of the way of the data that it tells about.
        what: the rest of the name; its last word is the unit.
        doc: one sentence.
        labels: names of its labels, in the order in which values are given.
    """

    kind: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]

    stage: str
    what: str
    doc: str
    labels: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """``rs_embed_<stage>_<what>``."""
        return f"rs_embed_{self.stage}_{self.what}"

    @property
    def exported(self) -> tuple[str, ...]:
        """The names that Prometheus sees."""
        return tuple(f"ray_{self.name}{suffix}" for suffix in self.suffixes)

    def _tags(self, labels: Sequence[str]) -> dict[str, str]:
        return dict(zip(self.labels, labels, strict=True))


class Count(Measure):
    """Only grows."""

    kind = "counter"
    suffixes = ("_total",)

    @cached_property
    def _made(self) -> metrics.Counter:
        from ray.util.metrics import Counter

        return Counter(self.name, self.doc, self.labels)

    def add(self, amount: float, *labels: str) -> None:
        """Count so many more; nothing is written for 0."""
        if amount > 0:
            self._made.inc(amount, self._tags(labels))


class Level(Measure):
    """Goes up and down; each process tells its own."""

    kind = "gauge"
    suffixes = ("",)

    @cached_property
    def _made(self) -> metrics.Gauge:
        from ray.util.metrics import Gauge

        return Gauge(self.name, self.doc, self.labels)

    def set(self, amount: float, *labels: str) -> None:
        """How it stands now."""
        self._made.set(amount, self._tags(labels))


@dataclass(frozen=True)
class Spread(Measure):
    """A histogram."""

    kind = "histogram"
    suffixes = ("_bucket", "_sum", "_count")

    bounds: tuple[float, ...] = SECONDS

    @cached_property
    def _made(self) -> metrics.Histogram:
        from ray.util.metrics import Histogram

        return Histogram(self.name, self.doc, list(self.bounds), self.labels)

    def observe(self, amount: float, *labels: str) -> None:
        """One more of them."""
        self._made.observe(amount, self._tags(labels))
