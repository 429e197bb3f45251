"""Metrics of the fetch plane, through Ray's own (its agents export them to Prometheus as ``ray_<name>``)."""

from __future__ import annotations

from collections import Counter as Count
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ray.util.metrics import Counter, Gauge, Histogram

from rs_embed_core.providers.calls import COUNTED
from serve_app.wire.blocks import BlockItem

_SECONDS = [0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300]


@dataclass(frozen=True)
class Reads:
    """What some ROIs cost: chips by (provider, outcome, where they were), and what was counted by (provider, name)."""

    chips: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    counts: Mapping[tuple[str, str], float] = field(default_factory=dict)

    @classmethod
    def of(cls, items: Iterable[BlockItem]) -> Reads:
        """The sum over ROIs; one that failed is counted under its error's code."""
        chips: Count[tuple[str, str, str]] = Count()
        counts: dict[tuple[str, str], float] = {}
        for item in items:
            if item.info is None:
                chips["", "ok" if item.error is None else item.error.code, ""] += 1
                continue
            facts = dict(item.info.facts)
            chips[item.info.provider, "ok", str(facts.get("cache", "none"))] += 1
            for name in COUNTED:
                key = (item.info.provider, name)
                counts[key] = counts.get(key, 0.0) + float(facts.get(name, 0))
        return cls(chips, counts)


class FetchMetrics:
    """The metrics of one fetch actor; written once per block, not once per ROI."""

    def __init__(self) -> None:
        self._chips = Counter(
            "rs_embed_fetch_chips",
            description="Chips by outcome (ok or an error's code) and where they were (miss, memory, disk, shared).",
            tag_keys=("provider", "outcome", "cache"),
        )
        self._counts = {
            name: Counter(
                f"rs_embed_fetch_{name}", description=f"Sum of {name} of all chips read.", tag_keys=("provider",)
            )
            for name in COUNTED
        }
        self._seconds = Histogram(
            "rs_embed_fetch_seconds",
            description="Seconds to a chip, from cache or provider.",
            boundaries=_SECONDS,
            tag_keys=("provider",),
        )
        self._gates = Gauge(
            "rs_embed_fetch_gate",
            description="Requests of this actor under way and waiting, and its part of the quota.",
            tag_keys=("service", "state"),
        )

    def block(self, items: Iterable[BlockItem]) -> None:
        """Count the ROIs of a block."""
        items = list(items)
        reads = Reads.of(items)
        for (provider, outcome, cache), number in reads.chips.items():
            self._chips.inc(number, {"provider": provider, "outcome": outcome, "cache": cache})
        for (provider, name), amount in reads.counts.items():
            if amount:
                self._counts[name].inc(amount, {"provider": provider})
        for item in items:
            if item.info is not None:
                self._seconds.observe(item.fetch_ms / 1e3, {"provider": item.info.provider})

    def gate(self, service: str, *, inside: int, waiting: int, part: int) -> None:
        """Note how it stands at a gate."""
        for state, number in (("inside", inside), ("waiting", waiting), ("part", part)):
            self._gates.set(number, {"service": service, "state": state})
