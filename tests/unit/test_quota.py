from __future__ import annotations

import random

from rs_embed_core.providers.gate import Quota
from serve_app.quota import TTL_S, Need, Part, Shares

LATER = TTL_S + 1.0


def shares(at_once: int = 12) -> Shares:
    return Shares(Quota(at_once=at_once, per_second=60), born_at=0.0)


def test_one_actor_alone_gets_what_it_wants_up_to_the_quota() -> None:
    registry = shares()
    assert registry.renew("a", Need(0, 3, 0, 0), LATER) == Part(3, 15)
    assert registry.renew("a", Need(3, 40, 0, 3), LATER) == Part(12, 60)
    assert registry.renew("a", Need(0, 0, 0, 12), LATER).at_once == 0


def test_a_second_one_gets_its_fair_share_as_the_first_gives_back() -> None:
    registry = shares()
    registry.renew("a", Need(0, 40, 0, 0), LATER)
    assert registry.renew("b", Need(0, 40, 0, 0), LATER).at_once == 0  # all is taken
    assert registry.renew("a", Need(12, 40, 0, 12), LATER).at_once == 6
    assert registry.renew("b", Need(0, 40, 0, 0), LATER).at_once == 0  # and still under way
    registry.renew("a", Need(6, 40, 0, 6), LATER)
    assert registry.renew("b", Need(0, 40, 0, 0), LATER).at_once == 6


def test_what_nobody_else_wants_is_used_in_full() -> None:
    registry = shares()
    registry.renew("b", Need(1, 0, 0, 1), LATER)
    assert registry.renew("a", Need(0, 40, 0, 0), LATER).at_once == 11


def test_a_dead_actor_s_part_is_free_again() -> None:
    registry = shares()
    registry.renew("dead", Need(0, 40, 0, 0), LATER)
    assert registry.renew("a", Need(0, 40, 0, 0), LATER + TTL_S - 0.1).at_once == 0
    assert registry.renew("a", Need(0, 40, 0, 0), LATER + TTL_S + 0.1).at_once == 12


def test_a_restarted_registry_confirms_but_gives_nothing_new_at_first() -> None:
    registry = shares()
    assert registry.renew("a", Need(5, 9, 0, 5), 0.5).at_once == 5
    assert registry.renew("b", Need(0, 9, 0, 0), 1.0).at_once == 0
    registry.renew("a", Need(5, 9, 0, 5), LATER)
    assert registry.renew("b", Need(0, 9, 0, 0), LATER).at_once == 6


def test_complaints_halve_the_whole_quota() -> None:
    registry = shares()
    registry.renew("a", Need(0, 40, 0, 0), LATER)
    assert registry.renew("a", Need(12, 40, 1, 12), LATER).at_once == 6
    assert registry.renew("a", Need(6, 40, 1, 6), LATER).at_once == 6  # the same complaint counts once


def test_parts_never_add_up_to_more_than_the_quota_and_are_all_used() -> None:
    chance = random.Random(7)  # noqa: S311 - for a test
    registry = shares(10)
    inside = dict.fromkeys("abcd", 0)
    parts = dict.fromkeys("abcd", 0)
    used = 0
    for step in range(4000):
        name = chance.choice("abcd")
        finished = chance.randint(0, inside[name])
        inside[name] -= finished
        parts[name] = registry.renew(name, Need(inside[name], 20, 0, parts[name]), LATER + step * 0.01).at_once
        inside[name] = max(inside[name], parts[name])  # starts what it may
        assert sum(inside.values()) <= 10
        used += sum(inside.values())
    assert used / 4000 > 9
