"""Markers, files, and what a second run makes of them."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

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
from serve_app.export.ledger import Failure, Marker
from serve_app.export.parts import partition
from serve_app.export.store import Store
from tests.unit.export.ledgers import PARTS, ROIS, WAY, made, read, written


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
