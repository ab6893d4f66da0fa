# SPDX-License-Identifier: Apache-2.0
"""Tokenizing in N independent slices, whose merge gives the same bytes as one run.

A slice reads its share of the rows of each source, and writes, in their order, one record for each row (also for those
that the filters left out) and the tokens of the others. Duplicates, weights, the token budget and packing concern all
slices together, so they wait for the merge: it reads the records of all slices in the order of the rows, as one run
reads the text, and does what one run does.
"""

import heapq
import json
import os
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerFast

from scratch_gpt.data.shards.corpus import (
    BAD_ROW,
    BATCH_BYTES,
    Document,
    Reader,
    text_reader,
    token_dtype,
    tokenize,
    work_ahead,
)
from scratch_gpt.data.sources.bad_rows import BadRows
from scratch_gpt.data.sources.filters import RULES
from scratch_gpt.data.sources.hub import pin_commits
from scratch_gpt.data.sources.source import Source, parts_of
from scratch_gpt.errors import UserError
from scratch_gpt.runs.folders import atomic_directory, has_settings, load_progress, save_progress
from scratch_gpt.settings.sources import PRIMER


# A source of fewer parts than slices is divided by runs of this many rows.
RUN = 1000
CHECKPOINT_BATCHES = 64
RECORD = np.dtype(
    [
        ("part", "<u4"),
        ("row", "<u8"),
        ("rule", "u1"),  # index in REASONS
        ("size", "<u8"),
        ("hash", "<u8"),
        ("start", "<u8"),  # of its tokens in the file of tokens
        ("tokens", "<u8"),
    ]
)
REASONS = (None, BAD_ROW, *RULES)
MANIFEST = "manifest.json"


def slice_folder(output_dir: str | Path, index: int, num_slices: int) -> Path:
    """Where slice `index` is written: beside the `output_dir` of the merge."""
    output_dir = Path(output_dir)
    return output_dir.with_name(output_dir.name + ".slices") / f"{index}-of-{num_slices}"


def write_slice(
    folder: Path,
    sources: list[Source],
    tokenizer: PreTrainedTokenizerFast,
    bad_rows: BadRows,
    settings: dict[str, Any],
    index: int,
    num_slices: int,
) -> str:
    """Tokenize slice `index` of all sources but the primer; resume where an earlier try was interrupted.

    Returns:
        A line for the terminal; of a slice that is complete, that it is.
    """
    numbers = [number for number, source in enumerate(sources) if source.is_used and source.path != PRIMER]
    names = tuple(f"{number}.{kind}" for number in numbers for kind in ("records", "tokens"))
    if has_settings(folder, settings) and not _damaged(folder):
        return f"complete already: {folder}; remove it to write it again"
    with atomic_directory(folder, (*names, MANIFEST), settings) as temporary:
        for name in names:
            (temporary / name).touch()
        progress = load_progress(temporary)
        start: dict[str, Any] = {"number": 0, "place": [0, 0], "sizes": {}, "bad_rows": [], "commits": {}}
        state = progress[0] if progress else start
        commits = state["commits"]
        pin_commits(sources, commits)
        bad_rows.restore(state["bad_rows"])
        for name in names:
            os.truncate(temporary / name, state["sizes"].get(name, 0))
        for number in numbers:
            if number >= state["number"]:
                part, row = state["place"] if number == state["number"] else (0, 0)
                reader = _slice_reader(sources[number], bad_rows, index, num_slices)
                commits[sources[number].name] = sources[number].commit
                batches = _batches(reader((part, row), True), bad_rows)
                batches = work_ahead(batches, lambda batch: tokenize(tokenizer, _kept(batch[0])))
                for count, (documents, seen_bad_rows) in enumerate(batches, start=1):
                    _append(temporary, number, documents, token_dtype(tokenizer))
                    if count % CHECKPOINT_BATCHES == 0:
                        place = [documents[-1].part, documents[-1].row]
                        sizes = {name: (temporary / name).stat().st_size for name in names}
                        values = {"number": number, "place": place, "sizes": sizes, "bad_rows": seen_bad_rows}
                        save_progress(temporary, {**values, "commits": commits}, {})
        sizes = {name: (temporary / name).stat().st_size for name in names}
        manifest = {**settings, "slice": index, "sizes": sizes, "commits": commits}
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", "utf-8")
    tokens = sum(size for name, size in sizes.items() if name.endswith("tokens"))
    tokens //= np.dtype(token_dtype(tokenizer)).itemsize
    return f"slice {index} of {num_slices}: {tokens:,} tokens in {folder}"


def check_slices(
    output_dir: str, num_slices: int, settings: dict[str, Any], sources: list[Source]
) -> list[Path]:
    """The folders of all slices; `sources` get the commit of their slices.

    Raises:
        UserError: one is missing, incomplete, or was written with other settings or of another commit.
    """
    folders = [slice_folder(output_dir, index, num_slices) for index in range(num_slices)]
    for index, folder in enumerate(folders):
        if not (folder / MANIFEST).is_file():
            message = f"slice {index} of {num_slices} is not complete: run it with --slice {index}"
            raise UserError("slice_incomplete", message, slice=index)
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        for name, value in settings.items():
            if manifest[name] != value:
                message = f"slice {index} in {folder} was written with another {name}: run it again"
                raise UserError("slice_mismatch", message, slice=index, setting=name)
        for source in sources:
            commit = manifest["commits"].get(source.name)
            if index and commit != source.commit:
                message = (
                    f"slice {index} is of commit {commit} of {source.path}, those before it of {source.commit}: add the "
                    f"revision to source {source.name!r}, and run all slices again"
                )
                raise UserError("slice_mismatch", message, slice=index, setting="commit")
            source.commit = commit
        for name in _damaged(folder):
            message = f"{folder / name} is damaged: remove {folder} and run --slice {index} again"
            raise UserError("damaged_file", message, file=folder / name)
    return folders


def _damaged(folder: Path) -> list[str]:
    """The files of a slice that are not there in the size that they were written in."""
    if not (folder / MANIFEST).is_file():
        return [MANIFEST]
    sizes = json.loads((folder / MANIFEST).read_text("utf-8"))["sizes"]
    sizes_now = {path.name: path.stat().st_size for path in folder.iterdir()}
    return [name for name, size in sizes.items() if sizes_now.get(name) != size]


def record_reader(folders: list[Path], number: int, dtype: str) -> Reader:
    """Reads source `number` from the slices, in the order of its rows."""

    def read(start: tuple[int, int], judged: bool) -> Iterator[Document]:
        streams = [_records(folder, number, dtype, start) for folder in folders]
        return heapq.merge(*streams, key=lambda document: (document.part, document.row))

    return read


def _records(folder: Path, number: int, dtype: str, after: tuple[int, int]) -> Iterator[Document]:
    path, token_path = folder / f"{number}.records", folder / f"{number}.tokens"
    if not path.stat().st_size:
        return
    records = np.memmap(path, dtype=RECORD, mode="r")
    tokens = np.memmap(token_path, dtype=dtype, mode="r") if token_path.stat().st_size else np.zeros(0, dtype)
    first = bisect_right(
        range(len(records)),
        after,
        key=lambda index: (int(records[index]["part"]), int(records[index]["row"])),
    )
    for chunk in range(first, len(records), RUN):
        for part, row, rule, size, text_hash, start, count in records[chunk : chunk + RUN].tolist():
            ids = np.array(tokens[start : start + count])
            yield Document(part, row, REASONS[rule], size, text_hash, ids=ids)


def _slice_reader(source: Source, bad_rows: BadRows, index: int, num_slices: int) -> Reader:
    parts = parts_of(source, seed=0)
    if len(parts) < num_slices:
        return text_reader(source, bad_rows, parts, lambda row: row // RUN % num_slices == index)
    mine = [
        part if number % num_slices == index else part._replace(rows=lambda start: iter(()))
        for number, part in enumerate(parts)
    ]
    return text_reader(source, bad_rows, mine)


def _batches(
    documents: Iterator[Document], bad_rows: BadRows
) -> Iterator[tuple[list[Document], list[list[Any]]]]:
    batch: list[Document] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += document.size
        if size >= BATCH_BYTES:
            yield batch, bad_rows.state()
            batch, size = [], 0
    if batch:
        yield batch, bad_rows.state()


def _kept(documents: list[Document]) -> list[Document]:
    return [document for document in documents if not document.rule]


def _append(folder: Path, number: int, documents: list[Document], dtype: str) -> None:
    ids = [document.ids for document in _kept(documents) if document.ids is not None]
    with (folder / f"{number}.tokens").open("ab") as file:
        start = file.tell() // np.dtype(dtype).itemsize
        file.write(np.concatenate([np.zeros(0, dtype), *ids]).tobytes())
    records = np.zeros(len(documents), dtype=RECORD)
    for index, document in enumerate(documents):
        count = 0 if document.ids is None else len(document.ids)
        rule = REASONS.index(document.rule)
        records[index] = (document.part, document.row, rule, document.size, document.hash, start, count)
        start += count
    with (folder / f"{number}.records").open("ab") as file:
        file.write(records.tobytes())
