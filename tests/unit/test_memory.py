from __future__ import annotations

from pathlib import Path

import torch

from rs_embed_core.memory import Room, container_mb, free_mb


def test_room_for_a_share_of_what_is_free() -> None:
    room = Room(100)
    assert room.samples(10) == 8
    assert room.samples(1000) == 1  # it is tried at least


def test_nothing_known_is_room_for_any_number() -> None:
    assert Room(None).samples(10) is None


def test_what_did_not_fit_is_remembered_as_memory() -> None:
    room = Room(None)
    room.exceeded(9, 10)
    assert room.samples(10) == 4
    assert room.samples(5) == 8
    room.exceeded(100, 10)  # of old: it had room for less already
    assert room.samples(10) == 4
    room.exceeded(1, 10)
    assert room.samples(10) == 1


def test_the_host_tells_what_is_free() -> None:
    free = free_mb(torch.device("cpu"))
    assert free is None or free > 1


def test_a_container_has_what_its_limit_leaves(tmp_path: Path) -> None:
    assert container_mb(tmp_path) is None
    (tmp_path / "memory.max").write_text("2000000000\n")
    (tmp_path / "memory.current").write_text("900000000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 400000000\n")
    assert container_mb(tmp_path) == 1500
    (tmp_path / "memory.max").write_text("max\n")
    assert container_mb(tmp_path) is None
