# SPDX-License-Identifier: Apache-2.0
"""How much of a benchmark occurs in the training text, by runs of 13 words (Brown et al. 2020, appendix C).

Words are runs of letters and digits without case, and single characters in scripts without spaces. Memory is bounded by
the benchmark: the training text streams by.
"""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerFast

from scratch_gpt.data.shards.blocks import PackedBlocks
from scratch_gpt.errors import UserError
from scratch_gpt.evaluation.metrics.intervals import mean_metric
from scratch_gpt.runs.provenance import read_provenance
from scratch_gpt.runs.results import Metric
from scratch_gpt.tasks.example import Example
from scratch_gpt.tasks.words import words
from scratch_gpt.tokenization import END_OF_TEXT, PAD


# Words in a run, as GPT-3 takes them; an item with fewer is looked for as a whole, with fewer than 8 not at all.
LONGEST, SHORTEST = 13, 8
BLOCKS_AT_ONCE = 64


@dataclass(frozen=True)
class Overlap:
    """What the training text has of one item.

    Args:
        found: its runs of words that occur there.
        total: all its runs; none if the item is too short to tell.
    """

    found: int
    total: int

    @property
    def share(self) -> float:
        """Share of the runs that were found."""
        return self.found / self.total if self.total else 0.0


def word_hashes(text: str) -> np.ndarray:
    """CRC-32 of each word, uint64, shape (words,)."""
    return np.array([zlib.crc32(word.encode()) for word in words(text)], dtype=np.uint64)


def run_hashes(hashed: np.ndarray, length: int) -> np.ndarray:
    """A 64-bit hash of each run of `length` words, shape (words - length + 1,), empty if there are fewer words.

    The words' hashes are mixed in one after the other, modulo 2^64.
    """
    count = len(hashed) - length + 1
    if count < 1:
        return np.empty(0, dtype=np.uint64)
    hashes = np.zeros(count, dtype=np.uint64)
    for place in range(length):
        hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + hashed[place : place + count]
        hashes ^= hashes >> np.uint64(29)
    return hashes


def overlaps(items: Sequence[str], documents: Iterable[str]) -> list[Overlap]:
    """For each item, which of its runs of words occur in one of the documents."""
    hashed = [word_hashes(item) for item in items]
    lengths = [min(LONGEST, len(own)) for own in hashed]
    runs = [
        np.unique(run_hashes(own, length)) if length >= SHORTEST else np.empty(0, dtype=np.uint64)
        for own, length in zip(hashed, lengths, strict=True)
    ]
    wanted = {
        length: np.unique(
            np.concatenate([own for own, of in zip(runs, lengths, strict=True) if of == length])
        )
        for length in set(lengths)
        if length >= SHORTEST
    }
    seen = {length: np.zeros(len(hashes), dtype=bool) for length, hashes in wanted.items()}
    for document in documents:
        document_words = word_hashes(document)
        for length, hashes in wanted.items():
            read = run_hashes(document_words, length)
            places = np.minimum(np.searchsorted(hashes, read), len(hashes) - 1)
            seen[length][places[hashes[places] == read]] = True
    return [
        Overlap(int(seen[length][np.searchsorted(wanted[length], own)].sum()) if len(own) else 0, len(own))
        for own, length in zip(runs, lengths, strict=True)
    ]


def shard_documents(blocks: PackedBlocks, tokenizer: PreTrainedTokenizerFast) -> Iterator[str]:
    """The documents of packed blocks as text; of one that is longer than a block, its pieces."""
    end, pad = tokenizer.convert_tokens_to_ids([END_OF_TEXT, PAD])
    for start in range(0, len(blocks), BLOCKS_AT_ONCE):
        pieces = []
        for index in range(start, min(start + BLOCKS_AT_ONCE, len(blocks))):
            row = blocks[index]
            row = row[row != pad]
            pieces += [piece[piece != end] for piece in np.split(row, np.flatnonzero(row == end))]
        yield from tokenizer.batch_decode([piece for piece in pieces if len(piece)])


def item_texts(task: str, examples: Sequence[Example]) -> list[str]:
    """What is looked for: each question with its answer.

    Raises:
        UserError: no item is long enough to be looked for.
    """
    items = [f"{example.prompt} {example.references[0]}".strip() for example in examples]
    if all(len(words(item)) < SHORTEST for item in items):
        message = f"task {task!r}: no item has {SHORTEST} words, so none can be looked for"
        raise UserError("items_too_short", message, task=task)
    return items


def unsearched_sources(model: str, blocks: PackedBlocks) -> list[str]:
    """What else the model learned from: `STAGE (SOURCE, ...)` of each later stage, and other shards of its pretraining.

    Raises:
        UserError: by its provenance.json the model was pretrained on other blocks, or nothing is known of it.
    """
    records, own = read_provenance(model), blocks.manifest["content_hash"]
    # of several folders of shards, each has a hash
    folders = [record["data"].get("content_hashes", {}) for record in records]
    known = [record["data"].get("content_hash") for record in records]
    if own not in [*known, *(digest for folder in folders for digest in folder.values())]:
        message = (
            f"{model} was not trained on {blocks.folder}, as far as its provenance.json knows: give the shards of its "
            "pretraining, or leave --model out"
        )
        raise UserError("trained_on_other_shards", message, folder=model)
    unsearched = []
    for record, of_shards in zip(records, folders, strict=True):
        is_later = "content_hash" not in record["data"]
        names = [path for path, digest in of_shards.items() if digest != own]
        if is_later:
            names = [source["name"] for source in record["data"]["sources"]]
        if names or is_later:
            unsearched.append(f"{record['stage']} ({', '.join(names)})")
    return unsearched


def overlap_metrics(task: str, found: Sequence[Overlap], seed: int) -> dict[str, Metric]:
    """`TASK/contaminated`: share of the items with a run that occurs in the text; `TASK/overlap`: mean share of runs.

    Args:
        found: of items; at least one was long enough to be looked for.
    """
    judged = [overlap for overlap in found if overlap.total]
    return {
        f"{task}/contaminated": mean_metric([float(overlap.found > 0) for overlap in judged], seed),
        f"{task}/overlap": mean_metric([overlap.share for overlap in judged], seed),
    }
