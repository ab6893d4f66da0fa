# SPDX-License-Identifier: Apache-2.0
"""A decoder against an encoder-decoder on the same pairs of sentences, for the same time.

The decoder reads "source, line break" and continues with the target; the encoder-decoder reads the source and writes the
target. Both learn the target alone, from the same rows in the same order, with the same optimizer and schedule.
"""

import copy
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from scratch_gpt import (
    ScratchGPTConfig,
    ScratchGPTEncoderDecoderConfig,
    ScratchGPTForCausalLM,
    ScratchGPTForConditionalGeneration,
)
from scratch_gpt.data.collators.packed import IGNORED
from scratch_gpt.data.rows.examples import example_rows
from scratch_gpt.data.sources.bad_rows import BadRows
from scratch_gpt.data.sources.source import Source
from scratch_gpt.errors import UserError
from scratch_gpt.evaluation.metrics.baselines import WordTranslation
from scratch_gpt.inference.generation import generate_answers
from scratch_gpt.primer import translation
from scratch_gpt.primer.tasks import TASKS
from scratch_gpt.settings.hardware import ComputeSettings
from scratch_gpt.tasks.scores import corpus_metrics, corpus_score, sentence_statistics
from scratch_gpt.tokenization import encode_plain
from scratch_gpt.training.pretrain.optimization import build_optimizer, warmup_stable_decay
from scratch_gpt.training.pretrain.shuffled_indices import ShuffledIndices


KINDS = ("decoder", "encoder-decoder")
# Parameters of the two may differ by this share.
TOLERANCE = 0.02
# Batches whose rows are sorted by length together: little padding, and still much chance.
BATCHES_TOGETHER = 16
# Parts of the budget: the schedule moves, and the development loss is measured, after each.
TICKS = 1000
MEASUREMENTS = 20
# What the budget is counted in: seconds that pass, or seconds that processors worked for this process (all threads
# together), which other work on the machine does not use up.
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
PRIMER_PAIRS = 10_000


class SentencePair(NamedTuple):
    """A sentence and its translation."""

    source: str
    target: str


class Corpus(NamedTuple):
    """Pairs to learn from, to choose the weights by, and to be judged by."""

    train: list[SentencePair]
    dev: list[SentencePair]
    test: list[SentencePair]


@dataclass(frozen=True)
class RaceSettings:
    """What both sides share; `seconds` are those of training steps alone, by the clock of that name in `CLOCKS`."""

    seconds: float
    clock: str
    seed: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    max_new_tokens: int
    hardware: ComputeSettings


class Result(NamedTuple):
    """What one model came to."""

    parameters: int
    steps: int
    epochs: float
    dev_loss: float
    scores: dict[str, float]


def primer_corpus(seed: int = 0) -> Corpus:
    """The embedded corpus's translations; the test split is that of `eval/translation.py`."""
    sides = {}
    for split in ("train", "dev"):
        rng = random.Random(f"{seed} {split}")
        drawn = (translation.pair(rng, split) for _ in range(PRIMER_PAIRS))
        sides[split] = list(dict.fromkeys(SentencePair(pair.english, f"{pair.german}.") for pair in drawn))
    task = TASKS["translation"]
    test = [SentencePair(task.source(example), example.references[0]) for example in task.examples("test")]
    return Corpus(sides["train"], sides["dev"][:500], test)


def file_corpus(source: Source, test_source: Source, bad_rows: BadRows, seed: int = 0) -> Corpus:
    """A file's translations: one in 20 rows of `source`, but 500 at most, choose the weights; `test_source` judges.

    Test sentences are taken out of the training side.

    Raises:
        UserError: a source that cannot be read, too few pairs.
    """
    rows, test = (
        [SentencePair(example.prompt, example.references[0]) for example in example_rows(entry, bad_rows)[1]]
        for entry in (source, test_source)
    )
    known = {pair.source for pair in test}
    rows = [pair for pair in dict.fromkeys(rows) if pair.source not in known]
    random.Random(seed).shuffle(rows)
    held_out = min(500, len(rows) // 20)
    if not held_out:
        message = f"source {source.name!r}: {len(rows)} pairs are too few, give at least 20"
        raise UserError("too_few_pairs", message, source=source.name, count=len(rows))
    return Corpus(rows[held_out:], rows[:held_out], test)


def build_models(
    configs: dict[str, dict[str, Any]], tokenizer: PreTrainedTokenizerFast, seed: int
) -> dict[str, PreTrainedModel]:
    """Both models, fresh.

    Raises:
        UserError: they differ in parameters by more than `TOLERANCE`.
    """
    ids = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    models: dict[str, PreTrainedModel] = {}
    torch.manual_seed(seed)
    models["decoder"] = ScratchGPTForCausalLM(
        ScratchGPTConfig(**configs["decoder"], vocab_size=len(tokenizer), **ids)
    )
    models["encoder-decoder"] = ScratchGPTForConditionalGeneration(
        ScratchGPTEncoderDecoderConfig(
            **configs["encoder-decoder"],
            vocab_size=len(tokenizer),
            decoder_start_token_id=tokenizer.pad_token_id,
            **ids,
        )
    )
    for model in models.values():
        model.set_attn_implementation("eager")  # faster than sdpa for sentences on a CPU
    sizes = {kind: model.num_parameters() for kind, model in models.items()}
    if max(sizes.values()) > (1 + TOLERANCE) * min(sizes.values()):
        raise UserError(
            "unequal_models",
            f"the models are not equal: {' and '.join(f'{size:,} parameters ({kind})' for kind, size in sizes.items())}; "
            "change intermediate_size or layers of one",
        )
    return models


def encode_rows(
    kind: str, pairs: list[SentencePair], tokenizer: PreTrainedTokenizerFast, positions: int
) -> list[dict[str, list[int]]]:
    """`input_ids` and `labels` of each pair, as this kind of model learns it.

    Raises:
        UserError: a pair that is longer than the model's positions.
    """
    end = [tokenizer.eos_token_id]
    sources = encode_plain(tokenizer, [prompt_of(kind, pair.source) for pair in pairs])
    targets = encode_plain(tokenizer, [pair.target for pair in pairs])
    rows = []
    for pair, source, target in zip(pairs, sources, targets, strict=True):
        if kind == "decoder":
            row = {"input_ids": source + target + end, "labels": [IGNORED] * len(source) + target + end}
        else:
            row = {"input_ids": source + end, "labels": target + end}
        if (longest := max(map(len, row.values()))) > positions:
            message = (
                f"a pair has {longest} tokens, the {kind} only {positions} positions: raise max_position_embeddings "
                f"({pair.source[:40]!r} ...)"
            )
            raise UserError("too_long", message, length=longest, limit=positions)
        rows.append(row)
    return rows


def prompt_of(kind: str, source: str) -> str:
    """What the model is given of a sentence."""
    return source + "\n" if kind == "decoder" else source


def batches(rows: list[dict[str, list[int]]], size: int, seed: int) -> Iterator[list[int]]:
    """Endless batches of row numbers, rows of similar length together; a function of the seed and the lengths."""
    order = ShuffledIndices(len(rows), seed)
    rng, position = np.random.default_rng(seed), 0
    while True:
        together = [order[position + offset] for offset in range(size * BATCHES_TOGETHER)]
        together.sort(key=lambda number: len(rows[number]["input_ids"]))
        for turn in rng.permutation(BATCHES_TOGETHER):
            yield together[turn * size : (turn + 1) * size]
        position += size * BATCHES_TOGETHER


def collate(rows: list[dict[str, list[int]]], pad: int, device: torch.device) -> dict[str, torch.Tensor]:
    """Right-padded `input_ids`, `attention_mask` and `labels`."""

    def padded(name: str, value: int) -> torch.Tensor:
        tensors = [torch.tensor(row[name]) for row in rows]
        return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=value).to(device)

    input_ids = padded("input_ids", pad)
    return {
        "input_ids": input_ids,
        "attention_mask": (input_ids != pad).long(),
        "labels": padded("labels", IGNORED),
    }


def compare_architecture(
    kind: str,
    model: PreTrainedModel,
    corpus: Corpus,
    tokenizer: PreTrainedTokenizerFast,
    settings: RaceSettings,
) -> Result:
    """Train one model for the given time, keep its best weights by the development loss, and judge its translations."""
    positions, pad, device = model.config.max_position_embeddings, tokenizer.pad_token_id, model.device
    train, dev = (encode_rows(kind, pairs, tokenizer, positions) for pairs in (corpus.train, corpus.dev))
    precision = settings.hardware.mixed_precision
    optimizer = build_optimizer(
        model, "muon", settings.learning_rate, settings.weight_decay, (0.9, 0.95), precision
    )
    peaks = [group["lr"] for group in optimizer.param_groups]
    torch.set_num_threads(settings.hardware.num_threads)
    torch.manual_seed(settings.seed)
    # The order is that of the encoder-decoder's rows for both, so that the batches hold the same pairs.
    lengths = encode_rows("encoder-decoder", corpus.train, tokenizer, positions)
    clock = CLOCKS[settings.clock]
    elapsed, steps, measured, best = 0.0, 0, 0, (float("inf"), model.state_dict())
    for numbers in batches(lengths, settings.batch_size, settings.seed):
        started = clock()
        factor = warmup_stable_decay(int(TICKS * elapsed / settings.seconds), TICKS, TICKS // 50, TICKS // 2)
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * factor
        with settings.hardware.autocast():
            target_loss(model.train(), collate([train[number] for number in numbers], pad, device)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        elapsed += clock() - started
        steps += 1
        if elapsed >= settings.seconds or elapsed >= (measured + 1) * settings.seconds / MEASUREMENTS:
            measured += 1
            loss = mean_loss(model, dev, settings.batch_size, pad)
            if loss < best[0]:
                best = (loss, copy.deepcopy(model.state_dict()))
        if elapsed >= settings.seconds:
            break
    model.load_state_dict(best[1])
    scores = translation_scores(
        [
            answer.text
            for answer in generate_answers(
                model.eval(),
                tokenizer,
                [prompt_of(kind, pair.source) for pair in corpus.test],
                chat=False,
                max_new_tokens=settings.max_new_tokens,
            )
        ],
        corpus.test,
    )
    epochs = steps * settings.batch_size / len(train)
    return Result(model.num_parameters(), steps, epochs, best[0], scores)


def target_loss(model: PreTrainedModel, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Mean nats of a batch's target tokens.

    The head runs on these alone: within `forward` a decoder's would make logits of the source and the padding too, a
    quarter of its step for nothing.
    """
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    labels = batch["labels"]
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = model.prepare_decoder_input_ids_from_labels(labels)
    hidden_states = model.base_model(**inputs, use_cache=False).last_hidden_state
    if not model.config.is_encoder_decoder:
        hidden_states, labels = hidden_states[:, :-1], labels[:, 1:]
    predicted = labels != IGNORED
    logits = model.lm_head(hidden_states[predicted]).float()
    return torch.nn.functional.cross_entropy(logits, labels[predicted])


@torch.no_grad()
def mean_loss(model: PreTrainedModel, rows: list[dict[str, list[int]]], batch_size: int, pad: int) -> float:
    """Nats a target token."""
    model.eval()
    nats, tokens = 0.0, 0
    for start in range(0, len(rows), batch_size):
        batch = collate(rows[start : start + batch_size], pad, model.device)
        count = int((batch["labels"] != IGNORED).sum())
        nats += target_loss(model, batch).item() * count
        tokens += count
    return nats / tokens


def translation_scores(predictions: list[str], pairs: list[SentencePair]) -> dict[str, float]:
    """BLEU and chrF of sacreBLEU."""
    references = [[pair.target] for pair in pairs]
    return {
        name: corpus_score(metric, sentence_statistics(metric, predictions, references))
        for name, metric in corpus_metrics().items()
    }


def race_table(name: str, corpus: Corpus, results: dict[str, list[Result]]) -> list[str]:
    """Markdown rows: the two trivial translators, then the models, mean and spread over the seeds."""
    words = WordTranslation([pair.source for pair in corpus.train], [pair.target for pair in corpus.train])
    trivial = {
        "copy the source": [pair.source for pair in corpus.test],
        "word by word": [words.translate(pair.source) for pair in corpus.test],
    }
    lines = []
    for what, predictions in trivial.items():
        scores = translation_scores(predictions, corpus.test)
        lines.append(f"| {name} | {what} | - | - | {scores['bleu']:.1f} | {scores['chrf']:.1f} |")
    for kind, rows in results.items():
        cells = [mean_and_spread([row.scores[metric] for row in rows]) for metric in ("bleu", "chrf")]
        steps = f"{mean(row.steps for row in rows):,.0f} ({mean(row.epochs for row in rows):.1f} passes)"
        lines.append(f"| {name} | {kind} | {rows[0].parameters:,} | {steps} | {' | '.join(cells)} |")
    return lines


def mean_and_spread(values: list[float]) -> str:
    """Mean and standard deviation."""
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def summarize(name: str, results: dict[str, list[Result]]) -> str:
    """Which kind wins, by how much, and by how much with each seed."""
    differences = [
        pair.scores["bleu"] - decoder.scores["bleu"]
        for decoder, pair in zip(results["decoder"], results["encoder-decoder"], strict=True)
    ]
    winner = KINDS[mean(differences) > 0]
    each = ", ".join(f"{difference:+.1f}" for difference in differences)
    return f"{name}: the {winner} wins by {abs(mean(differences)):.1f} BLEU (encoder-decoder minus decoder: {each})"
