# SPDX-License-Identifier: Apache-2.0
"""Sources of text and rows: declared in YAML, read as streams, with bad rows counted.

A source's path is `primer` (the embedded corpus), a file, a folder or a glob (see `formats` and `files`), or else the
name of a Hub dataset, which is streamed. Either consists of parts (files), and the place of a document is its part's
index and its row there: reading can start at any place.
"""

import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from scratch_gpt import primer
from scratch_gpt.data.sources.bad_rows import BAD_ROW_LIMIT, BadRow, BadRows, FileCount, UnusedRow
from scratch_gpt.data.sources.columns import checked_text, missing, pick_text, with_inner_values
from scratch_gpt.data.sources.encodings import COMPRESSIONS
from scratch_gpt.data.sources.files import DATA_SUFFIXES, data_files, looks_held_out, settings_without_effect
from scratch_gpt.data.sources.filters import NO_FILTERS, Filters, parse_filters
from scratch_gpt.data.sources.formats import (
    CSV_SUFFIXES,
    FOREIGN_SUFFIXES,
    ROW_SUFFIXES,
    JsonLine,
    Part,
    Reader,
    Record,
    data_suffix,
)
from scratch_gpt.data.sources.hub import hub_parts
from scratch_gpt.data.sources.spellings import odd_spellings
from scratch_gpt.data.sources.token_files import TOKEN_SUFFIXES
from scratch_gpt.errors import UserError, did_you_mean, did_you_mean_path, wrong_value
from scratch_gpt.settings.sources import PRIMER, license_of


# Settings that a stage which reads documents, or one which reads rows, would pass over -> the cure.
ROW_SETTINGS = dict.fromkeys(
    ("columns", "template", "system", "roles"), "text_column names the column of a document"
)
CORPUS_SETTINGS = {
    "held_out": "rows are held out by held_out_fraction, and a benchmark asks all of them",
    "filters": "leave out such rows beforehand",
    "deduplicate": "leave out such rows beforehand",
}

# A text file of this many lines that is one document was hardly meant to be one.
MANY_LINES = 100
# The subset of the primer whose text begins with a curriculum.
CURRICULUM = "curriculum"
ONE_DOCUMENT = (
    "warning: files of many lines that are one document: set documents: line where a line is a document, or documents: "
    "file to have it so"
)

Parsed = TypeVar("Parsed")


@dataclass
class Source:
    """One entry of `sources:` in a YAML.

    Args:
        name: how logs, manifests and results call it.
        path: `primer`, a file, folder or glob, or a Hub dataset's name.
        weight: share of this source in a mixture, relative to the other weights.
        subset: configuration name of a Hub dataset; of the primer, `curriculum` where its text is to begin with one.
        split: split of a Hub dataset, or of a folder that holds one.
        revision: branch, tag or commit of a Hub dataset. Default: the newest commit.
        text_column: column that holds the text of a document; "meta.text" is `text` in the object `meta`.
        columns: what a column is for -> how it is called here, for rows that are not plain documents.
        template: the prompt of such rows, with roles in braces: "Translate into German: {source}".
        system: a system message that opens the conversations of such rows.
        roles: how conversations call a speaker -> system, user, assistant or tool, beside the names that are known.
        documents: a text file holds one document per blank-line `block`, per `line`, between two `separator`, or is one
            document as a `file`.
        separator: the text between two documents of a text file; given alone it means `documents: separator`.
        encoding: of text, JSON, .csv and .tsv files, by its name in Python. Default: by the byte order mark, else UTF-8.
        max_bad_rows: share of bad rows of a file, or bad documents of a text file, up to which they are left out.
        filters: rules that leave out documents from the shards, see `Filters`; true for the defaults, false for none.
            Default: true, and false for the primer.
        deduplicate: leave out documents whose text came before, in this source or another one. Default: true, and
            false for the primer.
        license: of the text, as the Hub spells it; goes into the model card. Nothing else depends on it.
        held_out: all of it is for validation and nothing for training, whatever the weight. Where there is such a
            source, `validation_fraction` takes nothing from the others.
    """

    name: str
    path: str
    weight: float = 1.0
    subset: str | None = None
    split: str = "train"
    revision: str | None = None
    text_column: str = "text"
    columns: dict[str, str] = field(default_factory=dict)
    template: str | None = None
    system: str | None = None
    roles: dict[str, str] = field(default_factory=dict)
    documents: str = "block"
    separator: str | None = None
    encoding: str | None = None
    max_bad_rows: float = BAD_ROW_LIMIT
    filters: Any = None
    deduplicate: bool | None = None
    license: str | None = None
    held_out: bool = False
    # Of a Hub dataset, once it is opened.
    commit: str | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if self.filters is None:
            self.filters = NO_FILTERS if self.path == PRIMER else Filters()
        elif not isinstance(self.filters, Filters):
            self.filters = parse_filters(self.filters, f"source {self.name!r}")
        if self.deduplicate is None:
            self.deduplicate = self.path != PRIMER
        if self.separator and self.documents == "block":
            self.documents = "separator"
        self.license = license_of(vars(self))

    @property
    def is_used(self) -> bool:
        """Whether its documents come into the shards: to train on, or held out whole."""
        return bool(self.weight) or self.held_out

    @cached_property
    def files(self) -> list[Path]:
        """The local files of this source, sorted; empty for the primer and for a Hub dataset."""
        return [] if self.path == PRIMER else data_files(self.path, self.split, self.subset)

    @property
    def reader(self) -> Reader:
        """How its local files are read."""
        return Reader(self.documents, self.separator, self.encoding)

    @property
    def on_hub(self) -> bool:
        """Whether the path is read as the name of a Hub dataset: it is no file and does not look like one."""
        return (
            self.path != PRIMER
            and not self.files
            and not Path(self.path).is_dir()
            and re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", self.path) is not None
            and data_suffix(Path(self.path)) not in (*DATA_SUFFIXES, *TOKEN_SUFFIXES, *FOREIGN_SUFFIXES)
            and Path(self.path).suffix not in COMPRESSIONS
        )


def parse_sources(declared: list[dict[str, Any]], refused: Mapping[str, str] | None = None) -> list[Source]:
    """Turn the `sources:` of a YAML into checked sources.

    Args:
        refused: keys that have no effect here -> the cure.

    Raises:
        UserError: an unknown, refused or missing key, a value of the wrong type, a name given twice, a negative weight,
            no weight above zero, a path where nothing is, a file format that is not read.
    """
    known = [entry.name for entry in fields(Source) if entry.init]
    sources = []
    for number, entry in enumerate(declared, start=1):
        if not isinstance(entry, dict):
            raise wrong_value(
                f"entry {number}", entry, "a mapping such as {name: x, path: y}", where="sources: "
            )
        for key in entry:
            if key not in known:
                message = f"sources: unknown key {key!r} in entry {number}{did_you_mean(key, known)} (keys: {', '.join(known)})"
                raise UserError("unknown_key", message, key=key)
            if refused and key in refused and entry[key]:
                message = f"sources: {key} in entry {number} has no effect here: {refused[key]}"
                raise UserError("setting_without_effect", message, setting=key)
        for key in ("name", "path"):
            if not entry.get(key):
                raise UserError("setting_missing", f"sources: entry {number} needs a {key}", setting=key)
        sources.append(Source(**entry))
    for source in sources:
        _check(source)
    names = [source.name for source in sources]
    for name in names:
        if names.count(name) > 1:
            message = f"sources: the name {name!r} is given twice; each source needs its own"
            raise UserError("duplicate_name", message, name=name)
    if not any(source.weight and not source.held_out for source in sources):
        message = "sources: all weights are 0 or held out; at least one must be for training"
        raise UserError("all_weights_zero", message)
    return sources


def _check(source: Source) -> None:
    name = f"source {source.name!r}"
    for key in ("name", "path", "split", "text_column", "documents"):
        if not isinstance(getattr(source, key), str):
            raise wrong_value(key, getattr(source, key), "text", where=f"{name}: ")
    for key in ("template", "system", "revision", "separator", "encoding"):
        if not isinstance(getattr(source, key), str | None):
            raise wrong_value(key, getattr(source, key), "text", where=f"{name}: ")
    weight = source.weight
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
        raise wrong_value("weight", weight, "a number of at least 0", where=f"{name}: ")
    share = source.max_bad_rows
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        raise wrong_value("max_bad_rows", share, "a share from 0 to 1", where=f"{name}: ")
    for key in ("deduplicate", "held_out"):
        if not isinstance(getattr(source, key), bool):
            raise wrong_value(key, getattr(source, key), "true or false", where=f"{name}: ")
    if source.path == PRIMER and source.subset not in (None, CURRICULUM):
        raise wrong_value("subset", source.subset, f"{CURRICULUM}, or nothing", where=f"{name}: ")
    if source.deduplicate and source.path == PRIMER:
        message = f"{name}: deduplicate: true has no effect on the primer, which is endless: leave it out"
        raise UserError("setting_without_effect", message, setting="deduplicate")
    if source.held_out and source.path == PRIMER:
        message = f"{name}: the primer is endless, so not all of it can be held out: use validation_fraction"
        raise UserError("source_endless", message, source=source.name)
    if not isinstance(source.columns, dict):
        raise wrong_value("columns", source.columns, "a mapping of roles to column names", where=f"{name}: ")
    speakers = ("system", "user", "assistant", "tool")
    if not isinstance(source.roles, dict) or not set(source.roles.values()) <= set(speakers):
        raise wrong_value("roles", source.roles, f"a mapping to {', '.join(speakers)}", where=f"{name}: ")
    if source.path != PRIMER and not source.on_hub:
        _check_files(source, name)
    source.reader.check(name, source.files)


def _check_files(source: Source, name: str) -> None:
    if not source.files:
        if Path(source.path).is_dir():
            message = f"{name}: folder {source.path} holds no {', '.join(DATA_SUFFIXES)} file"
            raise UserError("no_files", message, path=source.path)
        if any(character in source.path for character in "*?["):
            raise UserError("no_files", f"{name}: no file matches {source.path}", path=source.path)
        hint = did_you_mean_path(source.path, did_you_mean(source.path, [PRIMER]))
        raise UserError("file_not_found", f"{name}: no file {source.path}{hint}", file=source.path)
    for setting in settings_without_effect(source.path):
        value = getattr(source, setting)
        if value and (setting, value) != ("split", "train"):
            message = f"{name}: {setting}: {value} has no effect: {source.path} is no dataset that has one: name the files to read"
            raise UserError("setting_without_effect", message, setting=setting)
    for file in source.files:
        if data_suffix(file) in FOREIGN_SUFFIXES:
            message = f"{name}: cannot read {file}: {FOREIGN_SUFFIXES[data_suffix(file)]}"
            raise UserError("unsupported_format", message, file=file)


class LocatedText(NamedTuple):
    """A document at its place; the text of a bad row is None."""

    part: int
    row: int
    text: str | None


def parts_of(source: Source, seed: int) -> list[Part]:
    """The parts of a source in the order in which they are read; the primer is one endless part."""
    if source.path == PRIMER:
        curriculum = source.subset == CURRICULUM

        def rows(start: int) -> Iterator[tuple[int, str]]:
            return itertools.islice(enumerate(primer.documents(seed, curriculum), 1), start, None)

        return [Part(PRIMER, rows)]
    if source.on_hub:
        return hub_parts(source)
    return [source.reader.part(path) for path in source.files]


def read_rows(
    source: Source, bad_rows: BadRows, parse: Callable[[dict[str, Any]], Parsed]
) -> Iterator[tuple[str, Parsed]]:
    """Apply `parse` to each row of files with rows or of a Hub dataset; rows it raises BadRow on are counted.

    Returns:
        The place of each row, "file:row", and what `parse` made of it.

    Raises:
        UserError: a file that is no row file or that cannot be read, a dataset that cannot be reached, too many bad
            rows.
    """
    for path in source.files:
        if data_suffix(path) not in ROW_SUFFIXES:
            message = (
                f"source {source.name!r}: {path} holds no rows; rows are read from {', '.join(ROW_SUFFIXES)}"
            )
            raise UserError("unsupported_format", message, file=path)
    for part in parts_of(source, seed=0):
        file = _opened(source, part, bad_rows)
        for number, parsed in parse_counted(file, part.rows(0), lambda row: parse(_columns(row))):
            if parsed is not None:
                yield f"{part.name}:{number}", parsed


def _opened(source: Source, part: Part, bad_rows: BadRows) -> FileCount:
    """The counts of a pass over a part, with what the user should know of it."""
    file = bad_rows.open(source.name, part.name, source.max_bad_rows)
    if file.rows:
        return file
    for message in part.notes():
        file.note(message, part.name)
    if looks_held_out(Path(part.name), source.files):
        message = "warning: files called like a test split, read with the training ones: name the files"
        file.note(message, part.name)
    return file


def parse_counted(
    file: FileCount,
    rows: Iterator[tuple[int, Record]],
    parse: Callable[[Any], Parsed],
) -> Iterator[tuple[int, Parsed | None]]:
    """Number and value of each row; None for a bad one."""
    for number, row in rows:
        file.rows += 1
        parsed = None
        try:
            if isinstance(row, BadRow):
                raise row
            parsed = parse(_decoded(row) if isinstance(row, JsonLine) else row)
        except UnusedRow as error:
            file.leave_out(number, str(error))
        except BadRow as error:
            file.reject(number, str(error))
        yield number, parsed
    file.check()
    file.ended = True


def read_documents(source: Source, bad_rows: BadRows, seed: int) -> Iterator[str]:
    """The documents of a source, one by one, unfiltered: endless for the primer, a single pass for all others.

    Raises:
        UserError: a file that cannot be read or is not UTF-8, a dataset that cannot be reached, too many bad rows.
    """
    for document in iter_documents(source, bad_rows, parts_of(source, seed)):
        if document.text is not None:
            yield document.text


def iter_documents(
    source: Source,
    bad_rows: BadRows,
    parts: list[Part],
    start: tuple[int, int] = (0, 0),
    mine: Callable[[int], bool] | None = None,
) -> Iterator[LocatedText]:
    """The documents and bad rows after the place `start`, in rows that are `mine`; errors as for `read_documents`."""

    def text_of(row: Any) -> str:
        if isinstance(row, str):
            return checked_text(row, source.text_column)
        row = with_inner_values(_columns(row), [source.text_column])
        if source.text_column not in row:
            several = len(parts) > 1 and not source.on_hub
            cure = "set text_column" + ", or name the files to read by a glob" * several
            cure += ", or give the file a first line with names" * is_csv
            raise BadRow(f"{missing(row, source.text_column)}: {cure}")
        return pick_text(row, source.text_column)

    for index in range(start[0], len(parts)):
        part = parts[index]
        rows = part.rows(start[1] if index == start[0] else 0)
        if mine:
            rows = ((row, value) for row, value in rows if mine(row))
        file = _opened(source, part, bad_rows)
        lines, is_csv = 0, data_suffix(Path(part.name)) in CSV_SUFFIXES
        for row, text in parse_counted(file, rows, text_of):
            for message in odd_spellings(text or ""):
                file.note(message, f"{part.name}:{row}")
            if text and file.rows == 1:
                lines = text.count("\n") + 1
            yield LocatedText(index, row, text)
        is_text = not source.on_hub and data_suffix(Path(part.name)) not in ROW_SUFFIXES
        if file.rows == 1 and lines >= MANY_LINES and is_text and source.documents != "file":
            file.note(ONE_DOCUMENT, part.name)


def _columns(row: Any) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise BadRow(
            f'not a JSON object but {type(row).__name__}: write a row as {{"text": ...}} or {{"messages": [...]}}'
        )
    return row


def _decoded(line: JsonLine) -> Any:
    try:
        return json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise BadRow(f"broken JSON: {error}") from None
