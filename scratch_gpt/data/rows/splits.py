# SPDX-License-Identifier: Apache-2.0
"""Rows for the stages after pretraining: train, dev and test of all sources, as long as the model's context."""

import json
import random
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from scratch_gpt.data.rows.conversations import split_rows
from scratch_gpt.data.sources.bad_rows import BadRows
from scratch_gpt.data.sources.source import CORPUS_SETTINGS, Source, parse_sources
from scratch_gpt.errors import UserError
from scratch_gpt.runs.folders import read_yaml
from scratch_gpt.runs.log import console
from scratch_gpt.runs.results import FEW
from scratch_gpt.settings.sources import PRIMER


Row = dict[str, Any]
Item = TypeVar("Item")
# Such as `instruction_rows`: sources, split of the primer, counter of bad rows, seed -> rows.
RowReader = Callable[[list[Source], str, BadRows, int], list[Row]]

SPLITS = ("train", "dev", "test")


class SplitArguments(Protocol):
    """The settings by which rows are read and divided."""

    sources: list | str | None
    on_bad_row: str
    seed: int
    held_out_fraction: float
    max_train_samples: int | None


def read_splits(
    read: RowReader, arguments: SplitArguments, *, allow_no_held_out: bool = False
) -> dict[str, list[Row]]:
    """Rows of all sources as train, dev and test; files with bad rows, and rows that repeat, are reported on the terminal.

    The primer brings its splits. Rows of files are divided by the hash of their question and the seed, so that with
    one seed a question that is held out in one stage is held out in all. Only training rows are repeated by a weight.

    Args:
        allow_no_held_out: with a `held_out_fraction` of 0, dev and test may be empty.

    Raises:
        UserError: sources that cannot be read, too many bad rows, nothing for one of the splits.
    """
    sources = parse_sources(arguments.sources, CORPUS_SETTINGS)  # type: ignore[arg-type]  # a list once parsed
    bad_rows = BadRows(arguments.on_bad_row)
    embedded = [source for source in sources if source.path == PRIMER]
    for source in embedded:
        if source.subset:
            message = f"source {source.name!r}: subset {source.subset} is of the pretraining text, not of rows: remove it"
            raise UserError("setting_without_effect", message, setting="subset")
    files = [source for source in sources if source.path != PRIMER]
    rows = {split: read(embedded, split, bad_rows, arguments.seed) for split in SPLITS}
    fraction = arguments.held_out_fraction
    of_files = read(files, "train", bad_rows, arguments.seed)
    rest, test = split_rows(of_files, fraction, arguments.seed)
    # of what is left, so that dev and test are of the same size; by a hash that is no seed's hash of the test split
    train, dev = split_rows(rest, fraction / (1 - fraction), f"dev {arguments.seed}")
    for split, found in zip(SPLITS, (train, dev, test), strict=True):
        rows[split] += found
        if split != "train":
            # a weight's second copy of a row adds nothing, and would make intervals too narrow; the two answers of a
            # pair have one place and are two rows
            rows[split] = list({id(row): row for row in rows[split]}.values())
        if not rows[split] and (split == "train" or fraction or not allow_no_held_out):
            cure = "; 0 trains without held-out rows" if allow_no_held_out else ""
            message = f"no row for the {split} split: give more rows, or another held_out_fraction ({fraction}{cure})"
            raise UserError("split_empty", message, split=split)
    nothing = "held_out_fraction 0: no row is held out, so the model is not measured on any"
    for line in [nothing] * (not rows["dev"]) + bad_rows.report() + report_repeats(of_files):
        console.print(line, markup=False, soft_wrap=True)
    if any("tools" in row for found in rows.values() for row in found):
        # `datasets.Dataset.from_list` knows the columns of the first row alone
        rows = {split: [{"tools": None, **row} for row in found] for split, found in rows.items()}
    return rows


def check_held_out(
    folder: str | Path, sources: list | str | None, seed: int, held_out_fraction: float
) -> None:
    """Refuse to measure a model on rows of a file that it was trained on, where its `run.yaml` says so.

    The primer's splits are the same for every seed, a smaller fraction's test split is part of a larger one's, and other
    splits of a Hub dataset are other rows.

    Raises:
        UserError: another seed than that of the training, or a larger held_out_fraction.
    """
    trained = read_yaml(Path(folder) / "run.yaml")
    if "held_out_fraction" not in trained:  # of no stage that divides rows
        return
    known = [
        (entry["path"], entry.get("subset"), entry.get("split", "train")) for entry in trained["sources"]
    ]
    parsed = parse_sources(sources, CORPUS_SETTINGS)  # type: ignore[arg-type]  # a list once parsed
    places = [(source.path, source.subset, source.split) for source in parsed if source.path != PRIMER]
    shared = [place[0] for place in places if place in known]
    for name, value, fits in (
        ("seed", seed, seed == trained["seed"]),
        ("held_out_fraction", held_out_fraction, held_out_fraction <= trained["held_out_fraction"]),
    ):
        if shared and not fits:
            message = (
                f"{folder} was trained on {shared[0]} with {name} {trained[name]}: with {value} it would be asked what it "
                f"has learned; give --{name} {trained[name]}"
            )
            raise UserError("trained_on_rows", message, setting=name, value=trained[name])


def training_sample(items: list[Item], arguments: SplitArguments) -> list[Item]:
    """`max_train_samples` of what is left to train on, drawn by the seed: a smaller number's are among a larger one's."""
    if arguments.max_train_samples is None:
        return items
    return random.Random(arguments.seed).sample(items, len(items))[: arguments.max_train_samples]


def drop_long_rows(
    splits: dict[str, list[Row]], measure: Callable[[Row], Row], max_length: int, arguments: SplitArguments
) -> dict[str, list[Row]]:
    """Leave out the rows that have more than `max_length` tokens; say how many, which was the first, how long rows are.

    Cut rows would teach answers without an end, and TRL drops over-long pairs without a word. Of the training rows that
    fit, `max_train_samples` stay.

    Args:
        measure: adds the row's tokens as `length`, by which Trainer can group rows.

    Raises:
        UserError: no row of a split is left, or there is a long one and `on_bad_row` is `fail`.
    """
    kept: dict[str, list[Row]] = {}
    for split, rows in splits.items():
        measured = [measure(row) for row in rows]
        kept[split] = [row for row in measured if row["length"] <= max_length]
        long = [row for row in measured if row["length"] > max_length]
        first = f"{long[0]['place']} has {long[0]['length']:,}" if long else ""
        if long and arguments.on_bad_row == "fail":
            message = f"{first} tokens, {max_length} are the longest (on_bad_row: skip leaves out such rows)"
            raise UserError("too_long", message, length=long[0]["length"], limit=max_length)
        if not kept[split] and rows:
            message = (
                f"none of the {len(rows)} {split} rows fits into {max_length} tokens: give shorter ones, raise max_length "
                "where it is set, or use a model with a longer context"
            )
            raise UserError("rows_too_long", message, limit=max_length)
        fitting = len(kept[split])
        if split == "train":
            kept[split] = training_sample(kept[split], arguments)
        share = f"{len(long) / len(measured):.1%}" if long else ""
        console.print(
            f"{split}: {len(kept[split]):,}{f' of {fitting:,}' if len(kept[split]) < fitting else ''} rows"
            + (f" ({len(long):,} over {max_length} tokens left out, {share}: {first})" if long else ""),
            markup=False,
            soft_wrap=True,
        )
        if split == "train":
            console.print(_lengths(sorted(row["length"] for row in measured), max_length), soft_wrap=True)
    report_few(len(kept.get("test", ())), "rows")
    return kept


def _lengths(lengths: Sequence[int], max_length: int) -> str:
    """The quantiles of sorted lengths, and which `max_length` would keep all."""
    median, most, nearly_all = (lengths[int(share * (len(lengths) - 1))] for share in (0.5, 0.9, 0.99))
    line = f"tokens a row: median {median:,}, 90% {most:,}, 99% {nearly_all:,}, longest {lengths[-1]:,}"
    return line + (f"; max_length {lengths[-1]} would keep all" if lengths[-1] > max_length else "")


def report_few(count: int, what: str) -> None:
    """Say that figures on so few held-out rows or prompts mean little."""
    if 0 < count < FEW:
        console.print(
            f"test: {count} {what} are too few to measure on (at least {FEW}): give more, or a larger held_out_fraction",
            soft_wrap=True,
        )


def report_repeats(rows: Sequence[Row]) -> list[str]:
    """One line for each source and finding, with the places of the first case.

    A conversation contradicts another one if it differs in its last answer alone; a pair, if it prefers what the other
    one rejects. A row that a weight uses twice is one row.
    """
    first: dict[tuple[str, Hashable], Row] = {}
    findings: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for row in {id(row): row for row in rows}.values():
        same, against, finding = _keys(row)
        seen = first.setdefault((row["source"], same), row)
        if seen is not row:
            findings.setdefault((row["source"], "duplicate rows"), []).append((row["place"], seen["place"]))
            continue
        other = first.setdefault((row["source"], against), row)
        if other is not row:
            findings.setdefault((row["source"], finding), []).append((row["place"], other["place"]))
    return [
        f"{source}: {finding}: {len(places):,}, such as {places[0][0]} and {places[0][1]}"
        for (source, finding), places in findings.items()
    ]


def _keys(row: Row) -> tuple[str, str, str]:
    """What is equal in equal rows, what is equal in rows that contradict each other, and what to call those."""
    if "messages" in row:
        return (
            json.dumps(row["messages"]),
            json.dumps(row["messages"][:-1]),
            "same question, another answer",
        )
    if "completion" in row:
        answer = json.dumps([row["prompt"], row["completion"]])
        return f"{answer} {row['label']}", answer, "the same answer, liked and not"
    sides = [json.dumps([row["prompt"], row[side]]) for side in ("chosen", "rejected")]
    return " > ".join(sides), " = ".join(sorted(sides)), "prefers what another pair rejects"
