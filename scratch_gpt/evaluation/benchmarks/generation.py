# SPDX-License-Identifier: Apache-2.0
"""Free text: bits per byte of held-out text; repetition, variety and coherence of story endings."""

import itertools
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from scratch_gpt.data.collators.packed import PackedCollator, needs_lengths, to_device
from scratch_gpt.data.shards.blocks import PackedBlocks
from scratch_gpt.data.shards.packing import pack
from scratch_gpt.data.sources.bad_rows import BadRows
from scratch_gpt.data.sources.source import Source, read_documents
from scratch_gpt.errors import UserError
from scratch_gpt.evaluation.harness import EvalArguments
from scratch_gpt.evaluation.metrics.baselines import gzip_bits_per_byte
from scratch_gpt.evaluation.metrics.intervals import bootstrap_ci, mean_metric, number_clusters
from scratch_gpt.inference.generation import generate_answers
from scratch_gpt.inference.likelihood import packed_nll
from scratch_gpt.inference.turns import end_of_turn, is_chat
from scratch_gpt.runs.results import Items, Metric
from scratch_gpt.settings.checking import Count
from scratch_gpt.tasks import scores
from scratch_gpt.tasks.example import Example
from scratch_gpt.tasks.task import Task
from scratch_gpt.tasks.words import first_units, units
from scratch_gpt.tokenization import document_end, encode_plain, token_byte_lengths


logger = logging.getLogger(__name__)

GENERATION_TASKS = ("stories",)

# What a model that finds every byte equally likely needs.
UNIFORM_BITS_PER_BYTE = 8.0

# Tokens in one forward pass: bounds the memory of the logits.
TOKENS_PER_BATCH = 4096

# Each text is compared to all others: the cost grows with the square.
SELF_BLEU_TEXTS = 100


@dataclass
class GenerationArguments(EvalArguments):
    """Settings of `eval/generation.py`; `sources` are texts here."""

    shards: str | None = field(
        default=None, metadata={"help": "Held-out blocks of the shards stage, such as shards/validation."}
    )
    limit: Count | None = field(
        default=256,
        metadata={
            "help": "Use the first N stories and documents of each source, and N blocks, evenly spaced."
        },
    )
    prompt_words: Count | None = field(
        default=None,
        metadata={"help": "Let the model continue the first N words of each document of the sources too."},
    )


def block_nll(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, blocks: Sequence[np.ndarray] | PackedBlocks
) -> np.ndarray:
    """Nats and bytes of each block, shape (blocks, 2).

    As in pretraining: end-of-document tokens cost bits and have no bytes, a document's first token is not counted.

    Args:
        blocks: token ids, each of shape (T,).

    Raises:
        UserError: an encoder-decoder, blocks longer than the model has positions, a model that gives NaN.
    """
    if model.config.is_encoder_decoder:
        message = "bits per byte of a text need a causal language model, this is an encoder-decoder"
        raise UserError("wrong_model", message, found=["encoder-decoder"])
    length, positions = len(blocks[0]), model.config.max_position_embeddings
    if length > positions:
        message = f"the blocks of text have {length} tokens, the model only {positions} positions"
        raise UserError("too_long", message, length=length, limit=positions)
    # Not the tokenizer's own end of sequence: that of a chat model is the end of a turn.
    collate = PackedCollator(
        document_end(tokenizer),
        tokenizer.pad_token_id,
        needs_lengths(model.config._attn_implementation),
    )
    lengths = torch.tensor(token_byte_lengths(tokenizer), device=model.device)
    size = max(1, TOKENS_PER_BATCH // length)
    rows = []
    for start in range(0, len(blocks), size):
        batch = collate([blocks[index] for index in range(start, min(start + size, len(blocks)))])
        nll = packed_nll(model, to_device(batch, model.device), lengths)
        rows.append(nll[:, [0, 2]].cpu())
    found = torch.cat(rows).numpy()
    if not np.isfinite(found).all():
        raise UserError(
            "model_not_finite",
            f"the model gives NaN or infinity in {(~np.isfinite(found[:, 0])).sum()} of {len(found)} blocks of text: its "
            "weights or its precision are broken",
        )
    return found


def bits_per_byte_metric(nll: np.ndarray, seed: int, baselines: dict[str, float] | None = None) -> Metric:
    """Bits per byte of blocks from their nats and bytes, shape (blocks, 2), with an interval over blocks."""
    return Metric(
        scores.bits_per_byte(*nll.sum(axis=0)),
        bootstrap_ci(nll, seed, lambda sums: scores.bits_per_byte(*sums)),
        UNIFORM_BITS_PER_BYTE,
        len(nll),
        baselines,
        items=Items("bits_per_byte", tuple(map(tuple, nll.tolist()))),
    )


def bits_per_byte(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    blocks: Sequence[np.ndarray] | PackedBlocks,
    seed: int,
) -> Metric:
    """Bits per byte of packed text; arguments and errors as for `block_nll`."""
    return bits_per_byte_metric(block_nll(model, tokenizer, blocks), seed)


def shards_metrics(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: str,
    limit: Count | None,
    seed: int,
) -> dict[str, Metric]:
    """`bits_per_byte` of a shards folder, and `SOURCE/bits_per_byte` of each of several sources with blocks of their own.

    Args:
        limit: number of blocks, evenly spaced over all, as the evaluations of pretraining take them.

    Raises:
        UserError: as for `PackedBlocks` and `block_nll`.
    """
    blocks = PackedBlocks(folder, tokenizer)
    chosen = blocks.evenly_spaced_indices(limit or len(blocks))
    nll = block_nll(model, tokenizer, [blocks[place] for place in chosen])
    metrics = {"bits_per_byte": bits_per_byte_metric(nll, seed)}
    sources = blocks.manifest["sources"]
    for source in sources if len(sources) > 1 else ():
        first, stop = source.get("block_range", (0, 0))
        own = [row for row, place in enumerate(chosen) if first <= place < stop]
        if own:
            metrics[f"{source['name']}/bits_per_byte"] = bits_per_byte_metric(nll[own], seed)
    return metrics


def document_blocks(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, documents: list[str]
) -> list[np.ndarray]:
    """Documents packed into blocks that the model has positions for."""
    end, start = document_end(tokenizer), tokenizer.bos_token_id
    # where a text has a beginning of its own, the model has never read one without it
    head = [] if start is None or start in (end, end_of_turn(tokenizer)) else [start]
    token_ids = [np.array([*head, *ids, end]) for ids in encode_plain(tokenizer, documents)]
    length = min(model.config.max_position_embeddings, TOKENS_PER_BATCH, max(map(len, token_ids)))
    pieces = [ids[start : start + length] for ids in token_ids for start in range(0, len(ids), length)]
    blocks = np.full((len(rows := pack(pieces, length)), length), tokenizer.pad_token_id)
    for block, row in zip(blocks, rows, strict=True):
        tokens = np.concatenate(row)
        block[: len(tokens)] = tokens
    return list(blocks)


def evaluate_text(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sources: Sequence[Source],
    arguments: GenerationArguments,
) -> dict[str, Metric]:
    """`bits_per_byte` on the shards' held-out blocks, and `SOURCE/bits_per_byte` of their sources and of each source here.

    What gzip needs is the baseline of the documents given here.

    Raises:
        UserError: shards or sources that cannot be used, a source without documents.
    """
    metrics: dict[str, Metric] = {}
    if arguments.shards:
        metrics |= shards_metrics(model, tokenizer, arguments.shards, arguments.limit, arguments.seed)
    for source in sources:
        bad_rows = BadRows(arguments.on_bad_row)
        documents = list(itertools.islice(read_documents(source, bad_rows, arguments.seed), arguments.limit))
        bad_rows.check()
        for line in bad_rows.report():
            logger.warning(line)
        if not documents:
            message = f"source {source.name!r}: no text in {source.path}"
            raise UserError("source_empty", message, source=source.name)
        nll = block_nll(model, tokenizer, document_blocks(model, tokenizer, documents))
        gzip = gzip_bits_per_byte("\n".join(documents).encode())
        metrics[f"{source.name}/bits_per_byte"] = bits_per_byte_metric(nll, arguments.seed, {"gzip": gzip})
        if arguments.prompt_words:
            metrics |= evaluate_continuations(model, tokenizer, source.name, documents, arguments)
    return metrics


def evaluate_continuations(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    name: str,
    documents: Sequence[str],
    arguments: GenerationArguments,
) -> dict[str, Metric]:
    """What the model makes of the beginnings of documents, sampled at temperature 1; the real texts are the baseline.

    Returns:
        `NAME/sampled_` repetition, distinct_1, distinct_2 and self_bleu. Of a real text, as many words count as the
        continuation of the same beginning has.

    Raises:
        UserError: no document is longer than its beginning.
    """
    count = arguments.prompt_words or 0
    long = [document for document in documents if len(units(document)) > count]
    if not long:
        message = f"source {name!r}: no document has more than prompt_words {count} words"
        raise UserError("documents_too_short", message, source=name)
    prompts = [first_units(document, count) for document in long]
    settings = arguments.generation_settings(temperature=1.0)
    answers = generate_answers(model, tokenizer, prompts, chat=False, **settings)
    texts = [answer.text for answer in answers]
    real = [
        " ".join(units(document)[count:][: len(units(text))])
        for document, text in zip(long, texts, strict=True)
    ]
    found, expected = diversity_metrics(texts, arguments.seed), diversity_metrics(real, arguments.seed)
    return {
        f"{name}/sampled_{measure}": metric._replace(baselines={"real_text": expected[measure].value})
        for measure, metric in found.items()
    }


def diversity_metrics(texts: Sequence[str], seed: int) -> dict[str, Metric]:
    """Repetition within a text; distinct-1, distinct-2 and self-BLEU over all texts (the latter over the first 100)."""
    return {
        "repetition": mean_metric([scores.repetition(text) for text in texts], seed),
        **{f"distinct_{order}": distinct_metric(texts, order) for order in (1, 2)},
        "self_bleu": mean_metric(scores.self_bleu(texts[:SELF_BLEU_TEXTS]), seed),
    }


def evaluate_stories(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    examples: Sequence[Example],
    arguments: EvalArguments,
) -> dict[str, Metric]:
    """Endings of stories, written greedily and sampled at temperature 1.

    Returns:
        For each of the two: the task's score with its interval and chance level, how often the ending is finished,
        the repetition within an ending, and distinct-1, distinct-2 and self-BLEU over all endings.
    """
    chat = is_chat(tokenizer)
    chance = task.chance(task, examples)
    clusters = number_clusters(example.key for example in examples)
    metrics = {}
    for mode, temperature in (("greedy", 0.0), ("sampled", 1.0)):
        settings = arguments.generation_settings(temperature)
        answers = generate_answers(model, tokenizer, task.prompts(examples, chat), chat=chat, **settings)
        endings = [answer.text for answer in answers]
        rows = [task.score(*pair) for pair in zip(endings, examples, strict=True)]
        prefix, seed = f"{task.name}/{mode}_", arguments.seed
        for name in rows[0]:
            metrics[f"{prefix}{name}"] = mean_metric(
                [row[name] for row in rows], seed, chance[name], clusters=clusters
            )
        finished = [float(answer.finished) for answer in answers]
        metrics[f"{prefix}finished"] = mean_metric(finished, seed, clusters=clusters)
        for name, metric in diversity_metrics(endings, seed).items():
            metrics[f"{prefix}{name}"] = metric
    return metrics


def distinct_metric(texts: Sequence[str], order: int) -> Metric:
    """Distinct-n over all texts with a jackknife interval (Efron & Stein 1981).

    A bootstrap would draw texts twice, which lowers the share of different n-grams by itself.
    """
    counts = [Counter(scores.ngrams(text, order)) for text in texts]
    total = sum(counts, Counter())
    value = scores.distinct(texts, order)
    # an n-gram is lost with a text if all its occurrences are in that text
    lost = np.array([sum(total[gram] == times for gram, times in own.items()) for own in counts])
    size = np.array([own.total() for own in counts])
    without = (len(total) - lost) / np.maximum(total.total() - size, 1)
    half = 1.96 * float(np.sqrt((len(texts) - 1) / len(texts) * ((without - without.mean()) ** 2).sum()))
    return Metric(value, (max(0.0, value - half), min(1.0, value + half)), n=len(texts))
