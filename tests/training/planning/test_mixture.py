# SPDX-License-Identifier: Apache-2.0
"""How often a run reads its shards, and when it changes them."""

from pathlib import Path

from scratch_gpt.data.shards.mixed_blocks import MixedBlocks, parse_shards
from scratch_gpt.training.planning.mixture import check_phases, describe_mixture
from wording import shows, user_error


def test_more_than_eight_passes_are_a_warning(data) -> None:
    """Of what is left of the run; of a single folder nothing else is said."""
    blocks = MixedBlocks(parse_shards(data["shards"]), "train")
    assert describe_mixture(blocks, 8, len(blocks), first_step=0) == []
    (line,) = describe_mixture(blocks, 9, len(blocks), first_step=0)
    assert shows(line, "warning: ", data["shards"], "9.0 times")
    assert describe_mixture(blocks, 9, len(blocks), first_step=1) == []


def test_a_step_keeps_its_blocks_where_shards_change(data) -> None:
    """With steps of another size, the change would not be where the phases say; one mixture throughout has no such place."""
    both = [{"path": data["shards"], "weight": 0.5}, {"path": data["shards"], "from": 0.8}]
    blocks, checkpoint = MixedBlocks(parse_shards(both), "train"), Path("base/checkpoint-8")
    check_phases(blocks, 10, 4, checkpoint, {"position": 32})
    with user_error("step_changed", checkpoint=checkpoint, blocks=8):
        check_phases(blocks, 10, 8, checkpoint, {"position": 32})
    check_phases(MixedBlocks(parse_shards(both[:1]), "train"), 10, 8, checkpoint, {"position": 32})
