from __future__ import annotations

from rs_embed_core import PointBuffer, TemporalSpec
from rs_embed_core.errors import NoImagery
from rs_embed_core.fetch import fetch
from rs_embed_core.plan import plan
from rs_embed_core.prepare import prepare
from rs_embed_core.providers import get_provider
from rs_embed_core.specs.request import Ask
from serve_app.observe import FetchMetrics, Reads
from serve_app.wire.blocks import BlockItem


def item(index: int, *facts: tuple[str, str | int]) -> BlockItem:
    """An ROI that was read, with these facts of its chip."""
    ask = Ask(model="mosaiks", temporal=TemporalSpec.range("2022-06-01", "2022-09-01"))
    resolved = plan(ask.at(PointBuffer(11.0, 48.0, 80.0)))
    info = prepare(fetch(resolved, get_provider("synthetic")), resolved).info
    return BlockItem(index, type(info)(**{**vars(info), "provider": "gee", "facts": facts}), fetch_ms=12.0)


def test_reads_are_summed_by_provider_outcome_and_cache() -> None:
    paid, free = (("requests", 2), ("retries", 1), ("cache", "miss")), (("requests", 0), ("cache", "memory"))
    failed = BlockItem(3, error=NoImagery("none."))
    reads = Reads.of([item(0, *paid), item(1, *paid), item(2, *free), failed])
    assert reads.chips == {("gee", "ok", "miss"): 2, ("gee", "ok", "memory"): 1, ("", "no_imagery", ""): 1}
    assert reads.counts[("gee", "requests")] == 4
    assert reads.counts[("gee", "retries")] == 2


def test_metrics_are_written_without_a_cluster() -> None:
    metrics = FetchMetrics()
    metrics.block([item(0, ("requests", 2)), BlockItem(1, error=NoImagery("none."))])
    metrics.gate("gee", inside=1, waiting=0, part=2)
