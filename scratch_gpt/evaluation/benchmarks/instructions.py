# SPDX-License-Identifier: Apache-2.0
"""What instruction tuning taught: how likely held-out answers are, and whether a model's own look like them.

Shapes: B conversations in a batch, T tokens of the longest of them.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from scratch_gpt.data.collators.packed import IGNORED
from scratch_gpt.data.rows.splits import Row, check_held_out, drop_long_rows
from scratch_gpt.errors import UserError
from scratch_gpt.evaluation.benchmarks.generation import distinct_metric
from scratch_gpt.evaluation.harness import SEED, EvalArguments
from scratch_gpt.evaluation.metrics.intervals import bootstrap_ci, mean_metric
from scratch_gpt.inference.chat_format import check_chat_format, context_length, encode_conversation
from scratch_gpt.inference.generation import gathered, generate_answers, own_batches, padded
from scratch_gpt.inference.likelihood import row_sums
from scratch_gpt.inference.prompts import first_question
from scratch_gpt.inference.turns import is_chat, training_tokenizer
from scratch_gpt.runs.results import Items, Metric
from scratch_gpt.settings.checking import Count, NotNegative
from scratch_gpt.tasks.scores import distinct, repetition, token_f1
from scratch_gpt.tasks.words import units


@dataclass
class InstructionArguments(EvalArguments):
    """Settings of `eval/instructions.py`; `sources` and what is held out are those of the sft stage."""

    held_out_fraction: float = field(
        default=0.05, metadata={"help": "As in the sft stage: a file's share of rows in the test split."}
    )
    max_length: Count | None = field(
        default=None,
        metadata={
            "help": "Longest row in tokens, as in the sft stage; longer ones are left out. Default: the context."
        },
    )
    limit: Count | None = field(
        default=300,
        metadata={"help": "Answer this many questions, drawn by the seed; the loss is of all rows."},
    )
    max_new_tokens: Count = field(default=128, metadata={"help": "Longest answer, in tokens."})
    temperature: NotNegative = field(
        default=0.3, metadata={"help": "Of the answers; 0.3 is what a chat model samples at by itself."}
    )
    max_train_samples = None  # nothing is trained; the stages' reader asks for it

    def __post_init__(self) -> None:
        super().__post_init__()
        self.sources = self.sources or [{"name": "primer", "path": "primer"}]
        for model in self.model:
            for seed in self.seeds or [self.seed]:
                check_held_out(model.replace(SEED, str(seed)), self.sources, seed, self.held_out_fraction)


def evaluate_instructions(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    rows: Sequence[Row],
    arguments: InstructionArguments,
) -> dict[str, Metric]:
    """Measure one model on held-out rows of `instruction_rows`.

    Returns:
        `loss` and `SOURCE/loss`, in nats a token of the answers; of a chat model also what it writes to the rows' first
        questions: finished, length, repetition, distinct_2 and f1 against the reply. The replies themselves are the
        baseline `references`; for `f1` chance is the reply to another question. A base model cannot end an answer, so of
        it the loss is all: of the same tokens in the same chat format.

    Raises:
        UserError: an encoder-decoder, a tokenizer that cannot carry conversations, no row that fits into `max_length`.
    """
    if model.config.is_encoder_decoder:
        message = "conversations need a causal language model, this is an encoder-decoder"
        raise UserError("wrong_model", message, found=["encoder-decoder"])
    folder = str(model.name_or_path)
    taught = training_tokenizer(tokenizer)
    check_chat_format(taught, folder)
    measure, longest = partial(encode_conversation, taught), context_length(model, arguments.max_length)
    splits = {"test": list(rows)}
    rows = drop_long_rows(splits, measure, longest, arguments)["test"]  # type: ignore[arg-type]  # trains nothing
    nll = answer_nll(model, tokenizer, rows, arguments.batch_size)
    names = np.array([row["source"] for row in rows])
    metrics = {"loss": loss_metric(nll, arguments.seed)}
    if len(set(names)) > 1:
        for name in dict.fromkeys(names.tolist()):
            metrics[f"{name}/loss"] = loss_metric(nll[names == name], arguments.seed)
    asked = [row for row in rows if first_question(row).example]
    if asked and is_chat(tokenizer):
        random.Random(arguments.seed).shuffle(asked)
        written = answers_metrics(
            model, tokenizer, asked[: arguments.limit], **arguments.generation_settings()
        )
        # another seed asks other questions: these numbers are shown side by side, and not tested item by item
        metrics |= {name: metric._replace(items=None) for name, metric in written.items()}
    return metrics


@torch.inference_mode()
def answer_nll(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, rows: Sequence[Row], batch_size: int
) -> np.ndarray:
    """Nats and number of the learned tokens of each row of `encode_conversation`: shape (rows, 2)."""
    nll: dict[int, Any] = {}
    for _, batch in own_batches([-row["length"] for row in rows], batch_size):
        inputs = padded(
            [rows[index]["input_ids"] for index in batch], tokenizer.pad_token_id, "right", model.device
        )
        width = inputs["input_ids"].shape[1]
        labels = torch.full((len(batch), width), IGNORED)
        for number, index in enumerate(batch):
            labels[number, : rows[index]["length"]] = torch.tensor(rows[index]["labels"])
        labels = labels[:, 1:].to(model.device)  # (B, T - 1)
        logits = model(**inputs, use_cache=False).logits[:, :-1].float()
        nats = torch.nn.functional.cross_entropy(
            logits.transpose(1, 2), labels, ignore_index=IGNORED, reduction="none"
        )
        sums = row_sums(nats, labels != IGNORED)
        nll |= dict(zip(batch, sums.tolist(), strict=True))
    return np.array(gathered(nll))


def loss_metric(nll: np.ndarray, seed: int) -> Metric:
    """Nats a token from nats and tokens of each row, shape (rows, 2), with an interval over rows."""

    def ratio(sums: np.ndarray) -> float:
        return float(sums[0] / sums[1])

    items = Items("ratio", tuple(map(tuple, nll.tolist())))
    return Metric(ratio(nll.sum(axis=0)), bootstrap_ci(nll, seed, ratio), n=len(nll), items=items)


def answers_metrics(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    rows: Sequence[Row],
    seed: int,
    **generation: Any,
) -> dict[str, Metric]:
    """What a chat model writes to the rows' first questions, beside the replies of the rows.

    Args:
        rows: with a reply; `first_question` makes an example of each.
        generation: settings of `generate_answers`.
    """
    asked = [first_question(row) for row in rows]
    replies = [prompt.example.references[0] for prompt in asked if prompt.example]
    answers = generate_answers(
        model, tokenizer, [prompt.messages for prompt in asked], chat=True, seed=seed, **generation
    )
    texts = [answer.text for answer in answers]

    def f1(written: Sequence[str]) -> list[float]:
        return [token_f1(text, [reply]) for text, reply in zip(written, replies, strict=True)]

    def length(text: str) -> float:
        return float(len(units(text)))

    metrics = {
        "finished": mean_metric([float(answer.finished) for answer in answers], seed),
        "f1": mean_metric(f1(texts), seed, chance=float(np.mean(f1(replies[1:] + replies[:1])))),
    }
    expected = {"distinct_2": distinct(replies, 2)}
    for name, measure in (("length", length), ("repetition", repetition)):
        metrics[name] = mean_metric([measure(text) for text in texts], seed, share=name != "length")
        expected[name] = float(np.mean([measure(reply) for reply in replies]))
    metrics["distinct_2"] = distinct_metric(texts, 2)
    for name, value in expected.items():
        metrics[name] = metrics[name]._replace(baselines={"references": value})
    return metrics
