from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rs_embed_core.specs.spatial import BBox, PointBuffer
from serve_app.export.chunks import Todo, chunks, todo
from serve_app.export.ledger import Failure, Ledger, Marker
from serve_app.export.parts import Part, digest, partition

ROIS = {3 * i: PointBuffer(7 + 0.1 * (i % 20), 47 + 0.1 * (i // 20), 100) for i in range(400)}
WORLD = {i: PointBuffer(-157.5 + 45 * (i % 8), -78.75 + 22.5 * (i // 8), 100) for i in range(64)}  # 8 x 8 cells


@pytest.mark.parametrize("size", [1, 64, 399, 400, 1000])
def test_every_roi_is_in_one_part(size: int) -> None:
    parts = partition(ROIS, size)
    assert [part.number for part in parts] == list(range(len(parts)))
    assert sorted(index for part in parts for index in part.indices) == list(ROIS)
    assert {len(part.indices) for part in parts[:-1]} <= {size}
    assert partition(ROIS, size) == parts
    assert partition({}, size) == []


def test_what_was_appended_has_parts_of_its_own() -> None:
    """Else they would shift the borders of all that come after them on the curve."""
    rows = {3 * i: roi for i, roi in enumerate([*WORLD.values(), *ROIS.values()])}
    before = partition({row: rows[row] for row in range(0, 150, 3)}, 16)
    once = partition({row: rows[row] for row in range(0, 300, 3)}, 16, [150])
    assert once[:4] == before
    assert {row for part in once[4:] for row in part.indices} == set(range(150, 300, 3))
    twice = partition(rows, 16, [150, 300])
    assert twice[: len(once)] == once
    assert [part.number for part in twice] == list(range(len(twice)))
    assert sorted(row for part in twice for row in part.indices) == list(rows)
    assert partition(rows, 16, [10**6]) == partition(rows, 16)  # rows at the end may all be no ROIs


def test_a_part_covers_a_compact_area() -> None:
    def spread(indices: tuple[int, ...]) -> float:
        return float(np.ptp([WORLD[i].lon for i in indices]) * np.ptp([WORLD[i].lat for i in indices]))

    assert [spread(part.indices) for part in partition(WORLD, 16)] == [3 * 45 * 3 * 22.5] * 4  # a quarter each


def test_boxes_and_points_side_by_side() -> None:
    west, east = PointBuffer(-100, -40, 10), BBox(7, 47, 8, 48)
    rois = {0: east, 1: west, 2: replace(east, maxlon=8.1), 3: replace(west, lon=-100.1)}
    assert {frozenset(part.indices) for part in partition(rois, 2)} == {frozenset({0, 2}), frozenset({1, 3})}


def test_a_digest_changes_with_what_it_is_of() -> None:
    parts = partition(ROIS, 100)
    moved = partition({**ROIS, 3: replace(ROIS[3], buffer_m=101)}, 100)
    assert [old.digest == new.digest for old, new in zip(parts, moved, strict=True)].count(False) == 1
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 1, "b": 3})


# --- what is missing, and in what it is sent ---------------------------------------------------------------


PLACES = {i: PointBuffer(7 + i, 47, 100) for i in range(6)}
PARTS = [Part(0, (1, 2, 3), "a"), Part(1, (4, 5), "b")]


def ledger(label: str, **markers: Marker) -> Ledger:
    return Ledger(label, {0: "x", 1: "y"}, {int(number.removeprefix("p")): mark for number, mark in markers.items()})


def test_only_what_is_missing_is_done() -> None:
    whole = ledger("a", p0=Marker("x", 3), p1=Marker("y", 2))
    assert todo(PARTS, [whole], PLACES) == []
    assert todo(PARTS, [whole, ledger("b", p1=Marker("y", 2))], PLACES) == [
        Todo(PARTS[0], dict.fromkeys((1, 2, 3), ("b",)))
    ]
    assert todo(PARTS, [ledger("a"), ledger("b")], PLACES)[1].wanted == {4: ("a", "b"), 5: ("a", "b")}


def test_a_failure_is_tried_again_where_that_may_help() -> None:
    for_good, for_now = Failure(1, "no_imagery", "", again=False), Failure(3, "provider_timeout", "", again=True)
    hurt = ledger("a", p0=Marker("x", 1, (for_good, for_now)), p1=Marker("y", 2))
    assert todo(PARTS, [hurt], PLACES) == [Todo(PARTS[0], {3: ("a",)})]


def test_equal_places_of_a_part_are_asked_for_once() -> None:
    same = {**PLACES, 2: PLACES[1], 3: PLACES[1], 4: PLACES[1]}
    first, second = todo(PARTS, [ledger("a")], same)
    assert (first.twins, list(first.wanted), list(first.asked)) == ({1: (2, 3)}, [1, 2, 3], [1])
    assert second.twins == {}
    found = list(chunks([first, second], same, {1: 1.0, 4: 1.0, 5: 1.0}))
    assert [[index for index, _ in chunk.places] for chunk in found] == [[1], [4, 5]]
    behind = ledger("b", p0=Marker("x", 2, (Failure(2, "provider_timeout", "", again=True),)))
    (only, _) = todo(PARTS, [ledger("a"), behind], same)  # 2 is wanted for b, too
    assert only.twins == {1: (3,)}


def test_chunks_hold_neighbours_for_the_same_models() -> None:
    indices = tuple(range(0, 300, 3))
    wanted = {i: ("a", "b") if i < 120 else ("b",) for i in indices}
    found = list(chunks([Todo(Part(7, indices, ""), wanted)], ROIS, dict.fromkeys(indices, 1.0)))
    assert [len(chunk.places) for chunk in found] == [40, 60]
    assert [chunk.labels for chunk in found] == [("a", "b"), ("b",)]
    assert [index for chunk in found for index, _ in chunk.places] == list(indices)
    assert {chunk.part for chunk in found} == {7}


def test_chunks_are_small_where_the_imagery_is_large() -> None:
    indices = tuple(range(0, 300, 3))
    work = [Todo(Part(0, indices, ""), dict.fromkeys(indices, ("a",)))]
    assert [len(c.places) for c in chunks(work, ROIS, dict.fromkeys(indices, 1.0))] == [64, 36]
    assert {len(c.places) for c in chunks(work, ROIS, dict.fromkeys(indices, 40e6))} == {3, 1}
    assert {len(c.places) for c in chunks(work, ROIS, dict.fromkeys(indices, 1e9))} == {1}
