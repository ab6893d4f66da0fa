# SPDX-License-Identifier: Apache-2.0
"""Where documents become tokens: all sources filtered, deduplicated, mixed, in one stream that restarts at any point."""

import itertools
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from transformers import PreTrainedTokenizerFast

from scratch_gpt.data.shards.deduplication import HashSet, text_hash
from scratch_gpt.data.shards.mixture import Mixture
from scratch_gpt.data.sources.bad_rows import BadRows
from scratch_gpt.data.sources.files import unread_files
from scratch_gpt.data.sources.formats import TEXT_SUFFIXES, Part
from scratch_gpt.data.sources.source import Source, iter_documents, parts_of
from scratch_gpt.data.sources.token_files import token_documents
from scratch_gpt.errors import UserError
from scratch_gpt.settings.sources import PRIMER
from scratch_gpt.tokenization import document_end, encode_plain


# Text that is tokenized at once: it bounds the memory.
BATCH_BYTES = 1 << 20
# Files that are not read: the most that are named.
SHOWN_FILES = 5
BAD_ROW, DUPLICATE = "bad_row", "duplicate"

Batch = TypeVar("Batch")


@dataclass(slots=True)
class Document:
    """A document at its place in a source.

    Args:
        part, row: the place, see `sources`.
        rule: why it is left out; None: it is not.
        size: bytes in UTF-8.
        hash: of its text.
        text: the text; empty where `ids` are there.
        ids: its tokens and the one that ends it, shape (tokens,), of the type of the shards.
        first_pass: whether the source is read for the first time.
    """

    part: int
    row: int
    rule: str | None = None
    size: int = 0
    hash: int = 0
    text: str = ""
    ids: np.ndarray | None = None
    first_pass: bool = True


# Makes one pass over a source after a place; the filters are asked on the first one only.
Reader = Callable[[tuple[int, int], bool], Iterator[Document]]


def text_reader(
    source: Source,
    bad_rows: BadRows,
    parts: list[Part],
    mine: Callable[[int], bool] | None = None,
) -> Reader:
    """Reads the text of a source, or those of its rows that are `mine`."""

    def read(start: tuple[int, int], judged: bool) -> Iterator[Document]:
        for part, row, text in iter_documents(source, bad_rows, parts, start, mine):
            if text is None:
                yield Document(part, row, BAD_ROW)
            elif judged and (rule := source.filters.broken_rule(text)):
                yield Document(part, row, rule)
            else:
                data = text.encode()
                yield Document(part, row, None, len(data), text_hash(data), text)

    return read


def token_reader(source: Source, tokenizer: PreTrainedTokenizerFast) -> Reader:
    """Reads the documents of a source that is tokenized already; their bytes and hash are those of the decoded text."""
    end, dtype = document_end(tokenizer), token_dtype(tokenizer)

    def read(start: tuple[int, int], judged: bool) -> Iterator[Document]:
        for part, path in enumerate(source.files[start[0] :], start=start[0]):
            documents = token_documents(path, len(tokenizer), end)
            for row, ids in enumerate(documents, start=1):
                if (part, row) <= start:
                    continue
                text = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
                rule = source.filters.broken_rule(text) if judged else None
                data = text.encode()
                ids = np.append(ids, end).astype(dtype)
                yield Document(part, row, rule, len(data), text_hash(data), ids=None if rule else ids)

    return read


@dataclass
class SourceStream:
    """One source, pass after pass: what was left out of the first is left out of the later ones.

    For that, the hashes of the documents that were kept are in a file, in their order: a later pass keeps exactly
    the documents that match the next of them. The same file restores the set of seen texts after an interruption.

    Args:
        reader: reads the documents.
        seen: the texts of all sources so far.
        kept_file: where the hashes are written.
    """

    source: Source
    reader: Reader
    seen: HashSet
    kept_file: Path
    place: tuple[int, int] = (0, 0)
    passes: int = 0
    documents: int = 0
    kept: int = 0
    matched: int = 0
    left_out: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.kept_file.touch()
        self._unwritten = bytearray()

    def state(self) -> list[Any]:
        """What `restore` needs, as plain values."""
        counts = [self.passes, self.documents, self.kept, self.matched]
        return [list(self.place), counts, dict(self.left_out)]

    def restore(self, state: list[Any]) -> None:
        """Resume from an earlier `state`, with the same `kept_file`."""
        (part, row), (self.passes, self.documents, self.kept, self.matched), left_out = state
        self.place, self.left_out = (part, row), Counter(left_out)

    def flush(self) -> None:
        """Bring the hashes of the kept documents to the disk."""
        with self.kept_file.open("ab") as file:
            file.write(self._unwritten)
        self._unwritten.clear()

    def remember(self) -> None:
        """After `restore` in a new process: forget what was kept later, and fill the set of seen texts."""
        os.truncate(self.kept_file, 8 * self.kept)
        if self.source.deduplicate:
            for value in np.fromfile(self.kept_file, dtype=np.uint64).tolist():
                self.seen.add(value)

    def __iter__(self) -> Iterator[Document]:
        """The rest of the current pass, from the current place on."""
        first_pass = self.passes == 0
        if not first_pass:
            self.flush()
            kept = np.memmap(self.kept_file, dtype=np.uint64, mode="r", shape=(self.kept,))
        for document in self.reader(self.place, first_pass):
            self.place = (document.part, document.row)
            if first_pass:
                self.documents += 1
                if not document.rule and self.source.deduplicate and not self.seen.add(document.hash):
                    document.rule = DUPLICATE
                if document.rule:
                    self.left_out[document.rule] += 1
                    continue
                self.kept += 1
                if self.source.path != PRIMER:  # it has no second pass
                    self._unwritten += document.hash.to_bytes(8, "little")
            elif not document.rule and self.matched < len(kept) and document.hash == kept[self.matched]:
                self.matched += 1
            else:
                continue
            document.first_pass = first_pass
            yield document
        if not self.kept:
            reasons = ", ".join(f"{rule} {count}" for rule, count in self.left_out.items())
            reasons = f" (left out: {reasons})" if reasons else ""
            message = f"source {self.source.name!r}: no text in {self.source.path}{reasons}"
            raise UserError("source_empty", message, source=self.source.name)
        self.passes, self.place, self.matched = self.passes + 1, (0, 0), 0


class Corpus:
    """Batches of the mixed documents, each with the state after it.

    Args:
        streams: of the sources that are used.
        stop: as for `Mixture`.
    """

    def __init__(self, streams: list[SourceStream], stop: Any, bad_rows: BadRows) -> None:
        self.streams = {stream.source.name: stream for stream in streams}
        self.bad_rows = bad_rows
        self.held_out = [stream for stream in streams if stream.source.held_out]
        self.mixture: Mixture[Document] = Mixture(
            [stream.source for stream in streams if not stream.source.held_out],
            lambda source: iter(self.streams[source.name]),
            stop,
            lambda document: document.size,
        )

    def state(self) -> dict[str, Any]:
        """What `restore` needs, as plain values."""
        return {
            "mixture": self.mixture.state(),
            "streams": {name: stream.state() for name, stream in self.streams.items()},
            "bad_rows": self.bad_rows.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Return to an earlier `state`."""
        self.mixture.restore(state["mixture"])
        for name, stream in self.streams.items():
            stream.restore(state["streams"][name])
        self.bad_rows.restore(state["bad_rows"])

    def left_out(self) -> list[str]:
        """A line for the terminal for each source: which rule left how many documents out. Bad rows are not named."""
        lines = []
        for name, stream in self.streams.items():
            counts = [item for item in sorted(stream.left_out.items()) if item[0] != BAD_ROW]
            if counts:
                rules = ", ".join(f"{rule} {count:,}" for rule, count in counts)
                lines.append(f"source {name!r}: left out of {stream.documents:,} documents: {rules}")
        return lines

    def usage(self, used: Mapping[str, int]) -> list[str]:
        """A line for the terminal for each source: documents, bytes, the share of its text, files that are not read.

        Args:
            used: source -> bytes that a stage used of it.
        """
        lines = []
        for name, stream in self.streams.items():
            source, used_bytes = stream.source, used[name]
            if not stream.documents:
                continue
            epochs = 1.0 if source.held_out else self.mixture.epochs(source, used_bytes)
            if epochs is not None:
                share = f", {epochs:.1%} of its text"
            elif (size := _text_bytes(source)) is not None:
                share = f", about {min(used_bytes / size, 1):.0%} of its text"
            else:
                share = "" if source.path == PRIMER else ", not read to its end"
            unread = ", ".join(file.name for file in unread_files(source.path, source.files)[:SHOWN_FILES])
            lines.append(
                f"source {name!r}: {stream.kept:,} document{'s' * (stream.kept != 1)}, {used_bytes:,} bytes{share}"
                + f"; not read in its folder: {unread}" * bool(unread)
            )
        return lines

    def batches(self) -> Iterator[tuple[list[tuple[Source, Document]], dict[str, Any]]]:
        """Documents in lists of about BATCH_BYTES, each list with the state after it.

        The held-out sources come first: where their texts come again, they are duplicates, and not trained on.
        """
        documents = itertools.chain(
            (
                (stream.source, document)
                for stream in self.held_out
                if not stream.passes
                for document in stream
            ),
            self.mixture,
        )
        size = 1
        while size:
            batch, size = [], 0
            for source, document in documents:
                batch.append((source, document))
                size += document.size
                if size >= BATCH_BYTES:
                    break
            yield batch, self.state()


def _text_bytes(source: Source) -> int | None:
    """The size of a source whose files are nothing but their text."""
    if not source.files or any(file.suffix.lower() not in TEXT_SUFFIXES for file in source.files):
        return None
    return sum(file.stat().st_size for file in source.files)


def open_corpus(
    sources: list[Source],
    bad_rows: BadRows,
    seed: int,
    stop: Any,
    folder: Path,
    other_reader: Callable[[int, Source], Reader | None] = lambda number, source: None,
) -> Corpus:
    """The sources that are used as one corpus.

    Args:
        stop: as for `Mixture`.
        folder: where the streams keep their hashes of kept documents.
        other_reader: reads the source of that number, if not its text is to be read.
    """
    seen = HashSet()
    streams = []
    for number, source in enumerate(sources):
        if source.is_used:
            reader = other_reader(number, source) or text_reader(source, bad_rows, parts_of(source, seed))
            streams.append(SourceStream(source, reader, seen, folder / f"{number}.kept"))
    return Corpus(streams, stop, bad_rows)


def token_dtype(tokenizer: PreTrainedTokenizerFast) -> str:
    """The smallest type of number that holds all token ids."""
    return "uint16" if len(tokenizer) <= 1 << 16 else "uint32"


def tokenize(tokenizer: PreTrainedTokenizerFast, documents: list[Document]) -> None:
    """Put the token ids, and the end of a document, in place of the text of the documents that have one."""
    end, dtype = tokenizer.eos_token_id, token_dtype(tokenizer)
    texts = [document for document in documents if document.ids is None]
    for document, ids in zip(texts, encode_plain(tokenizer, [each.text for each in texts]), strict=True):
        ids.append(end)
        document.ids, document.text = np.array(ids, dtype=dtype), ""


def work_ahead(batches: Iterator[Batch], work: Callable[[Batch], None]) -> Iterator[Batch]:
    """Apply `work` to each batch in another thread, while the next batch is read and the one before is used.

    The tokenizers library releases the interpreter and spreads a batch over all cores.
    """
    with ThreadPoolExecutor(max_workers=1) as thread:
        waiting: deque[tuple[Batch, Future[None]]] = deque()
        for batch in batches:
            waiting.append((batch, thread.submit(work, batch)))
            if len(waiting) > 1:
                done, future = waiting.popleft()
                future.result()
                yield done
        for done, future in waiting:
            future.result()
            yield done
