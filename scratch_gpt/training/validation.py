# SPDX-License-Identifier: Apache-2.0
"""What a model in training is worth on held-out blocks, and what it writes."""

import json
import math
from pathlib import Path

import torch
from accelerate import Accelerator
from transformers import PreTrainedTokenizerFast

from scratch_gpt.data.collator import PackedCollator
from scratch_gpt.data.shards import PackedBlocks
from scratch_gpt.evaluation.runner import packed_costs
from scratch_gpt.modeling_scratch_gpt import ScratchGPTForCausalLM
from scratch_gpt.tokenization import encode_plain, token_byte_lengths
from scratch_gpt.training.loss import PLAIN_LOGITS_BYTES


class Validation:
    """Bits per byte of held-out blocks, of all and of each source.

    Args:
        blocks: of the validation split.
        batch_size: blocks in one forward pass of one process, at most: fewer where their logits would be too large.
        max_blocks: so many are measured, evenly spaced over all.
    """

    def __init__(
        self, blocks: PackedBlocks, tokenizer: PreTrainedTokenizerFast, batch_size: int, max_blocks: int
    ) -> None:
        self.blocks = blocks
        self.collator = PackedCollator(tokenizer.eos_token_id, tokenizer.pad_token_id)
        self.byte_lengths = torch.tensor(token_byte_lengths(tokenizer))
        logits_bytes = blocks.manifest["sequence_length"] * len(tokenizer) * 4
        self.batch_size = max(1, min(batch_size, PLAIN_LOGITS_BYTES // logits_bytes))
        count = min(len(blocks), max_blocks)
        self.chosen = [index * len(blocks) // count for index in range(count)]
        # Sources, where there are several: name -> [first block, one past the last].
        sources = blocks.manifest["sources"]
        self.ranges: dict[str, list[int]] = {
            source["name"]: source["block_range"]
            for source in sources
            if len(sources) > 1 and "block_range" in source  # shards of older versions mix the sources
        }

    def measure(self, accelerator: Accelerator, model: torch.nn.Module) -> dict[str, float]:
        """`eval_loss` (nats a token) and `eval_bits_per_byte`, over all processes, and the latter per source."""
        model.eval()
        costs = torch.zeros(len(self.chosen), 3, dtype=torch.float64, device=accelerator.device)
        byte_lengths = self.byte_lengths.to(accelerator.device)
        stride = self.batch_size * accelerator.num_processes
        # All processes take the same number of forward passes, since in sharded ones all take part: where its share
        # is used up, a process measures some block again and does not count it.
        with torch.no_grad():
            for start in range(0, len(self.chosen), stride):
                first = start + accelerator.process_index * self.batch_size
                places = range(first, min(first + self.batch_size, len(self.chosen)))
                batch = self.collator([self.blocks[self.chosen[place]] for place in places or [0]])
                batch = {name: tensor.to(accelerator.device) for name, tensor in batch.items()}
                measured = packed_costs(model, batch, byte_lengths)
                if places:
                    costs[places.start : places.stop] = measured
        model.train()
        costs = accelerator.reduce(costs).cpu()  # (blocks, nats and tokens and bytes)
        metrics = {
            "eval_loss": (costs[:, 0].sum() / costs[:, 1].sum()).item(),
            "eval_bits_per_byte": bits_per_byte(costs),
        }
        chosen = torch.tensor(self.chosen)
        for name, (first, stop) in self.ranges.items():
            own = costs[(chosen >= first) & (chosen < stop)]
            if len(own):
                metrics[f"eval_bits_per_byte_{name}"] = bits_per_byte(own)
        return metrics


def bits_per_byte(costs: torch.Tensor) -> float:
    """Of rows of nats, tokens and bytes (`packed_costs`)."""
    return (costs[:, 0].sum() / math.log(2) / costs[:, 2].sum()).item()


@torch.no_grad()
def write_samples(
    model: ScratchGPTForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    prompts: list[str],
    step: int,
    path: Path | None,
) -> None:
    """Append what the model makes of each prompt (greedy) to `samples.jsonl`.

    All processes take part, since sharded weights need them; those without a `path` write nothing.
    """
    model.eval()
    for prompt in prompts:
        input_ids = torch.tensor(encode_plain(tokenizer, [prompt]), device=model.device)
        output = model.generate(
            input_ids,
            attention_mask=torch.ones_like(input_ids),
            max_new_tokens=48,
            do_sample=False,
        )
        if path is not None:
            text = tokenizer.decode(output[0], skip_special_tokens=True)
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, "text": text}, ensure_ascii=False) + "\n")
    model.train()
