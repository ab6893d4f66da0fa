# SPDX-License-Identifier: Apache-2.0
"""Decoder against encoder-decoder: equal parameters, data and training time, translation in BLEU and chrF, several seeds.

    accelerate launch eval/engineering/architectures.py --config eval/engineering/configs/architectures.yaml
    accelerate launch eval/engineering/architectures.py --config eval/engineering/configs/architectures.yaml --seconds 60 --seeds 0

Prints a Markdown table with copying and word-by-word translation beside the two, and sacreBLEU's signatures; writes all
figures to `output`.
"""

import scratch_gpt.native_libraries  # noqa: F401  # before torch

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from translation_models import (
    KINDS,
    Corpus,
    RaceSettings,
    Result,
    build_models,
    compare_architecture,
    file_corpus,
    primer_corpus,
    race_table,
    summarize,
)

from scratch_gpt.data.sources.bad_rows import BadRows
from scratch_gpt.data.sources.source import CORPUS_SETTINGS, parse_sources
from scratch_gpt.errors import UserError
from scratch_gpt.evaluation.benchmarks.translation import signatures
from scratch_gpt.runs.folders import atomic_write
from scratch_gpt.runs.log import console
from scratch_gpt.settings.checking import Positive, check_values
from scratch_gpt.settings.hardware import ComputeSettings, choose_threads
from scratch_gpt.settings.parsing import run_stage
from scratch_gpt.tasks.example import Example
from scratch_gpt.tokenization import train_tokenizer


@dataclass
class ArchitecturesArguments:
    """Settings of `eval/engineering/architectures.py`."""

    decoder: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "Its shape, as for ScratchGPTConfig."}
    )
    encoder_decoder: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "Its shape, as for ScratchGPTEncoderDecoderConfig."}
    )
    primer: bool = field(default=True, metadata={"help": "Race on the embedded corpus's translations."})
    sources: list[dict[str, Any]] = field(
        default_factory=list,
        metadata={"help": "Race on your own pairs too: {name, path, columns: {source, target}}."},
    )
    test_sources: list[dict[str, Any]] = field(
        default_factory=list,
        metadata={"help": "For each of the sources, one of the same name with the test pairs."},
    )
    on_bad_row: Literal["skip", "fail"] = field(
        default="skip", metadata={"help": "skip, or fail at the first bad row."}
    )
    vocab_size: int = field(
        default=4096, metadata={"help": "Of the tokenizer, learned from the training pairs."}
    )
    seconds: Positive = field(default=600.0, metadata={"help": "Training time of each model."})
    clock: Literal["wall", "processor"] = field(
        default="wall",
        metadata={
            "help": "wall, or processor: count what the processors worked for this process, on a shared machine."
        },
    )
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "One race each."})
    batch_size: int = field(default=64, metadata={"help": "Pairs in one step."})
    learning_rate: float = field(default=5e-3, metadata={"help": "Peak learning rate."})
    weight_decay: float = field(default=0.1, metadata={"help": "Decay of the projection matrices."})
    max_new_tokens: int = field(default=64, metadata={"help": "Longest translation, in tokens."})
    mixed_precision: Literal["no", "bf16"] = field(default="bf16", metadata={"help": "bf16 or no."})
    num_threads: int | None = field(
        default=None, metadata={"help": "CPU threads. Default: OMP_NUM_THREADS, or all."}
    )
    output: str = field(default="results/architectures.json", metadata={"help": "All figures, as JSON."})

    def __post_init__(self) -> None:
        check_values(self)
        for name in ("decoder", "encoder_decoder"):
            if not getattr(self, name):
                message = (
                    f"{name} is missing: a mapping such as {{hidden_size: 256, num_hidden_layers: 4, ...}}"
                )
                raise UserError("setting_missing", message, setting=name)
        if not self.primer and not self.sources:
            message = "nothing to race on: give sources, or --primer true"
            raise UserError("setting_missing", message, setting="sources")
        if self.sources and not self.test_sources:
            message = "test_sources is missing: for each of the sources, one of the same name"
            raise UserError("setting_missing", message, setting="test_sources")
        if not self.seeds:
            raise UserError("setting_missing", "seeds is empty: give one or more", setting="seeds")


def corpora(arguments: ArchitecturesArguments) -> dict[str, Corpus]:
    """What is raced on, by name."""
    found = {"primer": primer_corpus()} if arguments.primer else {}
    bad_rows = BadRows(arguments.on_bad_row)
    if not arguments.sources:
        return found
    tests = {source.name: source for source in parse_sources(arguments.test_sources, CORPUS_SETTINGS)}
    for source in parse_sources(arguments.sources, CORPUS_SETTINGS):
        if source.name not in tests:
            message = f"test_sources: none is named {source.name!r}, like the source"
            raise UserError("source_unmatched", message, source=source.name)
        found[source.name] = file_corpus(source, tests[source.name], bad_rows)
    return found


def main(arguments: ArchitecturesArguments) -> None:
    """Race each kind of model with each seed on each corpus; print the table, write the figures."""
    configs = {"decoder": arguments.decoder, "encoder-decoder": arguments.encoder_decoder}
    hardware = ComputeSettings(choose_threads(arguments.num_threads), arguments.mixed_precision)
    lines = ["| pairs | model | parameters | steps | BLEU | chrF |", "|---|---|---|---|---|---|"]
    summaries, figures, signed = [], {}, {}
    for name, corpus in corpora(arguments).items():
        tokenizer = train_tokenizer((text for pair in corpus.train for text in pair), arguments.vocab_size)
        results: dict[str, list[Result]] = {kind: [] for kind in KINDS}
        for seed in arguments.seeds:
            models = build_models(configs, tokenizer, seed)
            settings = RaceSettings(
                arguments.seconds,
                arguments.clock,
                seed,
                arguments.batch_size,
                arguments.learning_rate,
                arguments.weight_decay,
                arguments.max_new_tokens,
                hardware,
            )
            for kind in KINDS:
                result = compare_architecture(kind, models.pop(kind), corpus, tokenizer, settings)
                results[kind].append(result)
                console.print(
                    f"{name}, seed {seed}, {kind}: {result.scores}, {result.steps} steps", markup=False
                )
        lines += race_table(name, corpus, results)
        summaries.append(summarize(name, results))
        figures[name] = {kind: [row._asdict() for row in rows] for kind, rows in results.items()}
        signed |= signatures(
            {name: [Example(pair.source, (pair.target,), "translation", pair.source) for pair in corpus.test]}
        )
    versions = [f"{score}: {signature}" for score, signature in signed.items()]
    print("\n".join(["", *lines, "", *summaries, "", *versions]))
    with atomic_write(arguments.output) as temporary:
        written = {"settings": asdict(arguments), "signatures": signed, "results": figures}
        temporary.write_text(json.dumps(written, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    run_stage(main, ArchitecturesArguments)
