# SPDX-License-Identifier: Apache-2.0
"""From a text and some minutes to a plan: what is read, measured and chosen, in this order, each shown as it is known."""

import math
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from scratch_gpt.data.rows.conversations import instruction_rows
from scratch_gpt.data.rows.preferences import preference_rows
from scratch_gpt.data.sources.bad_rows import BadRows
from scratch_gpt.data.sources.source import CORPUS_SETTINGS, parse_sources
from scratch_gpt.errors import UserError
from scratch_gpt.new import showing
from scratch_gpt.new.arguments import NewArguments
from scratch_gpt.new.configs import ROWS, TOKENIZER_CHARACTERS, rows_source
from scratch_gpt.new.forecast import stored_law, text_difficulty
from scratch_gpt.new.memory import choose_batch
from scratch_gpt.new.planning import (
    Choice,
    Plan,
    Rows,
    TextFigures,
    TimeTable,
    choose,
    divide_time,
    fitting_shapes,
    make_plan,
)
from scratch_gpt.new.shapes import Shape, choose_vocab_size
from scratch_gpt.new.speed import measure_speed, seconds_per_step
from scratch_gpt.new.text import TextSummary, find_files, skipped_files, text_bytes, write_corpus
from scratch_gpt.settings.hardware import device_type
from scratch_gpt.tokenization import encode_plain, train_tokenizer
from scratch_gpt.training.planning.execution import choose_compilation


# Text that a minute can use at most: about what the smallest model reads.
BYTES_A_MINUTE, GPU_BYTES_A_MINUTE = 6e6, 2e8
# Seconds of timed steps: a share of the whole time, and at most.
MEASURING_SHARE, MOST_MEASURING_SECONDS = 0.04, 10.0
# Small, medium and large enough to see how speed depends on size, small enough for a few seconds.
TRIALS, GPU_TRIALS = ((128, 2), (192, 5), (320, 5)), ((256, 4), (512, 8), (768, 12))
# Tokens of a block of a model that is to answer: questions need room.
CHAT_CONTEXT = 256
# Of instructions or preferences: fewer teach nothing, and a tenth of them is held out twice.
LEAST_ROWS = 100
# That the chat template adds to a question and its answer.
TEMPLATE_TOKENS = 16
# Beginnings of held-out documents, which samples continue.
PROMPTS, PROMPT_CHARACTERS = 2, 40
# What the time is compared with in the table.
OTHER_TIMES = (0.5, 2.0)
# Bytes of disk for a byte of text: corpus and shards.
DISK_FACTOR, CHECKPOINT_BYTES = 2.0, 3e8


def decide(arguments: NewArguments, corpus: Path, console: Console) -> Plan:
    """Look at the text, measure, choose, show; writes the corpus.

    Raises:
        UserError: nothing to read, too little text, too little time, no room.
    """
    on_cpu = device_type() == "cpu"
    files = find_files(arguments.texts, arguments.output_dir)
    rows = read_rows(arguments, console)
    most_bytes = arguments.minutes * (BYTES_A_MINUTE if on_cpu else GPU_BYTES_A_MINUTE)
    check_disk(files, most_bytes, arguments.output_dir)
    with console.status("reading the text"):
        summary = write_corpus(files, arguments.documents, most_bytes, corpus)
    summary.unread |= skipped_files(arguments.texts, files, arguments.output_dir)
    showing.show_text(summary, console)

    vocab_size = choose_vocab_size(summary.size, summary.characters)
    candidates = fitting_shapes(vocab_size, CHAT_CONTEXT if rows else 0, arguments.size)
    measuring = min(60 * MEASURING_SHARE * arguments.minutes, MOST_MEASURING_SECONDS)
    with console.status("measuring the text and this machine"):
        text = measure_text(summary, vocab_size)
        trials = [Shape(*size, vocab_size) for size in (TRIALS if on_cpu else GPU_TRIALS)]
        speed = measure_speed(trials, measuring / 2)
    law = stored_law()

    def times(minutes: float, shape: Shape) -> TimeTable:
        seconds = 60 * minutes - seconds_so_far()
        return divide_time(shape, text, speed.tokens_per_second(shape), seconds, rows)

    def best(minutes: float, among: Sequence[Shape]) -> Choice:
        return choose(among, text, speed, law, lambda shape: times(minutes, shape).training)

    choice = best(arguments.minutes, candidates)
    check_fitting(arguments, rows, choice.shape.context, text.bytes_per_token)
    with console.status("timing the model that was chosen, as it will run"):
        batch = choose_batch(choice.shape, choice.tokens)
        run = (None, choice.shape.config, int(choice.tokens), choice.shape.context)
        step = seconds_per_step(choice.shape, *batch, choose_compilation(*run)[0], measuring / 2)
    speed.correct(choice.shape, math.prod(batch) * choice.shape.context / step)
    choices = {1.0: best(arguments.minutes, [choice.shape])}
    for factor in OTHER_TIMES:
        with suppress(UserError):  # half the time may be too little
            choices[factor] = best(factor * arguments.minutes, candidates)
    table = times(arguments.minutes, choice.shape)
    plan = make_plan(
        choices[1.0],
        text,
        inputs=arguments.inputs(),
        sample_prompts=prompts(summary),
        times=table,
    )
    showing.show_choice(choices, arguments.minutes, text, console)
    showing.show_plan(plan, console)
    if table.is_more_than_enough_for(choices[1.0]):
        line = f"{choices[1.0].passes:.0f} passes over the text are enough: the rest of the time would teach nothing, more text would"
        console.print(line, soft_wrap=True)
    return plan


def seconds_so_far() -> float:
    """Since this process began: loading the libraries counts too."""
    return time.time() - float(psutil.Process().create_time())


def read_rows(arguments: NewArguments, console: Console) -> dict[str, Rows]:
    """The rows of the tuning stages that are asked for; reading them now finds a mistake before anything is trained.

    Rows that cannot be used are reported.

    Raises:
        UserError: a file that cannot be read, or holds too few such rows.
    """
    found = {}
    for stage, read in (("sft", instruction_rows), ("dpo", preference_rows)):
        name = ROWS[stage]
        path = arguments.inputs()[name]
        if path is None:
            continue
        bad_rows = BadRows()
        rows = read(parse_sources([rows_source(name, path)], CORPUS_SETTINGS), "train", bad_rows, 0)
        report = bad_rows.report()
        if len(rows) < LEAST_ROWS:
            why = f" ({'; '.join(report)})" if report else ""
            message = f"--{name} {path}: {len(rows)} rows are too few to learn from{why}, give at least {LEAST_ROWS}"
            raise UserError("too_few_rows", message, rows=len(rows), size=None)
        for line in report:
            console.print(line, markup=False, soft_wrap=True)
        found[stage] = Rows([_size(row) for row in rows])
    return found


def _size(row: Mapping[str, Any]) -> int:
    """Bytes of a row's messages, of a pair with the longer answer."""
    parts = {
        key: sum(len(str(message["content"]).encode()) for message in row.get(key, ()))
        for key in ("messages", "prompt", "chosen", "rejected")
    }
    return parts["messages"] + parts["prompt"] + max(parts["chosen"], parts["rejected"])


def check_fitting(
    arguments: NewArguments, rows: Mapping[str, Rows], context: int, bytes_per_token: float
) -> None:
    """Whether enough rows fit into the model's context: the stages leave out longer ones.

    Raises:
        UserError: there are not.
    """
    room = int((context - TEMPLATE_TOKENS) * bytes_per_token)
    for stage, each in rows.items():
        fitting = sum(size <= room for size in each.sizes)
        if fitting < LEAST_ROWS:
            name = ROWS[stage]
            message = (
                f"--{name} {arguments.inputs()[name]}: {fitting} of {len(each.sizes)} rows fit into a context of {context} "
                f"tokens, about {room} bytes: give at least {LEAST_ROWS} such rows"
            )
            raise UserError("too_few_rows", message, rows=fitting, size=room)


def check_disk(files: Sequence[Path], most_bytes: float, output_dir: Path) -> None:
    """Whether there is room for what is written.

    Args:
        most_bytes: of text that the time allows to be used.

    Raises:
        UserError: there is not.
    """
    needed = DISK_FACTOR * min(sum(map(text_bytes, files)), most_bytes) + CHECKPOINT_BYTES
    place = next(
        folder for folder in (output_dir.absolute(), *output_dir.absolute().parents) if folder.is_dir()
    )
    free = shutil.disk_usage(place).free
    if free < needed:
        message = f"{place} has {free / 1e9:.1f} GB free and about {needed / 1e9:.1f} are needed: make room, or name another --output_dir"
        raise UserError("cannot_write", message, path=place)


def measure_text(summary: TextSummary, vocab_size: int) -> TextFigures:
    """What the plan has to know of the text, from a tokenizer that is learned on a sample of it."""
    started = time.perf_counter()
    tokenizer = train_tokenizer(summary.sample, vocab_size)
    learning = time.perf_counter() - started
    sample_bytes = sum(len(text.encode()) for text in summary.sample)
    started = time.perf_counter()
    # each document ends with one more token
    tokens = sum(len(ids) + 1 for ids in encode_plain(tokenizer, summary.held_out_sample))
    encoding = time.perf_counter() - started
    train_bytes = summary.size - summary.held_out
    return TextFigures(
        train_bytes=train_bytes,
        held_out_bytes=summary.held_out,
        bytes_per_token=summary.held_out / tokens,
        difficulty=text_difficulty(summary.sample, summary.held_out_sample),
        tokenizer_seconds=learning * min(train_bytes, TOKENIZER_CHARACTERS) / sample_bytes,
        shards_seconds=encoding * summary.size / summary.held_out,
    )


def prompts(summary: TextSummary) -> list[str]:
    """Beginnings of held-out documents, cut at a word."""
    found = []
    for text in islice((text for text in summary.held_out_sample if text.strip()), PROMPTS):
        line = next(line.strip() for line in text.splitlines() if line.strip())
        found.append(
            line
            if len(line) <= PROMPT_CHARACTERS
            else (line[:PROMPT_CHARACTERS].rpartition(" ")[0] or line[:PROMPT_CHARACTERS])
        )
    return found
