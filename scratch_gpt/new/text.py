# SPDX-License-Identifier: Apache-2.0
"""What a user's files hold: read, filtered, deduplicated, and written as one corpus of documents, a part of it held out.

A text file without end-of-text markers is running text: it is cut into passages at blank lines, so that a paragraph is
read with what comes before it, and a book has something to hold out.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TextIO

from scratch_gpt.data.shards.deduplication import HashSet, text_hash
from scratch_gpt.data.sources.bad_rows import BadRows
from scratch_gpt.data.sources.documents import find_marker
from scratch_gpt.data.sources.encodings import COMPRESSIONS, TextFile
from scratch_gpt.data.sources.files import data_files, unread_files
from scratch_gpt.data.sources.filters import Filters
from scratch_gpt.data.sources.formats import FOREIGN_SUFFIXES, ROW_SUFFIXES, Reader, data_suffix
from scratch_gpt.data.sources.source import Source, iter_documents, parts_of
from scratch_gpt.data.sources.spellings import odd_spellings
from scratch_gpt.data.sources.token_files import TOKEN_SUFFIXES
from scratch_gpt.errors import UserError
from scratch_gpt.runs.folders import atomic_directory
from scratch_gpt.tasks.words import letter_name


RUNNING = "running"
# Bytes of a passage: many contexts long. A small text gets shorter ones, so that some can be held out.
LONGEST_PASSAGE, SHORTEST_PASSAGE, LEAST_PASSAGES = 20_000, 2_000, 200
# Of the text, at most, and in bytes: more costs time at each evaluation and makes figures hardly sharper.
HELD_OUT_SHARE, HELD_OUT_BYTES = 0.05, 250_000
# Below this a model learns nothing but spelling.
LEAST_BYTES = 20_000
# Text that the measurements are made on, and characters of a document whose scripts are counted.
SAMPLE_BYTES, COUNTED_CHARACTERS = 1_000_000, 2_000
# Rows that are looked at to find the column of the text.
LOOKED_AT_ROWS = 20
# Of a run: its plan, the folder of its corpus, and the files in it.
PLAN, CORPUS_FOLDER, CORPUS = "plan.json", "corpus", ("train.jsonl", "held_out.jsonl")


@dataclass
class TextSummary:
    """What was found in the files.

    Attributes:
        files: number of files that were read.
        documents, size: kept; size in bytes of UTF-8.
        held_out: bytes of those that are held out.
        left_out: documents by rule: "duplicate", a filter's name, "over_the_time".
        unread: file -> why nothing was read from it.
        notes: lines about how files were read, bad rows included.
        previews: beginnings of the first, second and last document.
        characters: how often each occurs in the beginnings of documents.
        sample: pieces of the training side, evenly spread, to measure on.
        held_out_sample: the same of the held-out side.
    """

    files: int = 0
    documents: int = 0
    size: int = 0
    held_out: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    unread: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    previews: list[str] = field(default_factory=list)
    characters: Counter[str] = field(default_factory=Counter)
    sample: list[str] = field(default_factory=list)
    held_out_sample: list[str] = field(default_factory=list)

    def scripts(self) -> dict[str, float]:
        """Share of each script among the letters, the largest first; those below a hundredth are left out."""
        counts: Counter[str] = Counter()
        for character, count in self.characters.items():
            if character.isalpha() and (name := letter_name(character)):
                script = name.split()[0]
                counts[script if script == "CJK" else script.title()] += count
        total = max(counts.total(), 1)
        return {script: n / total for script, n in counts.most_common() if n >= 0.01 * total}


def is_corpus(folder: Path) -> bool:
    """Whether a folder holds what `write_corpus` writes and nothing else: a user's own folder may have its name."""
    return folder.is_dir() and all(entry.name in CORPUS for entry in folder.iterdir())


def _outside_runs(files: Iterable[Path], output_dir: Path) -> Iterator[Path]:
    """The files that neither this run nor another one wrote."""
    own = output_dir.resolve()

    @cache
    def is_run(folder: Path) -> bool:
        return folder == own or ((folder / PLAN).is_file() and is_corpus(folder / CORPUS_FOLDER))

    return (file for file in files if not any(map(is_run, file.resolve().parents)))


def find_files(paths: Sequence[str], output_dir: Path) -> list[Path]:
    """The files that the arguments name: files, folders, globs; each once, none that a run wrote.

    Raises:
        UserError: an argument that names nothing, or nothing is left.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        files = data_files(path, "train", None)
        if not files:
            if Path(path).is_dir():
                message = f"{path}: a folder without text files: name .txt, .jsonl, .csv or .parquet files"
                raise UserError("no_files", message, path=path)
            message = f"{path}: no such file: name files, folders or globs"
            raise UserError("file_not_found", message, file=path)
        for file in _outside_runs(files, output_dir):
            found.setdefault(file.resolve(), file)
    if not found:
        message = f"{', '.join(paths)}: holds nothing but the files of a run: name your own text"
        raise UserError("no_files", message, path=paths[0])
    return list(found.values())


def skipped_files(paths: Sequence[str], files: Sequence[Path], output_dir: Path) -> dict[str, str]:
    """The visible files of folders that were named, without those that are read: file -> why not."""
    return {
        str(file): FOREIGN_SUFFIXES.get(data_suffix(file), "by its name no part of the text")
        for path in paths
        for file in _outside_runs(unread_files(path, list(files)), output_dir)
    }


def write_corpus(files: Sequence[Path], documents: str, most_bytes: float, folder: Path) -> TextSummary:
    """Read all files into `folder/train.jsonl` and `folder/held_out.jsonl`.

    Args:
        documents: "running", or how a source divides text files: block, line, file.
        most_bytes: text that the time allows to be used; of more, documents are left out evenly.

    Raises:
        UserError: no file can be read, or they hold too little text; no room on the disk.
    """
    total = sum(map(text_bytes, files))
    passage = min(max(total // LEAST_PASSAGES, SHORTEST_PASSAGE), LONGEST_PASSAGE)
    used = min(1.0, most_bytes / max(total, 1))
    summary = TextSummary()
    with atomic_directory(folder, CORPUS) as temporary:
        with (
            (temporary / CORPUS[0]).open("w", encoding="utf-8") as train,
            (temporary / CORPUS[1]).open("w", encoding="utf-8") as held_out,
        ):
            writer = _Writer(summary, train, held_out, used * total)
            _read(files, documents, passage, used, writer)
        if summary.size < LEAST_BYTES or not summary.held_out:
            reasons = [f"{rule} {count:,}" for rule, count in summary.left_out.items()]
            reasons += [f"{name}: {reason}" for name, reason in list(summary.unread.items())[:3]]
            why = f" (left out: {'; '.join(reasons)})" if reasons else ""
            message = (
                f"{summary.size:,} bytes of usable text{why}: too little to learn "
                f"from, give at least {LEAST_BYTES:,} bytes, about ten pages; a good model wants a hundred times as much"
            )
            raise UserError("too_little_text", message, size=summary.size, needed=LEAST_BYTES)
    return summary


def text_bytes(file: Path) -> int:
    """About how much text a file holds."""
    packed = file.suffix.lower() in (*COMPRESSIONS, ".parquet")
    return file.stat().st_size * (3 if packed else 1)


def _read(files: Sequence[Path], documents: str, passage: int, used: float, writer: "_Writer") -> None:
    summary = writer.summary
    filters, seen, bad_rows = Filters(), HashSet(), BadRows()
    count = 0
    for file in files:
        try:
            texts = _documents(file, documents, passage, bad_rows, summary)
            empty = True
            for document in texts:
                for text in cut(document.splitlines(keepends=True), passage):
                    empty, count = False, count + 1
                    if int(count * used) == int((count - 1) * used):
                        rule: str | None = "over_the_time"
                    elif not seen.add(text_hash(text.encode())):
                        rule = "duplicate"
                    else:
                        rule = filters.broken_rule(text)
                    if rule:
                        summary.left_out[rule] += 1
                    else:
                        writer.add(text)
            if empty:
                summary.unread[str(file)] = "no text in it"
            else:
                summary.files += 1
        except UserError as error:
            summary.unread[str(file)] = str(error).removeprefix(f"{file}: ")
    summary.notes += bad_rows.report()
    writer.finish()


class _Writer:
    """Writes each document to its side, and keeps what the summary shows."""

    def __init__(self, summary: TextSummary, train: TextIO, held_out: TextIO, expected_bytes: float) -> None:
        self.summary, self.train, self.held_out = summary, train, held_out
        self.share = min(HELD_OUT_SHARE, HELD_OUT_BYTES / max(expected_bytes, 1))
        self.sample_share = min(1.0, SAMPLE_BYTES / max(expected_bytes, 1))
        self.sampled = 0
        self.last = ""

    def add(self, text: str) -> None:
        """Write a document."""
        summary, size = self.summary, len(text.encode())
        summary.documents += 1
        summary.size += size
        # evenly spread over the text, whatever the sizes of the documents; of a small text all documents may be too large
        # for its share
        none_yet = not summary.held_out and summary.documents > 1 and summary.size >= LEAST_BYTES / 2
        is_held_out = none_yet or summary.held_out + size / 2 < self.share * summary.size
        summary.held_out += size * is_held_out
        line = json.dumps({"text": text}, ensure_ascii=False) + "\n"
        (self.held_out if is_held_out else self.train).write(line)
        summary.characters.update(text[:COUNTED_CHARACTERS])
        if is_held_out:
            summary.held_out_sample.append(text)
        elif self.sampled < self.sample_share * summary.size:
            summary.sample.append(text)
            self.sampled += size
        if len(summary.previews) < 2:
            summary.previews.append(text)
        self.last = text

    def finish(self) -> None:
        """Add the last document to those that are shown."""
        if self.summary.documents > 2:
            self.summary.previews.append(self.last)


def _documents(
    file: Path, documents: str, passage: int, bad_rows: BadRows, summary: TextSummary
) -> Iterator[str]:
    suffix = data_suffix(file)
    if suffix in TOKEN_SUFFIXES:
        raise UserError("unsupported_format", "holds token ids, no text", file=file)
    if suffix in FOREIGN_SUFFIXES:
        raise UserError("unsupported_format", FOREIGN_SUFFIXES[suffix], file=file)
    name = str(file)
    if suffix in ROW_SUFFIXES:
        column = text_column(file)
        if column != "text":
            summary.notes.append(f"{file}: the text is in column {column!r}, which holds the most")
        source = Source(name, name, text_column=column, max_bad_rows=1.0)
    elif documents == RUNNING:
        text = TextFile(file, None)
        if not find_marker(text.head):
            summary.notes += [f"{file}: {note}" for note in Reader("file").notes(file)]
            count = bad_rows.open(name, name)
            for number, piece in enumerate(cut(_sound_lines(text, summary), passage), start=1):
                for message in odd_spellings(piece):
                    count.note(message, f"{file}, passage {number}")
                yield piece
            return
        source = Source(name, name, max_bad_rows=1.0)
    else:
        source = Source(name, name, documents=documents, max_bad_rows=1.0)
    for document in iter_documents(source, bad_rows, parts_of(source, seed=0)):
        if document.text is not None:
            yield document.text


def _sound_lines(file: TextFile, summary: TextSummary) -> Iterator[str]:
    """The lines of a file without those that cannot be decoded, which are counted."""
    bad, first = 0, ""
    for number, line in enumerate(file.lines(), start=1):
        if fault := file.fault(line):
            bad, first = bad + 1, first or f"line {number}: {fault[1]}"
        else:
            yield line
    if bad:
        summary.notes.append(f"{file.path}: left out {bad:,} lines, the first at {first}")


def cut(lines: Iterable[str], size: int) -> Iterator[str]:
    """Running text in passages of about `size` bytes that end at a blank line, or else at a line, or anywhere.

    A document that is shorter is one passage.
    """
    held: list[str] = []
    length = 0
    for line in lines:
        width = max(1, size * len(line) // len(line.encode()))  # characters of about `size` bytes
        for start in range(0, len(line), width):
            piece = line[start : start + width]
            if length and (length >= 2 * size or (length >= size and not line.strip())):
                if text := "".join(held).strip("\n"):
                    yield text
                held, length = [], 0
            held.append(piece)
            length += len(piece.encode())
    if (text := "".join(held).strip("\n")) and not text.isspace():
        yield text


def text_column(file: Path) -> str:
    """The column of a file of rows that holds its text: `text`, or else the one with the most characters.

    Raises:
        UserError: no column of the first rows holds text.
    """
    sizes: Counter[str] = Counter()
    for _, row in zip(range(LOOKED_AT_ROWS), Reader().rows(file)):
        values: Any = row[1]
        if isinstance(values, str):
            try:
                values = json.loads(values)
            except ValueError:
                continue
        if isinstance(values, str):  # a row that is nothing but its text
            return "text"
        if isinstance(values, dict):
            if isinstance(values.get("text"), str):
                return "text"
            sizes.update({key: len(value) for key, value in values.items() if isinstance(value, str)})
    if not sizes:
        raise UserError("unsupported_format", "no column of its first rows holds text", file=file)
    return sizes.most_common(1)[0][0]
