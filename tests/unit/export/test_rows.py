"""The rows of an export: which file they go into, and what of them is told."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas as gpd
import pytest

from rs_embed_core.errors import NoImagery, ProviderTimeout
from serve_app.export.chunks import todo
from serve_app.export.ledger import Failure, Ledger
from serve_app.export.stages import Outcomes
from serve_app.export.store import Store
from serve_app.export.writer import Gathered, Gathering, Writer, list_failures
from serve_app.wire.rows import Row
from tests.unit.export.ledgers import META, PARTS, ROIS, good, read, write, written


def test_a_file_is_geoparquet_with_the_rows_of_its_part(store: Store, tmp_path: Path) -> None:
    marker = write(store, read(store), PARTS[0], *map(good, PARTS[0].indices))
    path = tmp_path / "out" / "model=m" / "part-00000.parquet"
    frame = gpd.read_parquet(path)
    assert sorted(frame["index"]) == sorted(PARTS[0].indices)
    assert all(set(row["embedding"]) == {row["index"]} for _, row in frame.iterrows())
    assert (marker.rows, marker.file_bytes, marker.device_s) == (4, path.stat().st_size, 0.5)


def test_a_part_is_complete_when_every_roi_has_its_row_and_no_row_counts_twice() -> None:
    gathering = Gathering(todo(PARTS[:1], [Ledger("m", {0: ""}), Ledger("n", {0: ""})], ROIS))
    first, *others = PARTS[0].indices
    assert gathering.add(Outcomes(0, "m", (good(first),))) == (1, None)
    assert gathering.add(Outcomes(0, "m", (good(first),))) == (0, None)
    new, complete = gathering.add(Outcomes(0, "m", tuple(map(good, others))))
    assert new == 3
    assert complete is not None
    assert (complete.label, sorted(row.index for row in complete.rows)) == ("m", sorted(PARTS[0].indices))
    assert gathering.add(Outcomes(0, "m", tuple(map(good, others)))) == (0, None)
    assert gathering.left == 4
    assert gathering.add(Outcomes(0, "n", tuple(map(good, PARTS[0].indices))))[0] == 4
    assert gathering.left == 0


def test_an_outcome_is_that_of_all_equal_places(store: Store, tmp_path: Path) -> None:
    part = PARTS[0]
    first, second, third, other = part.indices
    rois = {**ROIS, second: ROIS[first], third: ROIS[first]}
    ledger = read(store)
    gathering = Gathering(todo([part], [ledger], rois))
    assert gathering.add(Outcomes(0, "m", (good(first),))) == (3, None)
    new, complete = gathering.add(Outcomes(0, "m", (good(first), Row(other, error=NoImagery("x")))))
    assert (new, gathering.left) == (1, 0)
    assert complete is not None
    assert Writer(store, {"m": ledger}, rois).write(complete).rows == 3
    frame = gpd.read_parquet(tmp_path / "out" / "model=m" / "part-00000.parquet")
    assert {row["index"]: set(row["embedding"]) for _, row in frame.iterrows()} == {
        index: {first} for index in (first, second, third)
    }


def test_a_failure_is_that_of_all_equal_places_and_they_are_tried_again_together(store: Store) -> None:
    part = PARTS[0]
    rois = dict.fromkeys(part.indices, ROIS[part.indices[0]])
    (entry,) = todo([part], [read(store)], rois)
    (_, complete) = Gathering([entry]).add(Outcomes(0, "m", (Row(part.indices[0], error=ProviderTimeout("x")),)))
    assert complete is not None
    marker = Writer(store, {"m": read(store)}, rois).write(complete)
    assert sorted(failure.index for failure in marker.failures) == sorted(part.indices)
    (again,) = todo([part], [read(store)], rois)
    assert list(again.asked) == [part.indices[0]]


def test_what_is_done_again_is_no_cost_of_its_rows(store: Store) -> None:
    gathered, rows = Gathered(PARTS[0], "m", set(PARTS[0].indices)), tuple(map(good, PARTS[0].indices))
    for _ in range(2):
        gathered.add(Outcomes(0, "m", rows, device_s=0.5))
    assert Writer(store, {"m": read(store)}, ROIS).write(gathered).device_s == 0.5


def test_failures_are_kept_and_a_second_try_adds_its_rows(store: Store, tmp_path: Path) -> None:
    a, b, c, d = PARTS[0].indices
    late, never = ProviderTimeout("too late"), NoImagery("nothing there")
    rows = (good(a), Row(b, error=late), Row(c, error=never), Row(d, error=late))
    assert write(store, read(store), PARTS[0], *rows).rows == 1
    ledger = read(store)
    assert ledger.missing(PARTS[0]) == (b, d)
    marker = write(store, ledger, PARTS[0], good(b), Row(d, error=late))
    assert marker.rows == 2
    assert {failure.index for failure in marker.failures} == {c, d}
    assert marker.device_s == 1.0
    marker = write(store, read(store), PARTS[0], good(d))
    frame = gpd.read_parquet(tmp_path / "out" / "model=m" / "part-00000.parquet").set_index("index")
    assert {index: list(frame.loc[index, "embedding"]) for index in (a, b, d)} == {i: [i] * 3 for i in (a, b, d)}
    assert json.loads(frame.loc[a, "meta"]) == META
    assert read(store).missing(PARTS[0]) == ()


def test_a_part_where_all_fail_has_a_marker_and_no_file(store: Store) -> None:
    marker = write(store, read(store), PARTS[0], *(Row(i, error=NoImagery("x")) for i in PARTS[0].indices))
    assert (marker.rows, marker.file_bytes) == (0, 0)
    assert store.sizes("model=m") == {}
    assert read(store).missing(PARTS[0]) == ()


def test_failures_are_listed_in_a_file_that_goes_with_them(store: Store) -> None:
    found = [("", Failure(99, "invalid_request", "no ROI", again=False)), ("m", Failure(1, "x", "y", again=True))]
    list_failures(store, "_failures.jsonl", found, ROIS)
    with store.open("_failures.jsonl") as file:
        lines = [json.loads(line) for line in file.read().splitlines()]
    assert lines[0] == {
        "model": "", "index": 99, "code": "invalid_request", "message": "no ROI", "again": False, "roi": None,
    }  # fmt: skip
    assert lines[1]["roi"] == ROIS[1].to_dict()
    list_failures(store, "_failures.jsonl", [], ROIS)
    assert store.read_json("_failures.jsonl") is None


@pytest.mark.parametrize(
    ("given", "said"), [(b"\xff\x00", "ff00"), (float("nan"), None), (slice(1), "slice(None, 1, None)"), (7, 7)]
)
def test_a_failure_may_have_an_id_of_any_type(given: object, said: object, store: Store) -> None:
    list_failures(store, "f.jsonl", [("m", Failure(0, "x", "y", again=True))], ROIS, [given])
    with store.open("f.jsonl") as file:
        found = json.loads(file.read(), parse_constant=lambda text: pytest.fail(f"{text} is no JSON"))
    assert found["id"] == said


def test_a_store_that_only_fsspec_knows() -> None:
    store = Store.at("memory://exports/one")
    written(store)
    assert todo(PARTS, [read(store)], ROIS) == []
