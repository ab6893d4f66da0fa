# SPDX-License-Identifier: Apache-2.0
"""What a run reads of each of its shards folders."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scratch_gpt.data.shards.mixed_blocks import MixedBlocks, phases_of
from scratch_gpt.errors import UserError
from scratch_gpt.runs.checkpoints import checkpoint_step
from scratch_gpt.training.planning.scaling import MOST_PASSES
from scratch_gpt.training.pretrain.shuffled_indices import block_order


def describe_mixture(blocks: MixedBlocks, max_steps: int, blocks_per_step: int, first_step: int) -> list[str]:
    """A line for each folder: its blocks in the run, passes, steps; a warning where the passes are too many.

    Args:
        first_step: with which the run begins: of a checkpoint, its step.

    Raises:
        UserError: no block of a folder would be read.
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
        if passes > MOST_PASSES:
            lines.append(
                f"warning: {path} is read {passes:.1f} times; beyond {MOST_PASSES} times repeated text is learned by heart: "
                "lower its weight or the budget, or write more text"
            )
    return lines


def check_phases(
    blocks: MixedBlocks, max_steps: int, blocks_per_step: int, checkpoint: Path, progress: Mapping[str, Any]
) -> None:
    """Refuse another step than before where the shards change in the course of the run: they would change at another step.

    Args:
        checkpoint: that is resumed.
        progress: of the checkpoint.

    Raises:
        UserError: a step had other blocks.
    """
    phases = phases_of(blocks.entries, list(blocks.parts), max_steps, blocks_per_step)
    if len(phases) < 2:
        return
    before = progress["position"] / checkpoint_step(checkpoint)
    if before != blocks_per_step:
        message = (
            f"{checkpoint} took {before:g} blocks a step and this run takes {blocks_per_step}, so its shards would change "
            "at another step than from and until say: keep per_device_train_batch_size x gradient_accumulation_steps x "
            "processes"
        )
        raise UserError("step_changed", message, checkpoint=checkpoint, blocks=blocks_per_step)
