# SPDX-License-Identifier: Apache-2.0
"""How much of a benchmark occurs in the training text: runs of 13 words of each item that the shards hold too.

    accelerate launch eval/contamination.py --shards runs/demo/shards/train --tokenizer runs/demo/tokenizer \
        --tasks facts reading --output results/contamination.json
    scratch-gpt contamination --shards runs/real/shards/train --tokenizer runs/real/tokenizer \
        --sources "[{name: squad, path: data/squad.jsonl}]"

One pass over the text; the memory is that of the benchmark. Documents longer than a block lie in it in pieces, so a run
that crosses two pieces is not found.
"""

import scratch_gpt.native_libraries  # noqa: F401  # before torch

from dataclasses import dataclass, field
from typing import Any, Literal

from rich.console import Console

from scratch_gpt.data.shards.blocks import PackedBlocks
from scratch_gpt.evaluation.benchmarks.contamination import (
    item_texts,
    overlap_metrics,
    overlaps,
    shard_documents,
    unsearched_sources,
)
from scratch_gpt.evaluation.benchmarks.file_tasks import FORMS, file_tasks
from scratch_gpt.evaluation.metrics.intervals import print_table
from scratch_gpt.primer.tasks import TASKS, choose_tasks
from scratch_gpt.runs.results import write_result
from scratch_gpt.settings.checking import Count, check_values
from scratch_gpt.settings.parsing import run_stage
from scratch_gpt.tasks.task import load_examples
from scratch_gpt.tokenization import load_tokenizer


@dataclass
class ContaminationArguments:
    """Settings of `eval/contamination.py`."""

    shards: str = field(metadata={"help": "Training blocks of the shards stage, such as shards/train."})
    tokenizer: str = field(metadata={"help": "Folder of the tokenizer stage, or a model's."})
    model: str | None = field(
        default=None, metadata={"help": "A model that must have been pretrained on these blocks."}
    )
    tasks: list[str] = field(default_factory=list, metadata={"help": "Tasks of the embedded corpus."})
    split: Literal["train", "dev", "test"] = field(
        default="test", metadata={"help": "Split of the embedded corpus."}
    )
    sources: list[dict[str, Any]] | None = field(
        default=None,
        metadata={"help": "Your own benchmarks, as eval/qa.py and eval/translation.py take them."},
    )
    on_bad_row: Literal["skip", "fail"] = field(default="skip", metadata={"help": "As in the benchmarks."})
    limit: Count | None = field(
        default=None, metadata={"help": "Examples of each task, from the first on. Default: all."}
    )
    worst: int = field(default=5, metadata={"help": "Show this many of the items that overlap most."})
    seed: int = field(default=0, metadata={"help": "Seed of the intervals."})
    output: str | None = field(default=None, metadata={"help": "A result file to write."})

    def __post_init__(self) -> None:
        check_values(self)


def main(arguments: ContaminationArguments) -> None:
    """Look for all items at once in one pass, then print shares and the worst items."""
    tasks = choose_tasks(arguments.tasks, list(TASKS), default=not arguments.sources)
    if arguments.sources:
        tasks += file_tasks(arguments.sources, arguments.on_bad_row, {form: {} for form in FORMS})
    examples = load_examples(tasks, arguments.split, arguments.limit)
    tokenizer = load_tokenizer(arguments.tokenizer)
    blocks = PackedBlocks(arguments.shards, tokenizer)
    places = [(name, text) for name, rows in examples.items() for text in item_texts(name, rows)]
    unsearched = unsearched_sources(arguments.model, blocks) if arguments.model else []
    found = overlaps([text for _, text in places], shard_documents(blocks, tokenizer))
    metrics = {}
    for name in examples:
        own = [overlap for overlap, (task, _) in zip(found, places, strict=True) if task == name]
        metrics |= overlap_metrics(name, own, arguments.seed)
    order = sorted(range(len(found)), key=lambda place: -found[place].share)[: arguments.worst]
    worst = [
        {"task": places[place][0], "share": found[place].share, "item": places[place][1]}
        for place in order
        if found[place].found
    ]
    print_table("contamination", {arguments.shards: metrics})
    for item in worst:
        Console().print(f"{item['share']:.0%} of {item['task']}: {item['item']!r:.300}", markup=False)
    if unsearched:
        Console().print(f"not looked at: what {', '.join(unsearched)} taught", markup=False)
    if arguments.output:
        sizes = {name: len(rows) for name, rows in examples.items()}
        settings = {"tasks": list(examples), "examples": sizes, "split": arguments.split, "worst": worst}
        n = sum(overlap.total > 0 for overlap in found)
        write_result(
            arguments.output, "contamination", arguments.shards, n, metrics, settings, arguments.seed
        )


if __name__ == "__main__":
    run_stage(main, ContaminationArguments)
