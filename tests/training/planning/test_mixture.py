# SPDX-License-Identifier: Apache-2.0
"""How often a run reads its shards."""

from scratch_gpt.data.shards.mixed_blocks import MixedBlocks, parse_shards
from scratch_gpt.training.planning.mixture import describe_mixture
from wording import shows


def test_more_than_four_passes_are_a_warning(data) -> None:
    """Of what is left of the run; of a single folder nothing else is said."""
    blocks = MixedBlocks(parse_shards(data["shards"]), "train")
    assert describe_mixture(blocks, 4, len(blocks), first_step=0) == []
    (line,) = describe_mixture(blocks, 5, len(blocks), first_step=0)
    assert shows(line, "warning: ", data["shards"], "5.0 times")
    assert describe_mixture(blocks, 5, len(blocks), first_step=1) == []
