# SPDX-License-Identifier: Apache-2.0
"""What is trained in the time given: the size and the tokens with the lowest expected bits per byte, and the time of each stage.

Decided once and kept in `plan.json`: a resumed run reads it, and measures nothing again.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from scratch_gpt.errors import UserError, wrong_value
from scratch_gpt.new.forecast import Point, ScalingLaw
from scratch_gpt.new.memory import choose_batch, step_bytes, usable_memory
from scratch_gpt.new.shapes import Shape, shapes, weight_decay
from scratch_gpt.new.speed import Speed
from scratch_gpt.runs.folders import atomic_write, read_json
from scratch_gpt.training.planning.scaling import MOST_PASSES, short_warmup


# A run that takes less of the time than this is as long as it should be: it is neither cut nor stretched to the time.
ENOUGH = 0.9
# Outside the embeddings for a byte of text, where no size is asked for: larger models learn a text by heart. Of 0.6 MB,
# read 8 times, 2.2 parameters a byte came to 1.703 bits per byte of held-out text, 5.3 to 1.744.
MOST_PARAMETERS = 3
# Linear decay to zero over most of the run is best for a known length (Bergsma et al. 2025, hf.co/papers/2502.15938); what
# is left before it can be shortened where the machine is slower than measured.
DECAY_RATIO = 0.6
# Seconds on two cores: loading the libraries once for all stages, each stage's own start, the samples and the report.
LOADING_SECONDS, STAGE_SECONDS, ENDING_SECONDS = 10.0, 3.0, 8.0
# A forward pass beside a training step, and the samples of one evaluation.
EVALUATION_SPEEDUP, SAMPLES_SECONDS = 2.5, 1.5
SECONDS_BETWEEN_EVALUATIONS, MOST_EVALUATIONS = 60, 10
SECONDS_BETWEEN_CHECKPOINTS, CHECKPOINT_SECONDS = 300, 1.0
# Shorter runs teach nothing.
LEAST_SECONDS, LEAST_STEPS = 10, 20
# At most these shares of the time left for training, and passes over the rows.
SHARES = {"sft": 0.25, "dpo": 0.2}
EPOCHS = {"sft": 3, "dpo": 1}
# Beside a pretraining token: padding; for a pair also its two sides and the reference's answers. And the trainer's own
# work, in seconds a step.
ROW_COST, TRAINER_SECONDS = {"sft": 1.8, "dpo": 3.0}, {"sft": 0.06, "dpo": 0.12}
ROWS_PER_STEP = 8
# Of tuning stages: measuring before and after.
MEASURING_SECONDS = 15.0


@dataclass(frozen=True)
class TextFigures:
    """What the plan has to know of a text.

    Args:
        train_bytes, held_out_bytes: of the two sides.
        bytes_per_token: of the vocabulary, measured on held-out text.
        difficulty: see `forecast.Point`.
        tokenizer_seconds, shards_seconds: expected of these stages.
    """

    train_bytes: int
    held_out_bytes: int
    bytes_per_token: float
    difficulty: float
    tokenizer_seconds: float
    shards_seconds: float

    @property
    def train_tokens(self) -> float:
        """Tokens of the training side."""
        return self.train_bytes / self.bytes_per_token


@dataclass(frozen=True)
class Rows:
    """Rows of instructions, or pairs: bytes of text of each, of a pair with its longer answer."""

    sizes: Sequence[int]

    @cached_property
    def size(self) -> float:
        """Of one on average."""
        return sum(self.sizes) / len(self.sizes)


class TimeTable(NamedTuple):
    """What the time is spent on.

    Args:
        training: seconds of pretraining steps.
        expected: seconds of each stage; of pretraining those beside its steps.
        tuning: optimizer steps of the tuning stages.
    """

    training: float
    expected: dict[str, float]
    tuning: dict[str, int]

    def is_more_than_enough_for(self, choice: "Choice") -> bool:
        """Whether a run ends well before its time, since more passes would teach nothing."""
        return choice.seconds < ENOUGH * self.training


@dataclass(frozen=True)
class Choice:
    """A model and a run that fit into some time.

    Args:
        tokens: trained on, repeats counted.
        seconds: of training steps.
        bits_per_byte: expected of held-out text.
    """

    shape: Shape
    tokens: float
    passes: float
    seconds: float
    bits_per_byte: float


@dataclass(frozen=True)
class Plan:
    """All that is decided; `plan.json` holds it as it is.

    Attributes:
        inputs: what the user asked for, by which the same command is recognized.
        bits_per_byte: expected of held-out text.
        max_minutes: of pretraining steps; None: exactly `max_steps`.
        seconds: expected of each stage.
        tuning: optimizer steps of the tuning stages.
    """

    inputs: dict[str, Any]
    vocab_size: int
    model_config: dict[str, Any]
    parameters: int
    per_device_train_batch_size: int
    gradient_accumulation_steps: int
    max_steps: int
    max_minutes: float | None
    learning_rate: float
    warmup_steps: int
    weight_decay: float
    eval_steps: int
    save_steps: int
    passes: float
    bits_per_byte: float
    difficulty: float
    sample_prompts: list[str]
    seconds: dict[str, float]
    tuning: dict[str, int]

    @property
    def context(self) -> int:
        """Tokens of a block."""
        return int(self.model_config["max_position_embeddings"])

    def write(self, path: Path) -> None:
        """Keep the plan."""
        with atomic_write(path) as temporary:
            text = json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False)
            temporary.write_text(text + "\n", encoding="utf-8")


def read_plan(path: Path) -> Plan:
    """The plan of an earlier call.

    Raises:
        UserError: the file is damaged.
    """
    try:
        return Plan(**read_json(path))
    except TypeError:
        message = f"{path} is not a plan of this version: name a new --output_dir"
        raise UserError("unreadable_file", message, file=path) from None


def fitting_shapes(vocab_size: int, least_context: int, size: float | None) -> list[Shape]:
    """The models that fit into memory with one block, or of all the one that is nearest to the size asked for.

    Raises:
        UserError: the size asked for does not fit, or is far from all of them.
    """
    known, memory = shapes(vocab_size, least_context), usable_memory()
    if size is None:
        # From the largest: mostly all fit, and a look at one takes a second. The smallest fits wherever torch does.
        while len(known) > 1 and step_bytes(known[-1], 1) > memory:
            known.pop()
        return known
    nearest = min(known, key=lambda shape: abs(shape.size - size))
    if not known[0].size / 2 <= size <= known[-1].size * 2:
        wanted = f"from {known[0].size / 1e6:.1f}m to {known[-1].size / 1e6:.0f}m"
        raise wrong_value("size", f"{size / 1e6:g}m", wanted, where="--")
    if (needed := step_bytes(nearest, 1)) > memory:
        message = (
            f"--size {size / 1e6:g}m: training takes about {needed / 2**30:.1f} GiB and there are {memory / 2**30:.1f}: "
            "ask for less"
        )
        raise UserError("out_of_memory", message, size=size)
    return [nearest]


def choose(
    candidates: Sequence[Shape],
    text: TextFigures,
    speed: Speed,
    law: ScalingLaw,
    seconds_of: Callable[[Shape], float],
) -> Choice:
    """The model with the lowest expected bits per byte.

    Args:
        seconds_of: of training steps that there are for a model.

    Raises:
        UserError: for none there are enough.
    """
    found = []
    largest = max(MOST_PARAMETERS * text.train_bytes, min(shape.inner for shape in candidates))
    for shape in candidates:
        tokens_per_second, seconds = speed.tokens_per_second(shape), seconds_of(shape)
        if seconds < LEAST_SECONDS or shape.inner > largest:
            continue
        tokens = min(seconds * tokens_per_second, MOST_PASSES * text.train_tokens)
        point = Point(shape.inner, text.train_bytes, tokens * text.bytes_per_token, text.difficulty)
        passes, seconds = tokens / text.train_tokens, tokens / tokens_per_second
        found.append(Choice(shape, tokens, passes, seconds, law.bits_per_byte(point)))
    if not found:
        missing = max(0.1, math.ceil((LEAST_SECONDS - max(map(seconds_of, candidates))) / 6) / 10)
        message = f"no time is left for training, {missing:.1f} minutes are missing: raise --minutes by that much or more"
        raise UserError("too_little_time", message, missing=missing)
    return min(found, key=lambda choice: choice.bits_per_byte)


def evaluations(seconds: float) -> int:
    """Evaluations in a run of this many seconds."""
    return min(max(round(seconds / SECONDS_BETWEEN_EVALUATIONS), 1), MOST_EVALUATIONS)


def overhead_seconds(
    text: TextFigures, tokens_per_second: float, seconds: float, stages: Sequence[str]
) -> dict[str, float]:
    """Expected seconds beside training steps, by stage.

    Args:
        seconds: of pretraining.
        stages: tuning stages.
    """
    held_out_tokens = text.held_out_bytes / text.bytes_per_token
    evaluation = held_out_tokens / (EVALUATION_SPEEDUP * tokens_per_second) + SAMPLES_SECONDS
    checkpoints = 2 + seconds / SECONDS_BETWEEN_CHECKPOINTS
    return {
        "tokenizer": LOADING_SECONDS + STAGE_SECONDS + text.tokenizer_seconds,
        "shards": STAGE_SECONDS + text.shards_seconds,
        "pretrain": STAGE_SECONDS + evaluations(seconds) * evaluation + checkpoints * CHECKPOINT_SECONDS,
        **dict.fromkeys(stages, STAGE_SECONDS + MEASURING_SECONDS),
        "report": ENDING_SECONDS,
    }


def divide_time(
    shape: Shape, text: TextFigures, tokens_per_second: float, seconds: float, rows: Mapping[str, Rows]
) -> TimeTable:
    """The stages' shares of some seconds, and the optimizer steps of the tuning stages.

    Args:
        seconds: for all stages and the report.
        rows: of the tuning stages.
    """
    expected = overhead_seconds(text, tokens_per_second, seconds, list(rows))
    training = left = seconds - sum(expected.values())
    steps = {}
    for stage, each in rows.items():
        tokens = min(each.size / text.bytes_per_token, shape.context)
        step = TRAINER_SECONDS[stage] + ROWS_PER_STEP * tokens * ROW_COST[stage] / tokens_per_second
        most = EPOCHS[stage] * len(each.sizes) // ROWS_PER_STEP
        steps[stage] = max(1, min(most, int(SHARES[stage] * training / step)))
        expected[stage] += steps[stage] * step
        left -= steps[stage] * step
    return TimeTable(left, expected, steps)


def make_plan(
    choice: Choice,
    text: TextFigures,
    *,
    inputs: dict[str, Any],
    sample_prompts: list[str],
    times: TimeTable,
) -> Plan:
    """The numbers of a choice as the stages' settings."""
    shape = choice.shape
    micro_batch, micro_batches = choose_batch(shape, choice.tokens)
    tokens_per_step = micro_batch * micro_batches * shape.context
    max_steps = max(LEAST_STEPS, int(choice.tokens / tokens_per_step))
    return Plan(
        inputs=inputs,
        vocab_size=shape.vocab_size,
        model_config=shape.model_config(),
        parameters=shape.size,
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=micro_batches,
        max_steps=max_steps,
        max_minutes=None
        if times.is_more_than_enough_for(choice)
        else max(0.01, round(choice.seconds / 60, 2)),
        learning_rate=shape.learning_rate(),
        warmup_steps=short_warmup(shape.size, tokens_per_step, max_steps),
        weight_decay=weight_decay(choice.passes, shape.inner / text.train_bytes),
        eval_steps=-(-max_steps // evaluations(choice.seconds)),
        save_steps=max(1, round(max_steps * min(1.0, SECONDS_BETWEEN_CHECKPOINTS / choice.seconds))),
        passes=round(choice.passes, 2),
        bits_per_byte=round(choice.bits_per_byte, 3),
        difficulty=round(text.difficulty, 3),
        sample_prompts=sample_prompts,
        seconds=times.expected | {"pretrain": times.expected["pretrain"] + choice.seconds},
        tuning=times.tuning,
    )
