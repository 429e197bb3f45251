"""Markers, files, and what a second run makes of them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest

from rs_embed_core.errors import (
    CheckpointError,
    InvalidInput,
    InvalidRequest,
    NoImagery,
    ProviderAuth,
    ProviderTimeout,
    RoiTooLarge,
    RSEmbedError,
)
from rs_embed_core.specs.spatial import PointBuffer
from serve_app.export.chunks import todo
from serve_app.export.ledger import Failure, Ledger, Made, Marker
from serve_app.export.parts import Part, partition
from serve_app.export.stages import Outcomes
from serve_app.export.store import Store
from serve_app.export.writer import Gathered, Gathering, Writer, list_failures
from serve_app.wire.rows import Row

ROIS = {i: PointBuffer(8 + 0.01 * i, 47, 100) for i in range(10)}
PARTS = partition(ROIS, 4)
WAY = {"model": "mosaiks", "imagery": {"scale_m": 10}}
META = {"model": "mosaiks", "variant": "gaussian", "modality": "s2", "temporal": {"start": "2022-01-01"}}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.at(str(tmp_path / "out"))


def made(way: Mapping[str, object] = WAY, parts: list[Part] = PARTS, size: int = 4) -> Made:
    return Made.of(way, parts, size)  # type: ignore[arg-type]


def read(store: Store, how: Made | None = None, parts: list[Part] = PARTS) -> Ledger:
    return Ledger.read(store, "m", how or made(), parts)


def good(index: int) -> Row:
    return Row(index, np.full(3, index, np.float32), json.dumps(META))


def write(store: Store, ledger: Ledger, part: Part, *rows: Row) -> Marker:
    gathered = Gathered(part, "m", {row.index for row in rows})
    gathered.add(Outcomes(part.number, "m", rows, device_s=0.5))
    return Writer(store, {"m": ledger}, ROIS).write(gathered)


def written(store: Store) -> Ledger:
    """All parts, as a run without a failure leaves them."""
    ledger = read(store)
    ledger.begin(store, made())
    for part in PARTS:
        write(store, ledger, part, *map(good, part.indices))
    return ledger


# --- markers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (NoImagery("x"), False),
        (RoiTooLarge("x"), False),
        (InvalidInput("x"), False),
        (ProviderTimeout("x"), True),
        (ProviderAuth("x"), True),  # another account may have more luck
        (CheckpointError("x"), True),
        (RSEmbedError("x"), True),  # a bug of ours, which may be gone
    ],
)
def test_which_failures_are_tried_again(error: RSEmbedError, again: bool) -> None:
    assert Failure.of(3, error) == Failure(3, error.code, "x", again)


def test_a_marker_reads_back() -> None:
    marker = Marker("d", 3, (Failure(1, "no_imagery", "nothing", again=False),), 1234, 0.25)
    assert Marker.from_dict(json.loads(json.dumps(marker.to_dict()))) == marker


def test_what_is_written_is_not_missing(store: Store) -> None:
    assert [read(store).missing(part) for part in PARTS] == [part.indices for part in PARTS]
    written(store)
    assert [read(store).missing(part) for part in PARTS] == [(), (), ()]
    read(store).check(made())


def test_without_its_marker_or_its_file_a_part_is_missing(store: Store) -> None:
    written(store)
    store.delete("_done/m/part-00001.json")
    store.delete("model=m/part-00002.parquet")
    assert [bool(read(store).missing(part)) for part in PARTS] == [False, True, True]


def test_what_a_killed_run_leaves_behind_is_no_marker(store: Store, tmp_path: Path) -> None:
    written(store)
    done = tmp_path / "out" / "_done" / "m"
    for name in (".part-00001.json.0123abcd", ".nfs0001", ".DS_Store", "._made.json.0123", "notes.txt"):
        (done / name).write_bytes(b"")
    (done / "part-00001.json").write_text('{"digest": "')
    (done / "part-00002.json").write_text("{}")
    assert [bool(read(store).missing(part)) for part in PARTS] == [False, True, True]
    read(store).check(made())


def test_a_file_of_another_size_than_its_marker_says_is_made_again(store: Store, tmp_path: Path) -> None:
    written(store)
    path = tmp_path / "out" / "model=m" / "part-00001.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    assert [bool(read(store).missing(part)) for part in PARTS] == [False, True, False]


def test_files_without_a_marker_go_before_others_are_made(store: Store) -> None:
    """Else a run in larger parts would leave rows of the smaller ones beside its own."""
    written(store)
    for part in PARTS[1:]:  # killed between file and marker
        store.delete(f"_done/m/{part.name}.json")
    fewer = partition({i: ROIS[i] for i in PARTS[0].indices}, 4)
    ledger = read(store, made(parts=fewer), fewer)
    ledger.check(made(parts=fewer))
    ledger.begin(store, made(parts=fewer))
    assert list(store.sizes("model=m")) == ["part-00000.parquet"]


def test_files_that_nothing_is_known_of_are_refused(store: Store) -> None:
    store.write("model=m/part-00007.parquet", b"somebody's")
    store.write("model=m/merged.parquet", b"somebody's")
    with pytest.raises(InvalidRequest, match=r"part-00007\.parquet.*--replace"):
        read(store).check(made())
    read(store).begin(store, made())
    assert list(store.sizes("model=m")) == ["merged.parquet"]  # no name of ours


def test_half_written_files_are_swept_when_nobody_writes_them_any_more(store: Store, tmp_path: Path) -> None:
    written(store)
    old, new = f".part-00001.parquet.{'a' * 32}", f".part-00001.parquet.{'b' * 32}"
    for name in (old, new):
        (tmp_path / "out" / "model=m" / name).write_bytes(b"x")
    os.utime(tmp_path / "out" / "model=m" / old, (0, 0))
    read(store).begin(store, made())
    assert {name for name in store.sizes("model=m") if name.startswith(".")} == {new}


def test_nothing_is_written_where_nothing_has_changed(store: Store, tmp_path: Path) -> None:
    written(store)
    path = tmp_path / "out" / "_done" / "m" / "_made.json"
    os.utime(path, (0, 0))
    read(store).begin(store, made())
    assert path.stat().st_mtime == 0


def test_a_change_is_noticed_and_named(store: Store) -> None:
    written(store)
    other = made({**WAY, "imagery": {"scale_m": 20}})
    ledger = read(store, other)
    assert ledger.missing(PARTS[0]) == PARTS[0].indices
    with pytest.raises(InvalidRequest, match=r"configuration\.imagery\.scale_m: 10 -> 20.*--replace"):
        ledger.check(other)


def test_another_version_is_no_change_but_known(store: Store) -> None:
    written(store)
    newer = replace(made(), version="99")
    ledger = read(store, newer)
    ledger.check(newer)
    assert [ledger.missing(part) for part in PARTS] == [(), (), ()]
    assert ledger.version_before == made().version
    ledger.begin(store, newer)
    assert read(store, newer).version_before == "99"


def test_other_rois_or_parts_are_noticed(store: Store) -> None:
    written(store)
    longer = partition({**ROIS, 10: PointBuffer(9, 47, 100)}, 4)
    with pytest.raises(InvalidRequest, match=r"rois: 10 -> 11"):
        read(store, made(parts=longer), longer).check(made(parts=longer))
    fewer = partition(ROIS, 5)
    with pytest.raises(InvalidRequest, match=r"part_rois: 4 -> 5"):
        read(store, made(parts=fewer, size=5), fewer).check(made(parts=fewer, size=5))


def test_what_is_stale_is_removed_and_the_rest_kept(store: Store) -> None:
    written(store)
    fewer = partition({i: ROIS[i] for i in PARTS[0].indices}, 4)
    ledger = read(store, made(parts=fewer), fewer)
    assert sorted(ledger.stale) == ["part-00001.json", "part-00002.json"]
    ledger.begin(store, made(parts=fewer))
    assert list(store.sizes("model=m")) == ["part-00000.parquet"]
    assert todo(fewer, [read(store, made(parts=fewer), fewer)], ROIS) == []


def test_a_run_that_wrote_nothing_leaves_nothing_to_refuse(store: Store) -> None:
    read(store).begin(store, made())
    other = made({"model": "dofa"})
    read(store, other).check(other)


# --- rows --------------------------------------------------------------------------------------------------


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
