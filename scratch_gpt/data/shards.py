# SPDX-License-Identifier: Apache-2.0
"""Shards: documents as packed blocks of tokens on disk, written once, memory-mapped by the training loop.

A document is its plain tokens and then END_OF_TEXT. Documents are packed whole into rows of `sequence_length` tokens
by best fit, so that no document loses its beginning to the row before (Ding et al. 2024, "Fewer Truncations Improve
Language Modeling"); only a document longer than a row is cut, into full rows and a rest. What stays free in a row is
filled with PAD. So within a row a new document begins at column 0 and after each END_OF_TEXT.
"""

import bisect
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from transformers import PreTrainedTokenizerFast

from scratch_gpt.data.folders import written_whole
from scratch_gpt.data.mixture import Mixture
from scratch_gpt.data.sources import BadRows, Source, parse_sources, read_documents
from scratch_gpt.errors import UserError
from scratch_gpt.tokenization import END_OF_TEXT, PAD, encode_plain, load_tokenizer, tokenizer_hash
from scratch_gpt.training.arguments import ShardsArguments, write_run_yaml


# Text that is tokenized at once, and tokens that wait to be packed: they bound the memory.
BATCH_BYTES = 1 << 20
BUFFER_TOKENS = 1 << 20
# Repeating a source up to four times is nearly as good as fresh text, beyond that it soon adds nothing
# (Muennighoff et al. 2023, "Scaling Data-Constrained Language Models").
GOOD_EPOCHS = 4


class PackedBlocks:
    """The blocks of one split, as a sequence of int64 arrays of shape (sequence_length,).

    Args:
        folder: `train` or `validation` in the shards folder.

    Raises:
        UserError: the folder holds no complete shards.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        tokens, manifest = self.folder / "tokens.bin", self.folder / "manifest.json"
        if not manifest.is_file():
            raise UserError(
                f"no complete shards in {folder} (manifest.json is missing): run the shards stage first"
            )
        self.manifest: dict[str, Any] = json.loads(manifest.read_text(encoding="utf-8"))
        dtype = np.dtype(self.manifest["dtype"])
        shape = (self.manifest["blocks"], self.manifest["sequence_length"])
        if not shape[0]:
            raise UserError(f"the shards in {folder} hold no block: write more text")
        expected = shape[0] * shape[1] * dtype.itemsize
        size = tokens.stat().st_size if tokens.is_file() else 0
        if size != expected:
            raise UserError(
                f"{tokens} has {size} bytes, its manifest says {expected}: run the shards stage again"
            )
        self._blocks = np.memmap(tokens, dtype=dtype, mode="r", shape=shape)

    def __len__(self) -> int:
        return len(self._blocks)

    def __getitem__(self, index: int) -> np.ndarray:
        return self._blocks[index].astype(np.int64)


def pack(pieces: list[np.ndarray], sequence_length: int) -> list[list[np.ndarray]]:
    """Distribute pieces over rows by best-fit decreasing: each goes where it leaves the least room.

    Args:
        pieces: arrays of at most `sequence_length` tokens.

    Returns:
        The rows, each a list of whole pieces of together at most `sequence_length` tokens.
    """
    rows: list[list[np.ndarray]] = []
    free: list[tuple[int, int]] = []  # (room left, row), sorted; full rows are not in it
    for piece in sorted(pieces, key=len, reverse=True):
        place = bisect.bisect_left(free, (len(piece), -1))
        if place == len(free):
            room, row = sequence_length, len(rows)
            rows.append([])
        else:
            room, row = free.pop(place)
        rows[row].append(piece)
        if room > len(piece):
            bisect.insort(free, (room - len(piece), row))
    return rows


@dataclass
class _SourceCounts:
    documents: int = 0
    tokens: int = 0
    bytes: int = 0


@dataclass
class _SplitWriter:
    """Packs the documents of one split and writes its two files."""

    folder: Path
    sequence_length: int
    dtype: str
    end_of_text_id: int
    pad_token_id: int
    random: np.random.Generator
    counts: dict[str, _SourceCounts]
    buffer: list[np.ndarray] = field(default_factory=list)
    buffered: int = 0
    blocks: int = 0
    padding: int = 0

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        self.hash = hashlib.sha256()

    @property
    def tokens(self) -> int:
        return sum(counts.tokens for counts in self.counts.values())

    def add(self, source: Source, size: int, ids: list[int]) -> None:
        """Take one document of `size` bytes with the plain tokens `ids`."""
        document = np.array([*ids, self.end_of_text_id], dtype=self.dtype)
        counts = self.counts[source.name]
        counts.documents += 1
        counts.tokens += len(document)
        counts.bytes += size
        self.buffer += [
            document[start : start + self.sequence_length]
            for start in range(0, len(document), self.sequence_length)
        ]
        self.buffered += len(document)
        if self.buffered >= BUFFER_TOKENS:
            self.flush()

    def flush(self) -> None:
        """Write the waiting pieces as rows, in random order: packing put the longest first."""
        rows = pack(self.buffer, self.sequence_length)
        block = np.full((len(rows), self.sequence_length), self.pad_token_id, dtype=self.dtype)
        for row, place in zip(rows, self.random.permutation(len(rows)), strict=True):
            tokens = np.concatenate(row)
            block[place, : len(tokens)] = tokens
        data = block.tobytes()
        with (self.folder / "tokens.bin").open("ab") as file:
            file.write(data)
        self.hash.update(data)
        self.blocks += len(rows)
        self.padding += block.size - self.buffered
        self.buffer, self.buffered = [], 0

    def finish(
        self, sources: list[dict[str, Any]], arguments: ShardsArguments, tokenizer: PreTrainedTokenizerFast
    ) -> None:
        """Write what is left, and then the manifest."""
        self.flush()
        all_bytes = sum(counts.bytes for counts in self.counts.values())
        manifest = {
            "sources": [
                {
                    **source,
                    "weight_consumed": self.counts[source["name"]].bytes / all_bytes,
                    **vars(self.counts[source["name"]]),
                }
                for source in sources
            ],
            "documents": sum(counts.documents for counts in self.counts.values()),
            "tokens": self.tokens,
            "bytes": all_bytes,
            "blocks": self.blocks,
            "padding_tokens": self.padding,
            "sequence_length": self.sequence_length,
            "tokenizer_hash": tokenizer_hash(tokenizer),
            "vocab_size": len(tokenizer),
            "seed": arguments.seed,
            "dtype": self.dtype,
            "content_hash": self.hash.hexdigest(),
        }
        text = json.dumps(manifest, indent=2, ensure_ascii=False)
        (self.folder / "manifest.json").write_text(text + "\n", encoding="utf-8")


def held_out(text: str, fraction: float) -> bool:
    """Whether a text belongs to the held-out share: decided by its hash, so equal texts are on the same side."""
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < fraction * 2**64


def write_shards(arguments: ShardsArguments) -> list[str]:
    """Tokenize and pack the sources into `output_dir/{train,validation}`, in flat memory.

    The folder appears under its name only when it is complete.

    Args:
        arguments: with `max_tokens`, sources are repeated until the training side has so many tokens; without,
            the first source to be used up ends the run.

    Returns:
        Lines for the terminal: what was written, repeated and left out.

    Raises:
        UserError: a setting that cannot work, sources that cannot be read, an `output_dir` that holds other things,
            an empty side.
    """
    sources = _check(arguments)
    tokenizer = load_tokenizer(str(arguments.tokenizer))
    bad_rows = BadRows(arguments.on_bad_row)
    mixture = Mixture(
        sources,
        lambda source: read_documents(source, bad_rows, arguments.seed),
        stop="never" if arguments.max_tokens else "first_used_up",
    )
    with written_whole(str(arguments.output_dir), ("train", "validation", "run.yaml")) as folder:
        train, validation = _writers(folder, mixture, tokenizer, arguments)
        used_bytes = _fill(train, validation, mixture, tokenizer, arguments)
        bad_rows.check()
        if not train.tokens or not validation.tokens:
            side, cure = ("validation", "raise") if train.tokens else ("training", "lower")
            raise UserError(
                f"the {side} side is empty: {cure} validation_fraction, now {arguments.validation_fraction}, "
                "or give more text"
            )
        described = _described(mixture, used_bytes, bad_rows)
        for writer in (train, validation):
            writer.finish(described, arguments, tokenizer)
        write_run_yaml(arguments, folder)
    return _summary(train, validation, described) + bad_rows.report()


def _writers(
    folder: Path, mixture: Mixture, tokenizer: PreTrainedTokenizerFast, arguments: ShardsArguments
) -> tuple[_SplitWriter, _SplitWriter]:
    train, validation = (
        _SplitWriter(
            folder=folder / split,
            sequence_length=arguments.sequence_length,
            dtype="uint16" if len(tokenizer) <= 1 << 16 else "uint32",
            end_of_text_id=tokenizer.convert_tokens_to_ids(END_OF_TEXT),
            pad_token_id=tokenizer.convert_tokens_to_ids(PAD),
            random=np.random.default_rng(arguments.seed),
            counts={source.name: _SourceCounts() for source in mixture.sources},
        )
        for split in ("train", "validation")
    )
    return train, validation


def _described(mixture: Mixture, used_bytes: dict[str, int], bad_rows: BadRows) -> list[dict[str, Any]]:
    total_weight = sum(source.weight for source in mixture.sources)
    return [
        {
            "name": source.name,
            "path": source.path,
            "weight_asked": source.weight / total_weight,
            "epochs": mixture.epochs(source, used_bytes[source.name]),
            "bad_rows": bad_rows.count(source.name),
        }
        for source in mixture.sources
    ]


def _check(arguments: ShardsArguments) -> list[Source]:
    sources = parse_sources(arguments.sources)  # type: ignore[arg-type]  # a list once the arguments are parsed
    if arguments.sequence_length < 2:
        raise UserError(f"sequence_length must be at least 2, got {arguments.sequence_length}")
    if arguments.max_tokens is not None and arguments.max_tokens < 1:
        raise UserError(f"max_tokens must be at least 1, got {arguments.max_tokens}")
    if not 0 < arguments.validation_fraction < 1:
        raise UserError(f"validation_fraction must be between 0 and 1, got {arguments.validation_fraction}")
    if arguments.max_tokens is None and all(source.path == "primer" for source in sources if source.weight):
        raise UserError("max_tokens is missing: the primer is endless, so say how many tokens to write")
    return sources


def _fill(
    train: _SplitWriter,
    validation: _SplitWriter,
    mixture: Mixture,
    tokenizer: PreTrainedTokenizerFast,
    arguments: ShardsArguments,
) -> dict[str, int]:
    """Read, tokenize and add documents until the mixture ends or `max_tokens` are reached; bytes used per source."""
    columns = (
        TextColumn("{task.fields[tokens]:,} tokens, {task.fields[speed]:.1f} MB/s"),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    used_bytes = dict.fromkeys(train.counts, 0)
    with Progress(*columns) as progress:
        task = progress.add_task("shards", total=arguments.max_tokens, tokens=0, speed=0.0)
        for batch in _batches(mixture):
            ids_of_batch = encode_plain(tokenizer, [text for _, text, _ in batch])
            for (source, text, first_pass), ids in zip(batch, ids_of_batch, strict=True):
                size = len(text.encode())
                used_bytes[source.name] += size
                if not held_out(text, arguments.validation_fraction):
                    train.add(source, size, ids)
                elif first_pass:
                    validation.add(source, size, ids)
                if arguments.max_tokens and train.tokens >= arguments.max_tokens:
                    break
            speed = sum(used_bytes.values()) / 1e6 / (progress.tasks[task].elapsed or 1e-9)
            progress.update(task, completed=train.tokens, tokens=train.tokens, speed=speed)
            if arguments.max_tokens and train.tokens >= arguments.max_tokens:
                break
    return used_bytes


def _batches(mixture: Mixture) -> Iterator[list[tuple[Source, str, bool]]]:
    """Documents in lists of about BATCH_BYTES, each with whether it is met for the first time."""
    documents = ((source, text, mixture.first_pass(source)) for source, text in mixture)
    while True:
        goal = sum(mixture.consumed.values()) + BATCH_BYTES
        batch = []
        for document in documents:
            batch.append(document)
            if sum(mixture.consumed.values()) >= goal:
                break
        if not batch:
            return
        yield batch


def _summary(train: _SplitWriter, validation: _SplitWriter, described: list[dict[str, Any]]) -> list[str]:
    lines = []
    for name, writer in (("train", train), ("validation", validation)):
        padding = writer.padding / (writer.blocks * writer.sequence_length)
        lines.append(f"{name}: {writer.tokens:,} tokens in {writer.blocks:,} blocks, {padding:.1%} padding")
    for source in described:
        if source["epochs"] and source["epochs"] > GOOD_EPOCHS:
            lines.append(
                f"warning: source {source['name']!r} is repeated {source['epochs']:.1f} times; beyond {GOOD_EPOCHS} "
                "times repeated text teaches little: lower its weight or max_tokens"
            )
    return lines
