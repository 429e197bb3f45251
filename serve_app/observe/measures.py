"""The three kinds of metric. They are ``ray.util.metrics``: Ray's agents export them to Prometheus as ``ray_<name>``.

A metric is made in the process that first writes it, so importing the table of them loads no Ray. One write costs
2 microseconds (docs/guide/operations.md): stages write once per block or forward, not once per ROI.

Ray's agents lose two things. The sum of a histogram is made up (every value counts as the middle of its bucket): what
is added up or averaged is a ``Count``. And a gauge that nobody has set for 20 s is gone: levels are told again and
again, also while they stand still.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Final

if TYPE_CHECKING:
    from ray.util import metrics

SECONDS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3600.0)
"""Boundaries of times: half a decade apart, from a cached chip to a long job."""

_EVERYWHERE: Final = ("application",)  # two applications of one cluster are told apart


TOLD_EVERY_S: Final = 5.0  # a level that Ray has not heard for twice its interval of 10 s is gone


class _Process:
    """What every metric of this process is labelled with."""

    application = ""


def belong_to(application: str) -> None:
    """Say which Serve application (or other program) the metrics of this process are of."""
    _Process.application = application


@dataclass(frozen=True)
class Measure:
    """A metric.

    Attributes:
        stage: of the way of the data that it tells about.
        what: the rest of the name; its last word is the unit.
        doc: one sentence.
        labels: names of its labels, in the order in which values are given; ``application`` is one of every metric.
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

    @property
    def label_names(self) -> tuple[str, ...]:
        """All its labels."""
        return (*_EVERYWHERE, *self.labels)

    def _tags(self, labels: Sequence[str]) -> dict[str, str]:
        return {"application": _Process.application, **dict(zip(self.labels, labels, strict=True))}


class Count(Measure):
    """Only grows."""

    kind = "counter"
    suffixes = ("_total",)

    @cached_property
    def _made(self) -> metrics.Counter:
        from ray.util.metrics import Counter

        return Counter(self.name, self.doc, self.label_names)

    def add(self, amount: float, *labels: str) -> None:
        """Count so many more; nothing is written for 0."""
        if amount > 0:
            self._made.inc(amount, self._tags(labels))


class Level(Measure):
    """Goes up and down; each process tells its own, and tells it again every ``TOLD_EVERY_S``."""

    kind = "gauge"
    suffixes = ("",)

    @cached_property
    def _made(self) -> metrics.Gauge:
        from ray.util.metrics import Gauge

        return Gauge(self.name, self.doc, self.label_names)

    def set(self, amount: float, *labels: str) -> None:
        """How it stands now."""
        self._made.set(amount, self._tags(labels))


@dataclass(frozen=True)
class Spread(Measure):
    """A histogram."""

    kind = "histogram"
    suffixes = ("_bucket", "_count")  # and ``_sum``, which is not to be used

    bounds: tuple[float, ...] = SECONDS

    @cached_property
    def _made(self) -> metrics.Histogram:
        from ray.util.metrics import Histogram

        return Histogram(self.name, self.doc, list(self.bounds), self.label_names)

    def observe(self, amount: float, *labels: str) -> None:
        """One more of them."""
        self._made.observe(amount, self._tags(labels))
