"""The scene list as the service sends it: what is read from it, and what is refused."""

from __future__ import annotations

import pytest

from rs_embed_core.chip import Acquisition
from rs_embed_core.providers.gee.decode import BadReplyError
from rs_embed_core.providers.gee.scenes import parse_counts, parse_scenes

_MAY, _JUNE = 1_651_659_031_000, 1_654_337_431_999


def test_scenes_come_in_the_order_of_time() -> None:
    scenes = parse_scenes([[["b", "a"], [_JUNE, _MAY], [12.5, 0]], [[], [], []]], 2)
    assert scenes.acquisitions == (
        Acquisition("a", "2022-05-04T10:10:31Z", 0),
        Acquisition("b", "2022-06-04T10:10:31Z", 0),
    )
    assert scenes.empty == (1,)
    assert scenes.facts == (("scenes", 2), ("cloud_pct_mean", 6.25))


def test_a_scene_may_tell_no_cloud() -> None:
    assert parse_scenes([[["a", "b"], [_MAY, _JUNE], [5]]], 1).facts == (("scenes", 2), ("cloud_pct_mean", 5.0))
    assert parse_scenes([[["a"], [_MAY]]], 1).facts == (("scenes", 1),)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "no list",
        [],
        [[["a"], [_MAY], []], [[], [], []], [[], [], []]],  # a frame too many
        [[["a"], [_MAY], []], [["b"], [], []]],  # no time
        [[["a"], ["May"], []], [[], [], []]],
        [[["a"], [1e30], []], [[], [], []]],
        [[["a"]], [[]]],
        [7, 8],
    ],
)
def test_another_form_is_refused(value: object) -> None:
    with pytest.raises(BadReplyError, match="no scene list of 2 frames"):
        parse_scenes(value, 2)


def test_counts_are_summed_over_frames() -> None:
    assert parse_counts([[3, 1], [2, 0]], 2) == [5, 1]


@pytest.mark.parametrize("value", [None, {"a": 1}, [[1]], [[1, 2, 3]], [1, 2]])
def test_other_counts_are_refused(value: object) -> None:
    with pytest.raises(BadReplyError, match="no counts of 2 stages"):
        parse_counts(value, 2)
