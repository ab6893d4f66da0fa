# SPDX-License-Identifier: Apache-2.0
"""Gain and forgetting: a model before and after its tuning, on held-out rows, on its own answers, on a general text."""

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerFast, Trainer

from scratch_gpt.data.rows.splits import Row
from scratch_gpt.data.shards.blocks import PackedBlocks
from scratch_gpt.data.shards.mixed_blocks import parse_shards
from scratch_gpt.data.sources.bad_rows import BadRows
from scratch_gpt.data.sources.source import parse_sources, read_documents
from scratch_gpt.errors import UserError
from scratch_gpt.evaluation.benchmarks.generation import bits_per_byte, document_blocks
from scratch_gpt.evaluation.benchmarks.instructions import answer_nll, answers_metrics, loss_metric
from scratch_gpt.evaluation.compare import paired_difference
from scratch_gpt.inference.chat_format import encode_conversation
from scratch_gpt.inference.turns import training_tokenizer
from scratch_gpt.publishing.facts import AFTER, BEFORE, CHANGE, find_folder, lineage
from scratch_gpt.runs.folders import read_yaml
from scratch_gpt.runs.log import console
from scratch_gpt.runs.results import Metric
from scratch_gpt.settings.checking import Range


# What is read at most, so that measuring takes little of the training's time: rows, tokens and documents of the general
# text, tokens of an answer.
ROWS, TOKENS, DOCUMENTS, ANSWER = 1000, 32_768, 256, 128
# Of the answers, as `scratch-gpt instructions` samples them.
TEMPERATURE = 0.3
GENERAL = "general_text/bits_per_byte"

# Column -> metrics by name.
Columns = dict[str, dict[str, Metric]]


@dataclass
class ForgettingArguments:
    """Settings of the stages that measure what they gain and what the model forgets."""

    general_text: str | None = field(
        default=None,
        metadata={
            "help": "A text file or a shards folder: bits per byte before and after, to see what is forgotten. Default: "
            "the held-out shards of the pretraining, where the model's run.yaml names them."
        },
    )
    max_eval_prompts: Annotated[int, Range("at least 0", lambda count: count >= 0)] = field(
        default=64,
        metadata={"help": "Held-out questions that the model answers before and after; 0: none."},
    )


class Measurement:
    """What a model is measured on before and after its tuning.

    Args:
        arguments: of the stage: `ForgettingArguments`, seed and `per_device_eval_batch_size`.
        model: before its tuning.
        rows: held-out conversations, with "messages"; only their answers count.

    Raises:
        UserError: a general text that cannot be read, or shards of another tokenizer.
    """

    def __init__(
        self,
        arguments: Any,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        rows: Sequence[Row],
    ) -> None:
        self.arguments, self.tokenizer = arguments, tokenizer
        taught = training_tokenizer(tokenizer)
        drawn = random.Random(arguments.seed).sample(rows, min(len(rows), ROWS))
        self.rows = [row if "labels" in row else encode_conversation(taught, row) for row in drawn]
        self.questions = [row for row in self.rows if _has_plain_answer(row)][: arguments.max_eval_prompts]
        self.general_text = arguments.general_text or pretraining_shards(model.name_or_path, tokenizer)
        self.blocks = general_blocks(self.general_text, model, tokenizer) if self.general_text else []
        if self.general_text is None:
            console.print(
                "general_text: none given, so what the model forgets is not measured (a text file or a shards folder)",
                soft_wrap=True,
            )

    def measure(self, model: PreTrainedModel, answers: bool = True) -> dict[str, Metric]:
        """`loss` of the held-out answers, what the model writes to their questions itself, bits per byte of the general text.

        Args:
            answers: a base model cannot end an answer: it is not asked.
        """
        seed, batch_size = self.arguments.seed, self.arguments.per_device_eval_batch_size
        metrics: dict[str, Metric] = {}
        was_training = model.training
        model.eval()
        if self.rows:
            metrics["loss"] = loss_metric(answer_nll(model, self.tokenizer, self.rows, batch_size), seed)
        if self.questions and answers:
            length = min(ANSWER, model.config.max_position_embeddings // 2)
            generation = {"max_new_tokens": length, "temperature": TEMPERATURE, "batch_size": batch_size}
            metrics |= answers_metrics(model, self.tokenizer, self.questions, seed, **generation)
        if self.blocks:
            metrics[GENERAL] = bits_per_byte(model, self.tokenizer, self.blocks, seed)
        model.train(was_training)
        return metrics

    def compare(self, before: dict[str, Metric], trainer: Trainer) -> Columns:
        """What `measure` gave before and gives now, and the change with its paired interval; says what is forgotten."""
        if not before:
            return {}
        after = self.measure(trainer.accelerator.unwrap_model(trainer.model))
        change = {}
        for name, metric in after.items():
            old, new = before[name].items if name in before else None, metric.items
            if old is not None and new is not None:
                rows = np.array(new.rows), np.array(old.rows)
                value, ci95, _ = paired_difference(*rows, statistic=new.statistic, seed=self.arguments.seed)
                change[name] = Metric(value, ci95, n=metric.n)
        # a single block has no interval
        if len(self.blocks) > 1 and GENERAL in change and change[GENERAL].ci95[0] > 0:
            console.print(
                f"general text: {before[GENERAL].value:.3f} -> {after[GENERAL].value:.3f} bits per byte: the model has forgotten some of it; a lower "
                "learning_rate, fewer epochs or, in sft, replay_shards keep more",
                soft_wrap=True,
            )
        return {BEFORE: before, AFTER: after, CHANGE: change}


def _has_plain_answer(row: Row) -> bool:
    """Whether the first question is answered by a text that is learned, not by a call of a tool."""
    messages = row["messages"]
    place = next((number for number, each in enumerate(messages) if each["role"] == "user"), len(messages))
    reply = messages[place + 1] if place + 1 < len(messages) else {}
    plain = not row.get("tools") and not reply.get("tool_calls") and "weight" not in reply
    return plain and bool(reply.get("content"))


def pretraining_shards(folder: str, tokenizer: PreTrainedTokenizerFast) -> str | None:
    """The held-out shards of the pretraining that led to the model in `folder`; None where they are not there or do not fit."""
    for stage in reversed(lineage(Path(folder))):
        declared = read_yaml(stage / "run.yaml").get("shards")
        # of several folders the first, with which the training began
        shards = find_folder(parse_shards(declared)[0].path, stage) if declared else None
        # of rlhf, `shards` are blocks themselves
        if shards is not None and (shards / "validation" / "manifest.json").is_file():
            try:
                PackedBlocks(shards / "validation", tokenizer)
            except UserError:
                return None
            return str(shards / "validation")
    return None


def general_blocks(path: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> list[np.ndarray]:
    """Blocks of token ids of a shards folder, evenly spaced, or of the beginning of a text.

    Raises:
        UserError: a text that cannot be read or is empty, shards of another tokenizer.
    """
    folders = (Path(path) / "validation", Path(path))
    shards = next((folder for folder in folders if (folder / "manifest.json").is_file()), None)
    if shards is not None:
        blocks = PackedBlocks(shards, tokenizer)
        return [blocks[place] for place in blocks.evenly_spaced_indices(max(1, TOKENS // len(blocks[0])))]
    (source,), bad_rows = parse_sources([{"name": "general_text", "path": path}]), BadRows("skip")
    documents = list(itertools.islice(read_documents(source, bad_rows, 0), DOCUMENTS))
    bad_rows.check()
    if not documents:
        raise UserError("source_empty", f"general_text: no text in {path}", source="general_text")
    packed = document_blocks(model, tokenizer, documents)
    return packed[: max(1, TOKENS // len(packed[0]))]
