# SPDX-License-Identifier: Apache-2.0
"""Shards: documents as packed blocks of tokens on disk, written once, memory-mapped by the training loop.

A document is its plain tokens and then the one that ends it; see `packing` for how documents share a block. Within a block a new
document begins at column 0 and after each end.

Memory does not grow with the text, but for 9 to 14 bytes a document that the hashes of seen texts take. The bytes
written depend on the arguments and the text alone: not on the number of cores, nor on interruptions, nor on slices.
"""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterable
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

from scratch_gpt.data.shards.arguments import ShardsArguments
from scratch_gpt.data.shards.blocks import PackedBlocks
from scratch_gpt.data.shards.corpus import (
    BAD_ROW,
    Corpus,
    Document,
    Reader,
    open_corpus,
    token_dtype,
    token_reader,
    tokenize,
    work_ahead,
)
from scratch_gpt.data.shards.document_tokenizer import load_document_tokenizer
from scratch_gpt.data.shards.packing import Packer, SourceCounts, join
from scratch_gpt.data.shards.slices import check_slices, record_reader, slice_folder, write_slice
from scratch_gpt.data.sources.bad_rows import BadRows
from scratch_gpt.data.sources.hub import pin_commits
from scratch_gpt.data.sources.source import ROW_SETTINGS, Source, parse_sources
from scratch_gpt.data.sources.token_files import hold_tokens
from scratch_gpt.errors import UserError
from scratch_gpt.runs.folders import (
    PROGRESS,
    atomic_directory,
    has_settings,
    load_progress,
    save_progress,
    write_run_yaml,
)
from scratch_gpt.settings.sources import PRIMER
from scratch_gpt.tokenization import tokenizer_hash


# Keeps the order of the rows apart from that in which pretraining reads them: drawn from the same numbers, the second
# permutation undid the first, and a text of one buffer was read from its beginning to its end.
STREAM = 4
# Batches between two records of progress.
CHECKPOINT_BATCHES = 64
# Repeating a source up to four times is nearly as good as fresh text, beyond that it soon adds nothing
# (Muennighoff et al. 2023, "Scaling Data-Constrained Language Models").
GOOD_EPOCHS = 4


def held_out(text_hash: int, fraction: float) -> bool:
    """Whether a text belongs to the held-out share: decided by its hash, so equal texts are on the same side."""
    return text_hash < fraction * 2**64


def write_shards(arguments: ShardsArguments) -> list[str]:
    """Tokenize and pack the sources into `output_dir/{train,validation}`; or write one slice, or merge all slices.

    The folder appears under its name only when it is complete. After an interruption the same call resumes; where
    nothing is left to do, it does nothing.

    Args:
        arguments: with `max_tokens`, sources are repeated until the training side has that many tokens; without,
            the first source to be used up ends the run.

    Returns:
        Lines for the terminal: what was written, repeated and left out.

    Raises:
        UserError: a setting that cannot work, sources that cannot be read, an `output_dir` that holds other things,
            an empty side, a disk that is full or not writable.
    """
    sources = _check(arguments)
    tokenizer = load_document_tokenizer(str(arguments.tokenizer))
    bad_rows = BadRows(arguments.on_bad_row)
    settings: dict[str, Any] = {
        "tokenizer_hash": tokenizer_hash(tokenizer),
        # The weights, and what is a duplicate, are asked by the merge alone.
        "sources": [
            {
                **dataclasses.asdict(source),
                "weight": source.is_used,
                "deduplicate": None,
                "held_out": None,
            }
            for source in sources
        ],
        "files": [[str(file), file.stat().st_size] for source in sources for file in source.files],
        "on_bad_row": arguments.on_bad_row,
        "num_slices": arguments.num_slices,
    }
    output_dir = str(arguments.output_dir)
    if arguments.num_slices and arguments.slice is not None:
        folder = slice_folder(output_dir, arguments.slice, arguments.num_slices)
        place = (arguments.slice, arguments.num_slices)
        line = write_slice(folder, sources, tokenizer, bad_rows, settings, *place)
        return [line, *bad_rows.report()]
    names = ("sequence_length", "max_tokens", "validation_fraction", "seed")
    all_settings = settings | {name: getattr(arguments, name) for name in names}
    if not arguments.shuffle:  # named only then, so that shards written before it was a setting stay complete
        all_settings["shuffle"] = False
    all_settings["mixture"] = [[source.weight, source.deduplicate, source.held_out] for source in sources]
    if has_settings(output_dir, all_settings) and _is_whole(Path(output_dir)):
        return [f"complete already: {output_dir}; remove it to write it again"]
    slices = check_slices(output_dir, arguments.num_slices, settings, sources) if arguments.num_slices else []

    def reader_of(number: int, source: Source) -> Reader | None:
        if slices and source.path != PRIMER:
            return record_reader(slices, number, token_dtype(tokenizer))
        if hold_tokens(source.files):
            return token_reader(source, tokenizer)
        return None

    with atomic_directory(output_dir, ("train", "validation", "run.yaml"), all_settings) as folder:
        stop = "never" if arguments.max_tokens else "first_exhausted"
        progress = load_progress(folder)
        pin_commits(sources, progress[0]["commits"] if progress else {})
        corpus = open_corpus(sources, bad_rows, arguments.seed, stop, folder / PROGRESS, reader_of)
        run = _Run(folder, corpus, tokenizer, arguments)
        lines = run.resume()
        run.fill()
        bad_rows.check()
        described = run.finish()
        write_run_yaml(arguments, folder)
    return lines + _summary(run, described) + bad_rows.report()


def _check(arguments: ShardsArguments) -> list[Source]:
    sources = parse_sources(arguments.sources, ROW_SETTINGS)
    trained_on = [source for source in sources if source.weight and not source.held_out]
    if arguments.max_tokens is None and all(source.path == PRIMER for source in trained_on):
        message = "max_tokens is missing: the primer is endless, so say how many tokens to write"
        raise UserError("setting_missing", message, setting="max_tokens")
    if arguments.shuffle and any(source.path == PRIMER and source.subset for source in trained_on):
        message = "subset: curriculum puts the primer in an order that shuffling undoes: set shuffle: false"
        raise UserError("setting_without_effect", message, setting="subset")
    return sources


def _is_whole(folder: Path) -> bool:
    """Whether both splits have the bytes that their manifests describe."""
    for split in ("train", "validation"):
        try:
            manifest = PackedBlocks(folder / split, may_be_empty=True).manifest
        except ValueError:
            return False
        with (folder / split / "tokens.bin").open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != manifest["content_hash"]:
                return False
    return True


class _Run:
    """The state of writing both splits."""

    def __init__(
        self, folder: Path, corpus: Corpus, tokenizer: PreTrainedTokenizerFast, arguments: ShardsArguments
    ) -> None:
        self.folder, self.corpus, self.tokenizer, self.arguments = folder, corpus, tokenizer, arguments

        def packer(file: Path, sources: Iterable[str]) -> Packer:
            return Packer(
                file=file,
                sequence_length=arguments.sequence_length,
                dtype=token_dtype(tokenizer),
                pad_token_id=tokenizer.pad_token_id,
                random=np.random.default_rng([arguments.seed, 0, STREAM]),
                counts={name: SourceCounts() for name in sources},
                shuffle=arguments.shuffle,
            )

        self.train = packer(folder / "train" / "tokens.bin", corpus.streams)
        # Held-out documents share no block with those of another source, so that each source can be measured.
        self.validation = {
            name: packer(folder / PROGRESS / f"validation-{number}.bin", [name])
            for number, name in enumerate(corpus.streams)
        }
        self.used_bytes = dict.fromkeys(corpus.streams, 0)

    @property
    def packers(self) -> dict[str, Packer]:
        """All of both splits, by a name of their own."""
        return {"train": self.train} | {f"validation/{name}": each for name, each in self.validation.items()}

    @property
    def done(self) -> bool:
        """Whether the training side has all the tokens that were asked for."""
        return self.arguments.max_tokens is not None and self.train.tokens >= self.arguments.max_tokens

    def resume(self) -> list[str]:
        """Return to where an interrupted run was recorded last; a line for the terminal if there was one."""
        progress = load_progress(self.folder)
        if progress is None:
            return []
        values, arrays = progress
        self.used_bytes = values["used_bytes"]
        self.corpus.restore(values["corpus"])
        for stream in self.corpus.streams.values():
            stream.remember()
        for name, packer in self.packers.items():
            own = {key.removeprefix(name + "."): array for key, array in arrays.items()}
            packer.restore(values[name], own)
        return [f"resumed after {sum(self.used_bytes.values()) / 1e6:,.1f} MB of an interrupted run"]

    def save(self, corpus_state: dict[str, Any]) -> None:
        """Record the progress."""
        commits = {name: stream.source.commit for name, stream in self.corpus.streams.items()}
        values: dict[str, Any] = {"used_bytes": self.used_bytes, "corpus": corpus_state, "commits": commits}
        arrays: dict[str, np.ndarray] = {}
        for name, packer in self.packers.items():
            packer.sync()
            values[name], own = packer.state()
            arrays |= {f"{name}.{key}": array for key, array in own.items()}
        for stream in self.corpus.streams.values():
            stream.flush()
        save_progress(self.folder, values, arrays)

    def fill(self) -> None:
        """Read, tokenize and add documents until the mixture ends or `max_tokens` are reached."""
        columns = (
            TextColumn("{task.fields[tokens]:,} tokens, {task.fields[speed]:.1f} MB/s"),
            BarColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        before = sum(self.used_bytes.values())
        batches = work_ahead(
            self.corpus.batches(), lambda batch: tokenize(self.tokenizer, [each for _, each in batch[0]])
        )
        with Progress(*columns) as progress:
            task = progress.add_task("shards", total=self.arguments.max_tokens, tokens=0, speed=0.0)
            for count, (batch, state) in enumerate(batches, start=1):
                for source, document in batch:
                    self.add(source.name, document)
                    if self.done:
                        break
                speed = (
                    (sum(self.used_bytes.values()) - before) / 1e6 / (progress.tasks[task].elapsed or 1e-9)
                )
                progress.update(task, completed=self.train.tokens, tokens=self.train.tokens, speed=speed)
                if self.done:
                    break
                if count % CHECKPOINT_BATCHES == 0:
                    self.save(state)
        # What was read ahead does not count.
        self.corpus.restore(state)

    def add(self, name: str, document: Document) -> None:
        """Give a document to its side; a held-out one is taken the first time only."""
        assert document.ids is not None
        self.used_bytes[name] += document.size
        stream = self.corpus.streams[name]
        # A whole source that is held out leaves the others to training.
        fraction = 0.0 if self.corpus.held_out else self.arguments.validation_fraction
        if not (stream.source.held_out or held_out(document.hash, fraction)):
            self.train.add(name, document.size, document.ids)
        elif document.first_pass:
            self.validation[name].add(name, document.size, document.ids)

    def finish(self) -> list[dict[str, Any]]:
        """Write what is left, and then the manifests; return what they say of the sources."""
        self._check_sides()
        total_weight = sum(source.weight for source in self.corpus.mixture.sources)
        described = []
        for stream in self.corpus.streams.values():
            source = stream.source
            left_out = dict(sorted(stream.left_out.items()))
            epochs = self.corpus.mixture.epochs(source, self.used_bytes[source.name])
            described.append(
                {
                    "name": source.name,
                    "path": source.path,
                    "commit": source.commit,
                    "license": source.license,
                    "weight_asked": 0.0 if source.held_out else source.weight / total_weight,
                    "epochs": 1.0 if source.held_out else epochs,
                    "bad_rows": left_out.pop(BAD_ROW, 0),
                    "left_out": left_out,
                }
            )
        for packer in self.packers.values():
            packer.flush()
            packer.sync()
        validation = list(self.validation.values())
        content_hash = join([packer.file for packer in validation], self.folder / "validation" / "tokens.bin")
        manifests = {
            "train": self.manifest([self.train], self.train.hash.hexdigest(), described),
            "validation": self.manifest(validation, content_hash, self._with_ranges(described)),
        }
        for split, manifest in manifests.items():
            text = json.dumps(manifest, indent=2, ensure_ascii=False)
            (self.folder / split / "manifest.json").write_text(text + "\n", encoding="utf-8")
        return described

    def _check_sides(self) -> None:
        held_out = any(packer.tokens for packer in self.validation.values())
        fraction = self.arguments.validation_fraction
        if self.train.tokens and (held_out or not fraction):
            return
        side, cure = ("validation", "raise") if self.train.tokens else ("training", "lower")
        if sum(stream.kept for stream in self.corpus.streams.values()) == 1:
            cure = "all text is one document: say where documents end by documents: line, or change"
        message = f"the {side} side is empty: {cure} validation_fraction, now {fraction} (0 holds out nothing), or give more text"
        raise UserError("split_empty", message, split=side)

    def _with_ranges(self, described: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Each source with its blocks of the validation side: the first, and one past the last."""
        stops = list(itertools.accumulate(packer.blocks for packer in self.validation.values()))
        ranges = zip([0, *stops], stops)
        return [{**source, "block_range": list(each)} for source, each in zip(described, ranges, strict=True)]

    def manifest(
        self, packers: list[Packer], content_hash: str, described: list[dict[str, Any]]
    ) -> dict[str, Any]:
        """What one split holds, which these packers wrote one after the other."""
        counts = {name: counts for packer in packers for name, counts in packer.counts.items()}
        all_bytes = sum(each.bytes for each in counts.values())
        return {
            "sources": [
                {
                    **source,
                    "weight_consumed": counts[source["name"]].bytes / max(all_bytes, 1),
                    **vars(counts[source["name"]]),
                }
                for source in described
            ],
            "documents": sum(each.documents for each in counts.values()),
            "tokens": sum(packer.tokens for packer in packers),
            "bytes": all_bytes,
            "blocks": sum(packer.blocks for packer in packers),
            "padding_tokens": sum(packer.padding for packer in packers),
            "sequence_length": self.arguments.sequence_length,
            "tokenizer_hash": tokenizer_hash(self.tokenizer),
            "vocab_size": len(self.tokenizer),
            "seed": self.arguments.seed,
            "shuffle": self.arguments.shuffle,
            "dtype": token_dtype(self.tokenizer),
            "content_hash": content_hash,
        }


def _summary(run: _Run, described: list[dict[str, Any]]) -> list[str]:
    lines = []
    for name, packers in (("train", [run.train]), ("validation", list(run.validation.values()))):
        tokens, blocks = sum(each.tokens for each in packers), sum(each.blocks for each in packers)
        if not blocks:
            lines.append(
                "validation_fraction 0: nothing is held out, so pretraining measures no held-out text"
            )
            continue
        padding = sum(each.padding for each in packers) / (blocks * run.arguments.sequence_length)
        lines.append(f"{name}: {tokens:,} tokens in {blocks:,} blocks, {padding:.1%} padding")
    lines += run.corpus.usage(run.used_bytes) + run.corpus.left_out()
    for source in described:
        if source["epochs"] and source["epochs"] > GOOD_EPOCHS:
            lines.append(
                f"warning: source {source['name']!r} is repeated {source['epochs']:.1f} times; beyond {GOOD_EPOCHS} "
                "times repeated text teaches little: lower its weight or max_tokens"
            )
    return lines
