# SPDX-License-Identifier: Apache-2.0
"""What a run reads of each of its shards folders."""

from scratch_gpt.data.shards.mixed_blocks import MixedBlocks
from scratch_gpt.errors import UserError
from scratch_gpt.training.planning.scaling import GOOD_PASSES
from scratch_gpt.training.pretrain.shuffled_indices import block_order


def describe_mixture(blocks: MixedBlocks, max_steps: int, blocks_per_step: int, first_step: int) -> list[str]:
    """A line for each folder: its blocks in the run, passes, steps; a warning where the passes are too many.

    Args:
        first_step: with which the run begins: of a checkpoint, its step.

    Raises:
        UserError: a folder of which no block would be read.
    """
    order = block_order(blocks, max_steps, blocks_per_step, seed=0)
    counts = [order.used(step * blocks_per_step) for step in (first_step, max_steps)]
    lines = []
    for (path, part), before, after in zip(blocks.parts.items(), *counts, strict=True):
        own = [entry for entry in blocks.entries if entry.path == path]
        begins = round(min(entry.start for entry in own) * max_steps)
        ends = round(max(entry.stop for entry in own) * max_steps)
        if not after:
            message = (
                f"shards: no block of {path} would be read in the {max_steps} steps: raise its weight, lengthen its part "
                "of the run, or leave it out"
            )
            raise UserError("setting_without_effect", message, setting="shards")
        read = after - before
        passes = read / len(part)
        if len(blocks.parts) > 1:
            lines.append(f"shards {path}: {read:,} blocks, {passes:.2g} passes, from step {begins} to {ends}")
        if passes > GOOD_PASSES:
            lines.append(
                f"warning: {path} is read {passes:.1f} times; beyond {GOOD_PASSES} times repeated text teaches little: "
                "lower its weight or the budget, or write more text"
            )
    return lines
