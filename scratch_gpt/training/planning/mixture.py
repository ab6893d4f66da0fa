# SPDX-License-Identifier: Apache-2.0
"""What a run reads of each of its shards folders."""

from scratch_gpt.data.shards.mixed_blocks import MixedBlocks, phases_of
from scratch_gpt.data.shards.writing import GOOD_EPOCHS
from scratch_gpt.errors import UserError
from scratch_gpt.training.pretrain.shuffled_indices import PhasedIndices


def describe_mixture(blocks: MixedBlocks, max_steps: int, blocks_per_step: int, first_step: int) -> list[str]:
    """A line for each folder: its blocks in the run, passes, steps; a warning where the passes are too many.

    Args:
        first_step: with which the run begins: of a checkpoint, its step.

    Raises:
        UserError: a folder of which no block would be read.
    """
    paths = list(blocks.parts)
    phases = phases_of(blocks.entries, paths, max_steps, blocks_per_step)
    order = PhasedIndices([len(part) for part in blocks.parts.values()], phases, 0)
    used = order.used(max_steps * blocks_per_step) - order.used(first_step * blocks_per_step)
    lines = []
    for path, read, part in zip(paths, used.tolist(), blocks.parts.values(), strict=True):
        own = [entry for entry in blocks.entries if entry.path == path]
        begins, ends = (
            round(share * max_steps)
            for share in (min(entry.start for entry in own), max(entry.stop for entry in own))
        )
        if not read and first_step < ends:
            message = (
                f"shards: no block of {path} would be read in the {max_steps} steps: raise its weight, lengthen its part "
                "of the run, or leave it out"
            )
            raise UserError("setting_without_effect", message, setting="shards")
        passes = read / len(part)
        if len(paths) > 1:
            lines.append(f"shards {path}: {read:,} blocks, {passes:.2g} passes, from step {begins} to {ends}")
        if passes > GOOD_EPOCHS:
            lines.append(
                f"warning: {path} is read {passes:.1f} times; beyond {GOOD_EPOCHS} times repeated text teaches little: "
                "lower its weight or the budget, or write more text"
            )
    return lines
