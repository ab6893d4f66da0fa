# SPDX-License-Identifier: Apache-2.0
"""Rows for the stages after pretraining: train, dev and test of all sources, as long as the model's context."""

from collections.abc import Callable
from typing import Any, Protocol

from transformers import PreTrainedTokenizerFast

from scratch_gpt.data.bad_rows import BadRows
from scratch_gpt.data.conversations import split_rows
from scratch_gpt.data.sources import PRIMER, Source, parse_sources
from scratch_gpt.errors import UserError
from scratch_gpt.training.telemetry import console


Message = dict[str, str]
Row = dict[str, Any]
# Such as `instruction_rows`: sources, split of the primer, counter of bad rows, seed -> rows.
RowReader = Callable[[list[Source], str, BadRows, int], list[Row]]

SPLITS = ("train", "dev", "test")


class SplitArguments(Protocol):
    """The settings by which rows are read and divided."""

    sources: list | str | None
    on_bad_row: str
    seed: int
    held_out_fraction: float


def read_splits(read: RowReader, arguments: SplitArguments) -> dict[str, list[Row]]:
    """Rows of all sources as train, dev and test, and a line on the terminal for each file with bad rows.

    The primer brings its splits. Rows of files are divided by the hash of their question and the seed, so that with
    one seed a question that is held out in one stage is held out in all.

    Raises:
        UserError: sources that cannot be read, too many bad rows, nothing for one of the splits.
    """
    sources, bad_rows = parse_sources(arguments.sources), BadRows(arguments.on_bad_row)  # type: ignore[arg-type]
    embedded = [source for source in sources if source.path == PRIMER]
    files = [source for source in sources if source.path != PRIMER]
    rows = {split: read(embedded, split, bad_rows, arguments.seed) for split in SPLITS}
    fraction = arguments.held_out_fraction
    rest, test = split_rows(read(files, "train", bad_rows, arguments.seed), fraction, arguments.seed)
    # of what is left, so that dev and test are of the same size; another seed, for another hash
    train, dev = split_rows(rest, fraction / (1 - fraction), arguments.seed + 1)
    for split, found in zip(SPLITS, (train, dev, test), strict=True):
        rows[split] += found
        if not rows[split]:
            raise UserError(
                f"no row for the {split} split: give more rows, or another held_out_fraction ({fraction})"
            )
    for line in bad_rows.report():
        console.print(line, markup=False)
    return rows


def drop_long_rows(
    splits: dict[str, list[Row]],
    conversations: Callable[[Row], list[list[Message]]],
    tokenizer: PreTrainedTokenizerFast,
    max_length: int,
) -> dict[str, list[Row]]:
    """Leave out the rows of which a conversation has more than `max_length` tokens, and say how many.

    The others get the tokens of their longest conversation as `length`, by which Trainer can group them.
    Cut rows would teach answers without an end, and TRL drops over-long pairs without a word.

    Raises:
        UserError: no row of a split is left.
    """
    kept: dict[str, list[Row]] = {}
    for split, rows in splits.items():
        kept[split] = []
        for row in rows:
            token_ids = tokenizer.apply_chat_template(conversations(row), return_dict=True)["input_ids"]
            length = max(map(len, token_ids))
            if length <= max_length:
                kept[split].append({**row, "length": length})
        if not kept[split]:
            raise UserError(
                f"none of the {len(rows)} {split} rows fits into {max_length} tokens: raise max_length, or use a model "
                "with a longer context"
            )
        dropped = len(rows) - len(kept[split])
        console.print(
            f"{split}: {len(kept[split]):,} rows"
            + (f" ({dropped:,} over {max_length} tokens left out)" if dropped else "")
        )
    return kept
