# SPDX-License-Identifier: Apache-2.0
"""What a model in training is worth on held-out blocks, and what it writes."""

import json
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from transformers import PreTrainedModel

from scratch_gpt.data.shards.blocks import Blocks
from scratch_gpt.inference.varlen import VARLEN
from scratch_gpt.training.pretrain.loss import PLAIN_LOGITS_BYTES
from scratch_gpt.training.pretrain.objectives import Objective


class Evaluator:
    """The objective's figures on held-out blocks, of all and of each source.

    Args:
        blocks: of the validation split.
        objective: says what a block costs.
        batch_size: blocks in one forward pass of one process, at most: fewer where their logits would be too large.
        max_blocks: at most this many are measured, evenly spaced over all.
    """

    def __init__(self, blocks: Blocks, objective: Objective, batch_size: int, max_blocks: int) -> None:
        self.blocks, self.objective = blocks, objective
        logits_bytes = blocks.manifest["sequence_length"] * len(objective.tokenizer) * 4
        self.batch_size = max(1, min(batch_size, PLAIN_LOGITS_BYTES // logits_bytes))
        self.chosen = blocks.evenly_spaced_indices(max_blocks)
        # Sources, where there are several: name -> [first block, one past the last].
        sources = blocks.manifest["sources"]
        self.ranges: dict[str, list[int]] = {
            source["name"]: source["block_range"]
            for source in sources
            if len(sources) > 1 and "block_range" in source  # shards of older versions mix the sources
        }

    def measure(self, accelerator: Accelerator, model: torch.nn.Module) -> dict[str, float]:
        """The objective's metrics over all processes, and its main figure per source; nothing where no block is held out."""
        if not self.chosen:
            return {}
        model.eval()
        # On the CPU: not every accelerator has float64.
        nll = torch.zeros(len(self.chosen), self.objective.num_sums, dtype=torch.float64)
        stride = self.batch_size * accelerator.num_processes
        # All processes take the same number of forward passes, since in sharded ones all take part: where its share
        # is used up, a process measures some block again and does not count it.
        with torch.no_grad():
            for start in range(0, len(self.chosen), stride):
                first = start + accelerator.process_index * self.batch_size
                places = range(first, min(first + self.batch_size, len(self.chosen)))
                numbers = [self.chosen[place] for place in places or [0]]
                blocks = [self.blocks[number] for number in numbers]
                measured = self.objective.nll(model, blocks, numbers, accelerator.device)
                if places:
                    nll[places.start : places.stop] = measured
        model.train()
        nll = torch.stack(gather_object([nll])).sum(0)  # (blocks, kinds of cost), each from one process
        metrics = self.objective.metrics(nll.sum(0))
        figure = self.objective.primary_metric
        chosen = torch.tensor(self.chosen)
        for name, (first, stop) in self.ranges.items():
            own = nll[(chosen >= first) & (chosen < stop)]
            if len(own):
                metrics[f"{figure}_{name}"] = self.objective.metrics(own.sum(0))[figure]
        return metrics


@torch.no_grad()
def write_samples(
    model: PreTrainedModel,
    objective: Objective,
    prompts: list[str],
    step: int,
    path: Path | None,
) -> None:
    """Append what the model makes of each prompt (greedy) to `samples.jsonl`.

    All processes take part, since sharded weights need them; those without a `path` write nothing. Attention that takes
    packed batches alone is sdpa meanwhile.
    """
    model.eval()
    attention = model.config._attn_implementation
    if attention == VARLEN:
        model.config._attn_implementation = "sdpa"
    for prompt in prompts:
        text = objective.sample(model, prompt)
        if path is not None:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, "text": text}, ensure_ascii=False) + "\n")
    model.config._attn_implementation = attention
    model.train()
