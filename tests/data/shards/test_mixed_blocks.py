# SPDX-License-Identifier: Apache-2.0
"""`shards` as a list: what is refused, and which folder is used when."""

import pytest

from scratch_gpt.data.shards.mixed_blocks import ShardsEntry, parse_shards, phases_of
from wording import user_error


def test_a_folder_is_one_entry_and_a_list_is_checked() -> None:
    """With defaults: equal weights, the whole run."""
    assert parse_shards("a") == [ShardsEntry("a", 1.0, 0.0, 1.0)]
    assert parse_shards([{"path": "a"}, {"path": "b", "weight": 0.5, "from": 0.8}]) == [
        ShardsEntry("a"),
        ShardsEntry("b", 0.5, 0.8),
    ]


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([{"path": "a", "wieght": 1}], user_error("unknown_key", "weight", key="wieght")),
        ([{"weight": 1}], user_error("setting_missing", setting="path")),
        (["a"], user_error("wrong_value", value="a")),
        ([{"path": "a", "weight": 0}], user_error("wrong_value", setting="weight", value=0)),
        ([{"path": "a", "weight": float("nan")}], user_error("wrong_value", setting="weight")),
        ([{"path": "a", "from": "80%"}], user_error("wrong_value", setting="from", value="80%")),
        ([{"path": "a", "from": 0.5, "until": 0.5}], user_error("wrong_value", 0.5)),
        ([{"path": "a", "until": 1.5}], user_error("wrong_value", 1.5)),
        ([{"path": "a", "from": True}], user_error("wrong_value", setting="from")),
        (
            [{"path": "a", "until": 0.3}, {"path": "b", "from": 0.5}],
            user_error("phase_without_shards", start=0.3, stop=0.5),
        ),
    ],
)
def test_what_cannot_work_is_refused(entries, expected) -> None:
    """In one line that names the value."""
    with expected:
        parse_shards(entries)


def test_phases_begin_between_steps() -> None:
    """By hand: 10 steps of 4 blocks; weights are relative to those in use; a folder may come twice."""
    entries = parse_shards(
        [{"path": "a", "weight": 3, "until": 0.75}, {"path": "b"}, {"path": "a", "weight": 1, "from": 0.75}]
    )
    assert phases_of(entries, ["a", "b"], 10, 4) == [(32, [0.75, 0.25]), (40, [0.5, 0.5])]
