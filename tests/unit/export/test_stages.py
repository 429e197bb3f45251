"""The stages of an export in this process, without Ray: one read for all models, and one outcome for each ROI."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from rs_embed_core import TemporalSpec, get_embeddings_batch
from rs_embed_core.chip import Chip, FetchPlan
from rs_embed_core.errors import (
    CheckpointError,
    InvalidRequest,
    NoImagery,
    ProviderError,
    RoiTooLarge,
    Unavailable,
    UnknownModel,
    UnknownProvider,
)
from rs_embed_core.plan import plan
from rs_embed_core.providers.base import Provider
from rs_embed_core.providers.synthetic import SyntheticProvider
from rs_embed_core.specs.request import Ask
from rs_embed_core.specs.spatial import BBox, PointBuffer, Spatial
from serve_app.export import EmbedRois
from serve_app.export.chunks import Chunk
from serve_app.export.cluster import Patience, check_fits, shortages
from serve_app.export.job import ExportJob
from serve_app.export.packing import packed, unpacked
from serve_app.export.reading import OneReading, Reading
from serve_app.export.stages import EncodeRois, Outcomes, ReadRois, alone_where_large
from serve_app.observe import metrics
from serve_app.settings import ServiceSettings
from serve_app.wire.rows import Row
from tests.unit.written import written

SUMMER = {"start": "2022-06-01", "end": "2022-09-01"}
PLACES = [PointBuffer(11 + 0.01 * i, 48, 80) for i in range(7)]
NOWHERE = BBox(0, 86, 1, 87)
TWO = {"a": {"model": "mosaiks", "model_config": {"features": 16}}, "b": {"model": "mosaiks"}}


def job(models: object = TWO, **given: object) -> ExportJob:
    given = {"workers": {"device": "cpu"}, "temporal": SUMMER, **given}
    return ExportJob.model_validate({"rois": "-", "out": "-", "models": models, **given})


def outcomes(one: ExportJob, *rois: Spatial) -> dict[str, Outcomes]:
    asks, settings = one.asks(), ServiceSettings()
    chunk = Chunk(4, tuple(asks), tuple((10 + i, roi) for i, roi in enumerate(rois)))
    read = ReadRois(asks, settings, 60, "no-quota")(packed([chunk]))
    found: list[Outcomes] = unpacked(EncodeRois(asks, one.workers, settings.checkpoints)(read))
    return {entry.label: entry for entry in found}


@dataclass
class Counting:
    """A provider that counts, and has no imagery where it is told so."""

    provider: Provider = field(default_factory=SyntheticProvider)
    name: str = "synthetic"
    reads: list[FetchPlan] = field(default_factory=list)
    empty: bool = False

    def fetch(self, plan: FetchPlan) -> Chip:
        self.reads.append(plan)
        if self.empty:
            raise NoImagery("nothing here")
        return self.provider.fetch(plan)


def _fetch_plan() -> FetchPlan:
    return plan(Ask("mosaiks", temporal=TemporalSpec.range(*SUMMER.values())).at(PLACES[0])).fetch


def test_what_an_export_computes_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, ground = written(monkeypatch, metrics.STREAM_ROWS), written(monkeypatch, metrics.STREAM_KM2)
    busy = written(monkeypatch, metrics.FORWARD_BUSY_SECONDS)
    outcomes(job({"b": {"model": "mosaiks"}}), *PLACES[:2], NOWHERE)
    assert [(labels["application"], labels["outcome"]) for labels in rows.labels] == [
        ("export", "ok"),
        ("export", "invalid_request"),
    ]
    assert rows.total == 3
    assert 0 < ground.total < 1
    assert busy.total > 0


def test_what_several_models_want_is_read_once_and_paid_once() -> None:
    counting = Counting()
    once, wanted = OneReading(counting), _fetch_plan()
    first, second = once.fetch(wanted), once.fetch(wanted)
    assert len(counting.reads) == 1
    assert second.data is first.data
    assert dict(second.facts)["cache"] == "shared"


def test_an_error_is_everybody_s() -> None:
    counting = Counting(empty=True)
    once, wanted = OneReading(counting), _fetch_plan()
    heard = []
    for _ in range(3):
        with pytest.raises(NoImagery) as caught:
            once.fetch(wanted)
        heard.append(caught.value)
    assert len(counting.reads) == 1
    assert heard[0] == heard[1] == heard[2]
    assert len(set(map(id, heard))) == 3


def test_every_roi_has_one_outcome_for_each_model_and_it_is_the_library_s() -> None:
    found = outcomes(job(), *PLACES, NOWHERE)
    summer = TemporalSpec.range(*SUMMER.values())
    for label, config in (("a", {"features": 16}), ("b", {})):
        rows = {row.index: row for row in found[label].rows}
        assert sorted(rows) == list(range(10, 18))
        assert found[label].part == 4
        assert found[label].device_s > 0
        theirs = get_embeddings_batch(
            "mosaiks", spatials=PLACES, temporal=summer, model_config=config, device="cpu"
        )  # fmt: skip
        for index, expected in enumerate(theirs):
            np.testing.assert_array_equal(rows[10 + index].data, expected.data)
            meta = json.loads(rows[10 + index].meta or "")
            assert meta["roi"] == expected.meta["roi"]
            assert meta["model_config"] == expected.meta["model_config"]
        assert isinstance(rows[17].error, InvalidRequest)


def test_tiles_are_stitched() -> None:
    place, few = PointBuffer(11, 48, 1500), {"features": 16}
    tiled = job({"a": {"model": "mosaiks", "model_config": few}}, input_prep="tile")
    (row,) = outcomes(tiled, place)["a"].rows
    how = {"temporal": TemporalSpec.range(*SUMMER.values()), "model_config": few, "input_prep": "tile"}
    (expected,) = get_embeddings_batch("mosaiks", spatials=[place], device="cpu", **how)
    np.testing.assert_array_equal(row.data, expected.data)


def test_a_provider_s_own_exception_is_its_roi_s() -> None:
    class Broken:
        name = "synthetic"

        def fetch(self, plan: FetchPlan) -> Chip:
            raise KeyError(plan.collection)

    reading = Reading(job().asks(), ServiceSettings(), timeout_s=60)
    reading._providers = dict.fromkeys("ab", Broken())  # noqa: SLF001 - settings can only name real ones
    info, payload = reading.read([(0, PLACES[0])], "ab")["a"]
    assert isinstance(info.items[0].error, ProviderError)
    assert "KeyError" in str(info.items[0].error)
    assert payload.batches == ()


def test_a_place_that_is_too_large_for_a_common_read_is_asked_for_alone() -> None:
    def ask(labels: Sequence[str], places: Sequence[tuple[int, Spatial]]) -> dict[str, dict[int, Row]]:
        """Nothing is there; and no room for the second place where several models ask."""
        found = {}
        for label in labels:
            large = {index for index, place in places if place == PLACES[1] and len(labels) > 1}
            found[label] = {i: Row(i, error=RoiTooLarge("x") if i in large else NoImagery("x")) for i, _ in places}
        return found

    rows = alone_where_large(Chunk(0, ("a", "b"), ((3, PLACES[0]), (5, PLACES[1]))), ask)
    for label in "ab":
        assert {index: type(row.error) for index, row in rows[label].items()} == {3: NoImagery, 5: NoImagery}


# --- packing -----------------------------------------------------------------------------------------------


def test_values_come_back_and_arrays_are_read_in_place() -> None:
    values = [{"x": np.arange(5000, dtype=np.float32)}, "text", [np.zeros(0), np.ones((3, 4))]]
    table = packed(iter(values))
    assert table.num_rows == 3
    first, second, third = unpacked(pa.concat_tables([table, packed([])]))
    np.testing.assert_array_equal(first["x"], values[0]["x"])
    assert not first["x"].flags.owndata
    assert second == "text"
    assert [array.shape for array in third] == [(0,), (3, 4)]
    assert unpacked(table.slice(1, 1)) == ["text"]


# --- the UDF for pipelines of one's own --------------------------------------------------------------------


@pytest.fixture(scope="module")
def udf() -> Iterator[EmbedRois]:
    return EmbedRois(TWO, temporal=SUMMER, workers={"device": "cpu"})


def test_rows_keep_their_columns_and_gain_three_for_each_model(udf: EmbedRois) -> None:
    columns = {name: [getattr(place, name) for place in PLACES] for name in ("lon", "lat", "buffer_m")}
    columns["lat"][2] = 99.0
    found = udf(pa.table({"name": list("abcdefg"), **columns}))
    assert found.column_names[:4] == ["name", "lon", "lat", "buffer_m"]
    assert found.column_names[4:] == ["a", "a_meta", "a_problem", "b", "b_meta", "b_problem"]
    rows = found.to_pylist()
    assert [len(row["a"]) if row["a"] else None for row in rows] == [16, 16, None, 16, 16, 16, 16]
    assert json.loads(rows[2]["a_problem"])["code"] == "invalid_request"
    assert rows[2]["b_meta"] is None
    assert json.loads(rows[0]["b_meta"])["model"] == "mosaiks"
    assert rows[0]["b_problem"] is None


def test_boxes_too_and_nothing_else(udf: EmbedRois) -> None:
    box = pa.table({"minlon": [11.0], "minlat": [48.0], "maxlon": [11.001], "maxlat": [48.001]})
    assert udf(box).num_rows == 1
    assert udf(box.slice(0, 0)).num_rows == 0
    with pytest.raises(InvalidRequest, match="the columns are x"):
        udf(pa.table({"x": [1]}))


def test_a_second_pass_computes_the_same_columns_again(udf: EmbedRois) -> None:
    once = udf(pa.table({"lon": [11.0], "lat": [48.0], "buffer_m": [80.0]}))
    twice = udf(once)
    assert twice.column_names == once.column_names
    assert twice["a"].to_pylist() == once["a"].to_pylist()


@pytest.mark.parametrize(
    ("models", "how", "kind"),
    [
        ("mosaiks", {}, InvalidRequest),
        (["mosaiks"], {"temporall": {"year": 2022}}, InvalidRequest),
        (["mosaiks"], {"workers": {"gpus": 1}}, InvalidRequest),
        (["mosaiks"], {"settings": {"fetch": {"actor": 1}}}, InvalidRequest),
        (["mosaiks"], {"backend": "gee"}, UnknownProvider),
        (["mosaics"], {}, UnknownModel),
    ],
)
def test_mistakes_are_the_library_s_own_errors(models: Any, how: dict[str, Any], kind: type[Exception]) -> None:
    with pytest.raises(kind):
        EmbedRois(models, **how)


# --- errors that end an export -----------------------------------------------------------------------------


def test_missing_weights_are_handed_on_as_a_value() -> None:
    one = job(["remoteclip"])
    asks, settings = one.asks(), ServiceSettings.model_validate({"checkpoints": {"offline": True, "root": "/nowhere"}})
    read = ReadRois(asks, settings, 60, "no-quota")(packed([Chunk(0, tuple(asks), ((0, PLACES[0]),))]))
    (found,) = unpacked(EncodeRois(asks, one.workers, settings.checkpoints)(read))
    assert isinstance(found, CheckpointError)


def test_an_error_of_the_stage_before_passes_through() -> None:
    encode = EncodeRois(job().asks(), job().workers, ServiceSettings().checkpoints)
    error = UnknownProvider("nobody")
    assert unpacked(encode(packed([error]))) == [error]


# --- what the cluster lacks --------------------------------------------------------------------------------


def test_shortages_are_said_by_resource() -> None:
    one = job(workers={"encoders": 2, "num_gpus": 1})
    settings = ServiceSettings.model_validate({"fetch": {"actors": 3, "num_cpus": 1, "resources": {"ee_fetch": 1}}})
    there = {"CPU": 4.0, "GPU": 2.0, "ee_fetch": 3.0}
    assert shortages(one, settings, {**there, "CPU": 5.0}) == []
    assert shortages(one, settings, there) == ["the workers want 5 CPU, and there are 4"]
    assert [text.split()[4].strip(",") for text in shortages(one, settings, {})] == ["CPU", "GPU", "ee_fetch"]
    assert shortages(job(service="rs-embed"), settings, {}) == []


def test_an_actor_that_never_fits_is_refused() -> None:
    settings = ServiceSettings.model_validate({"fetch": {"actors": 3, "num_cpus": 1, "resources": {"ee_fetch": 1}}})
    there = {"CPU": 1.0, "GPU": 1.0, "ee_fetch": 1.0}
    check_fits(job(workers={"encoders": 9, "num_gpus": 1}), settings, there)  # one after another
    with pytest.raises(Unavailable, match="one encoder wants 2 GPU, and this machine's Ray has 1"):
        check_fits(job(workers={"num_gpus": 2}), settings, there)
    with pytest.raises(Unavailable, match="one reader wants 1 ee_fetch, and this machine's Ray has 0"):
        check_fits(job(), settings, {"CPU": 4.0})
    check_fits(job(service="rs-embed"), settings, {})


def test_who_waits_too_long_for_a_node_gives_up() -> None:
    settings = ServiceSettings.model_validate({"fetch": {"actors": 3, "num_cpus": 1, "resources": {"ee_fetch": 1}}})
    fetch, gpu = {"CPU": 6.0, "ee_fetch": 4.0}, {"CPU": 6.0, "GPU": 1.0}
    one = job(workers={"encoders": 2, "num_gpus": 1, "num_cpus": 4, "wait_s": 60})
    patience = Patience(one, settings)
    patience.look([fetch], 0)
    patience.look([fetch, gpu], 59)  # one is enough: it does all the work, later
    patience.look([fetch, {"CPU": 2.0, "GPU": 1.0}], 100)  # too small, so it is none
    patience.look([fetch], 159)
    with pytest.raises(Unavailable, match=r"for 60 s .* no node for one encoder \(4 CPU, 1 GPU\)"):
        patience.look([fetch], 160)
    patience.renew()
    patience.look([], 200)
    with pytest.raises(Unavailable, match=r"one encoder .* and one reader \(1 CPU, 1 ee_fetch\)"):
        patience.look([], 300)
    Patience(job(service="rs-embed", workers={"wait_s": 1}), settings).look([], 100)
