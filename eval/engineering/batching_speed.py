# SPDX-License-Identifier: Apache-2.0
"""How much faster batched evaluation is than a loop over single examples, and whether the results are the same.

    accelerate launch eval/engineering/batching_speed.py --model runs/demo/chat

Both take turns in one process; written answers and likelihoods are timed apart.
"""

import scratch_gpt.native_libraries  # noqa: F401  # before torch

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from scratch_gpt.inference.generation import generate_answers
from scratch_gpt.inference.likelihood import loglikelihoods
from scratch_gpt.inference.loading import load_model
from scratch_gpt.inference.turns import is_chat
from scratch_gpt.primer.tasks import TASKS
from scratch_gpt.settings.parsing import run_stage
from scratch_gpt.tasks.task import load_examples


# Largest difference of two log-likelihoods, in nats, that is rounding.
TOLERANCE = 1e-3


@dataclass
class BatchingSpeedArguments:
    """Settings of `eval/engineering/batching_speed.py`."""

    model: str = field(metadata={"help": "Folder of a model."})
    limit: int = field(default=128, metadata={"help": "Examples of each of the two tasks."})
    batch_size: int = field(default=64, metadata={"help": "Texts that run through the model together."})
    max_new_tokens: int = field(default=32, metadata={"help": "Longest answer, in tokens."})
    repeats: int = field(default=3, metadata={"help": "Runs of each; the fastest counts."})


def main(arguments: BatchingSpeedArguments) -> None:
    """Time both ways on facts (written) and choices (weighed)."""
    model, tokenizer = load_model(arguments.model)
    chat = is_chat(tokenizer)
    examples = load_examples([TASKS["facts"], TASKS["choices"]], "test", arguments.limit)
    questions = TASKS["facts"].prompts(examples["facts"], chat)
    prompts, candidates = zip(
        *((row.prompt, choice) for row in examples["choices"] for choice in row.choices), strict=True
    )

    def write(batch_size: int) -> list[Any]:
        return generate_answers(
            model,
            tokenizer,
            questions,
            chat=chat,
            max_new_tokens=arguments.max_new_tokens,
            batch_size=batch_size,
        )

    def weigh(batch_size: int) -> list[Any]:
        return loglikelihoods(model, tokenizer, prompts, candidates, chat=chat, batch_size=batch_size)

    table = Table("what", "examples", "one by one, s", "batched, s", "times faster", "same results")
    works: dict[str, Callable[[int], list[Any]]] = {"written answers": write, "likelihoods": weigh}
    for name, work in works.items():
        seconds: dict[int, list[float]] = {1: [], arguments.batch_size: []}
        found = {}
        for _ in range(arguments.repeats):
            for batch_size, times in seconds.items():
                start = time.perf_counter()
                found[batch_size] = work(batch_size)
                times.append(time.perf_counter() - start)
        single, batched = (min(times) for times in seconds.values())
        pairs = list(zip(*found.values(), strict=True))
        same = sum(
            one == other if work is write else abs(one.log_likelihood - other.log_likelihood) < TOLERANCE
            for one, other in pairs
        )
        table.add_row(
            name,
            str(len(pairs)),
            f"{single:.2f}",
            f"{batched:.2f}",
            f"{single / batched:.1f}",
            f"{same}/{len(pairs)}",
        )
    Console(width=110).print(table)


if __name__ == "__main__":
    run_stage(main, BatchingSpeedArguments)
