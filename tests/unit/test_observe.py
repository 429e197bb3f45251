"""What stages count, and the table of metrics."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from ray.util.metrics import Metric

from rs_embed_core import PointBuffer, TemporalSpec, providers
from rs_embed_core.chip import Chip, FetchPlan
from rs_embed_core.errors import (
    DeadlineExceeded,
    ForwardError,
    NoImagery,
    ProviderError,
    RSEmbedError,
    UnknownModel,
)
from rs_embed_core.fetch import fetch
from rs_embed_core.geo import Grid, bounds_of
from rs_embed_core.plan import plan
from rs_embed_core.prepare import prepare
from rs_embed_core.providers import get_provider
from rs_embed_core.providers.cache import marked
from rs_embed_core.providers.calls import Asking, Tally, Verdict, in_parallel
from rs_embed_core.providers.gate import Gate, Quota
from rs_embed_core.specs.request import Ask
from serve_app.observe import metrics
from serve_app.observe.fetching import Bills, count_block, km2
from serve_app.observe.jobs import Jobs, Watch
from serve_app.observe.measures import Count, Level, Spread
from serve_app.observe.outcomes import CALLERS, outcome_of, outcomes_of
from serve_app.reading import read
from serve_app.wire.blocks import BlockItem
from serve_app.wire.rows import Row
from tests.unit.written import written

ASK = Ask(model="mosaiks", temporal=TemporalSpec.range("2022-06-01", "2022-09-01"))
PLAN = plan(ASK.at(PointBuffer(11.0, 48.0, 80.0)))


def item(index: int) -> BlockItem:
    """An ROI that was read."""
    info = prepare(fetch(PLAN, get_provider("synthetic")), PLAN).info
    return BlockItem(index, info, fetch_ms=12.0)


@dataclass
class Empty:
    """A provider whose chips hold nothing and were found here and there."""

    places: list[str]
    name: str = "gee"

    def fetch(self, wanted: FetchPlan) -> Chip:
        frames, bands, grid = wanted.frames, wanted.bands, wanted.grid
        data = np.full((len(frames), len(bands), grid.height, grid.width), np.nan, np.float32)
        chip = Chip(data, grid, bands, frames, self.name, wanted.collection)
        place = self.places.pop(0)
        return chip if place == "none" else marked(chip, place)


def test_rois_are_summed_by_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    chips, prepared = written(monkeypatch, metrics.FETCH_CHIPS), written(monkeypatch, metrics.PREPARE_SECONDS)
    items = [item(0), item(1), BlockItem(3, error=NoImagery("none."))]
    assert outcomes_of(one.error for one in items) == {("ok", "nobody"): 2, ("no_imagery", "caller"): 1}
    count_block(items, provider="gee", model="mosaiks-gaussian", samples=2)
    assert [(labels["outcome"], labels["fault"]) for labels in chips.labels] == [
        ("ok", "nobody"),
        ("no_imagery", "caller"),
    ]
    assert chips.total == 3
    assert prepared.total == sum(one.info.prepare_ms for one in items if one.info) / 1e3 > 0


def test_chips_count_by_place_and_by_size_where_they_were_read(monkeypatch: pytest.MonkeyPatch) -> None:
    found = written(monkeypatch, metrics.CACHE_CHIPS)
    pixels, ground = written(monkeypatch, metrics.FETCH_PIXELS), written(monkeypatch, metrics.FETCH_KM2)
    provider, bills = Empty(["miss", "memory", "shared", "none", "miss"]), Bills()
    for _ in range(5):
        done = read(0, PLAN, provider=provider, bills=bills)
        assert done.item.error is not None  # nothing could be made of it, and it was paid for all the same
    bills.write()
    bills.write()
    assert sorted(labels["found"] for labels in found.labels) == ["memory", "miss", "shared"]
    assert found.total == 4
    assert pixels.total == 3 * PLAN.fetch.grid.height * PLAN.fetch.grid.width
    assert ground.total == pytest.approx(3 * 0.16**2 * math.cos(math.radians(48)) ** 2, rel=0.3)  # whole pixels: more


def test_each_collection_of_an_roi_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    found, bills = written(monkeypatch, metrics.CACHE_CHIPS), Bills()
    both = plan(replace(ASK, model="croma", modality="joint").at(PointBuffer(11.0, 48.0, 80.0)))
    read(0, both, provider=Empty(["miss", "memory"]), bills=bills)
    bills.write()
    assert sorted(labels["found"] for labels in found.labels) == ["memory", "miss"]


def test_ground_is_smaller_than_mercator_says() -> None:
    equator = Grid.on_lattice(bounds_of(PointBuffer(0.0, 0.0, 500.0)), 10)
    north = Grid.on_lattice(bounds_of(PointBuffer(0.0, 60.0, 500.0)), 10)
    assert km2(equator) == pytest.approx(1.0, rel=0.03)
    assert km2(north) == pytest.approx(0.25, rel=0.03)
    assert km2(equator, (0.0, 0.5, 0.25, 0.75)) == pytest.approx(km2(equator) / 4)


def test_ground_of_other_projections() -> None:
    utm = Grid("EPSG:32632", (10.0, 0.0, 500_000.0, 0.0, -10.0, 5_300_000.0), 100, 100)
    assert km2(utm) == pytest.approx(1.0)
    degrees = Grid("EPSG:4326", (0.01, 0.0, 10.0, 0.0, -0.01, 60.5), 100, 100)
    assert km2(degrees) == pytest.approx(111.3 * 111.3 * 0.5, rel=0.01)
    assert km2(Grid("", (1.0, 0.0, 0.0, 0.0, -1.0, 0.0), 100, 100)) == 0.0


def test_a_block_is_counted_without_a_cluster() -> None:
    items = [item(0), BlockItem(1, error=NoImagery("none."))]
    count_block(items, provider="gee", model="mosaiks-gaussian", samples=1)


def test_a_read_is_paid_for_whether_or_not_a_chip_comes_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    sent, gate, bills = written(monkeypatch, metrics.FETCH_REQUESTS), Gate(Quota(), name="x"), Bills()

    def asking() -> Asking:
        return Asking(lambda _: Verdict(ProviderError("gone."), tries=1), gate, Tally())

    def fails(_: float) -> None:
        raise OSError

    def read() -> None:
        asking().ask(fails)

    with ThreadPoolExecutor(2) as threads, bills.of("gee"), pytest.raises(ProviderError):
        in_parallel([read, read, lambda: asking().ask(lambda _: None)], threads)
    bills.write()
    assert sent.total == 3
    with pytest.raises(ProviderError):
        read()  # outside of the block
    bills.write()
    assert sent.total == 3


async def _rows(*lists: list[Row]) -> AsyncIterator[list[Row]]:
    for rows in lists:
        yield rows


async def test_rows_pass_through_a_watch_unchanged(caplog: pytest.LogCaptureFixture) -> None:
    lists = [[Row(0), Row(1)], [Row(2, error=NoImagery("none."))]]
    with caplog.at_level("INFO", "serve_app"):
        seen = [rows async for rows in Jobs().watched(_rows(*lists), model="m", rois=3)]
    assert seen == lists
    (line,) = caplog.records
    assert (line.message, line.end, line.rows, line.problems) == ("request ended", "problems", 3, 1)
    assert (line.levelname, line.codes) == ("INFO", {"no_imagery": 1})


async def test_a_request_that_the_service_failed_says_why(caplog: pytest.LogCaptureFixture) -> None:
    lists = [[Row(0, error=NoImagery("none.")), Row(1, error=ForwardError("the network failed."))], [Row(2)]]
    with caplog.at_level("INFO", "serve_app"):
        [rows async for rows in Jobs().watched(_rows(*lists), model="m", rois=3)]
    (line,) = caplog.records
    assert (line.levelname, line.error, line.end) == ("WARNING", "the network failed.", "problems")
    assert line.codes == {"no_imagery": 1, "forward_error": 1}


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (NoImagery("none."), "caller"),
        (ProviderError("no such band.", code="unknown_band"), "caller"),
        (ProviderError("gone."), "service"),
        (DeadlineExceeded("late."), "service"),
        (DeadlineExceeded("late.", context={"timeout_s": 1.0}), "caller"),
    ],
)
def test_at_whose_door_it_lies(error: RSEmbedError, fault: str) -> None:
    assert outcome_of(error) == (error.code, fault)


def test_codes_that_are_the_caller_s_are_codes_that_providers_give() -> None:
    sources = [path.read_text() for path in Path(providers.__file__).parent.rglob("*.py")]
    for code in CALLERS:
        assert any(f'"{code}"' in source for source in sources)


BAD = NoImagery("none.")


@pytest.mark.parametrize(
    ("rows", "rois", "end"),
    [
        ([Row(0)], 1, "complete"),
        ([Row(0)], 2, "left"),
        ([], 1, "left"),
        ([Row(0), Row(1, error=BAD)], 2, "problems"),
        ([Row(0, error=BAD), Row(1, error=BAD)], 2, "failed"),
    ],
)
def test_how_a_request_ended(rows: list[Row], rois: int, end: str, caplog: pytest.LogCaptureFixture) -> None:
    watch = Watch("m", rois)
    if rows:
        watch.take(rows)
    with caplog.at_level("INFO", "serve_app"):
        watch.end()
    assert caplog.records[0].end == end


async def test_a_failure_goes_on_to_the_caller(caplog: pytest.LogCaptureFixture) -> None:
    async def failing() -> AsyncIterator[list[Row]]:
        yield [Row(0)]
        raise UnknownModel("gone.")

    with caplog.at_level("INFO", "serve_app"), pytest.raises(UnknownModel):
        [rows async for rows in Jobs().watched(failing(), model="m", rois=2)]
    assert caplog.records[0].end == "failed"


def test_the_table_is_well_formed() -> None:
    names = [measure.name for measure in metrics.ALL]
    assert len(set(names)) == len(names) > 20
    stages = {measure.stage for measure in metrics.ALL}
    assert stages == {
        "request", "fetch", "cache", "limiter", "prepare", "batch", "forward", "assemble", "stream",
    }  # fmt: skip
    for measure in metrics.ALL:
        assert re.fullmatch(r"rs_embed_[a-z]+_[a-z0-9_]+", measure.name)
        assert measure.doc.endswith(".")
        assert measure.name not in measure.doc


@pytest.mark.parametrize("measure", metrics.ALL, ids=lambda measure: measure.name)
def test_every_metric_can_be_made(measure: Count | Level | Spread) -> None:
    """Ray refuses bad names, labels and boundaries when a metric is made."""
    labels = ["x"] * len(measure.labels)
    match measure:
        case Count():
            measure.add(1, *labels)
        case Level():
            measure.set(1, *labels)
        case Spread():
            measure.observe(1, *labels)
    made = vars(measure)["_made"]
    assert isinstance(made, Metric)
    assert made.info["name"] == measure.name
    assert made.info["tag_keys"] == ("application", *measure.labels)


def test_nothing_is_not_counted() -> None:
    Count("test", "nothing", "Never made.").add(0)
    with pytest.raises(ValueError, match="zip"):
        Count("test", "labels", "Has one.", ("one",)).add(1)
