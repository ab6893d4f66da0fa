# SPDX-License-Identifier: Apache-2.0
"""What a run leaves open, by published rules: token budget, batch, learning rate, warm-up.

The Step Law (Li et al. 2025, hf.co/papers/2503.04715) gives learning rate and batch of AdamW from the parameters N
outside the embeddings and the tokens D of the run. Muon's steps are scaled to AdamW's size (optimization.py), so it
shares them. It was fitted to FITTED_PARAMETERS and FITTED_TOKENS; what is outside is extrapolated, and said to be.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from scratch_gpt.errors import UserError
from scratch_gpt.training.pretrain.arguments import PretrainArguments
from scratch_gpt.training.pretrain.continued import BaseRun


# Compute is best spent at about 20 tokens a parameter (Hoffmann et al. 2022, hf.co/papers/2203.15556, table 3).
CHINCHILLA_TOKENS_PER_PARAMETER = 20
FITTED_PARAMETERS = (60e6, 1.1e9)
FITTED_TOKENS = (2e9, 100e9)
# Up to four passes over text are worth almost as much as new text (Muennighoff et al. 2023, hf.co/papers/2305.16264).
GOOD_PASSES = 4
# More passes are learned by heart: of half a megabyte, 4, 8 and 16 passes of 0.4 million parameters came to 1.777, 1.735
# and 1.741 bits per byte of held-out text, 34 in larger steps to 1.995.
MOST_PASSES = 8
# Of a continued run; longer or shorter ones make no difference (Ibrahim et al. 2024, hf.co/papers/2403.08763).
REWARMING_SHARE = 0.01
# Below a million parameters the Step Law exceeds what any model was tuned to.
LARGEST_LEARNING_RATE = 1e-2
# On a CPU a larger micro-batch takes more memory and is no faster: it leaves the caches.
CPU_MICRO_BATCH_TOKENS = 4096


@dataclass(frozen=True)
class Scale:
    """The settings that the rules can fill, all filled."""

    max_steps: int
    per_device_train_batch_size: int
    gradient_accumulation_steps: int
    learning_rate: float
    warmup_steps: int


def step_law_batch(tokens: float) -> float:
    """Tokens in one step of a run over `tokens` tokens."""
    return float(0.58 * tokens**0.571)


def step_law_learning_rate(num_parameters: int, tokens: float) -> float:
    """Peak learning rate of a model of `num_parameters` outside the embeddings in a run over `tokens`."""
    return float(min(LARGEST_LEARNING_RATE, 1.79 * num_parameters**-0.713 * tokens**0.307))


def short_warmup(num_parameters: int, tokens_per_step: int, max_steps: int) -> int:
    """Steps until as many tokens as parameters were seen (Porian et al. 2024, hf.co/papers/2406.19146).

    At 20 tokens a parameter that is a twentieth of the run; in shorter runs it is never more.
    """
    steps = min(num_parameters / tokens_per_step, max_steps / CHINCHILLA_TOKENS_PER_PARAMETER)
    return max(1, round(steps))


def divide_step(blocks: int, fits: Callable[[int], bool]) -> tuple[int, int]:
    """Blocks in a micro-batch that `fits`, and micro-batches, which make about `blocks`: as few halvings as needed."""
    micro_batches = 1
    while (size := max(1, round(blocks / micro_batches))) > 1 and not fits(size):
        micro_batches *= 2
    return size, max(1, round(blocks / size))


def apply_scaling_rules(
    arguments: PretrainArguments,
    parameters: Mapping[str, int],
    *,
    sequence_length: int,
    available_tokens: int | None,
    passes: float = GOOD_PASSES,
    num_processes: int,
    fits: Callable[[int], bool],
    base_run: BaseRun | None = None,
) -> tuple[Scale, list[str]]:
    """What `arguments` say of the scale, and the rules where they leave it open.

    Args:
        parameters: by part, those named "embeddings" and "output head" apart (`count_parameters`).
        available_tokens: one pass over the shards; None where there are none yet.
        passes: over the shards, at most, where the budget is by rule (`good_passes`).
        fits: whether a micro-batch of that many blocks fits into a device.
        base_run: that wrote the weights to begin with, where it is known.

    Returns:
        The scale, and a line for the terminal for each value that was found by a rule.

    Raises:
        UserError: passes over shards that are not there.
    """
    lines = []
    total = sum(parameters.values())
    inner = total - parameters.get("embeddings", 0) - parameters.get("output head", 0)
    tokens, how = _budget(arguments, total, available_tokens, passes)

    size, micro_batches = arguments.per_device_train_batch_size, arguments.gradient_accumulation_steps
    if size is None or micro_batches is None:
        blocks = max(1, round(step_law_batch(tokens) / (sequence_length * num_processes)))
        if size is not None:
            micro_batches = max(1, round(blocks / size))
        elif micro_batches is not None:
            size = max(1, round(blocks / micro_batches))
        else:
            size, micro_batches = divide_step(blocks, fits)
    tokens_per_step = size * micro_batches * num_processes * sequence_length
    max_steps = arguments.max_steps if arguments.max_steps > 0 else max(1, int(tokens / tokens_per_step))
    trained = max_steps * tokens_per_step
    if arguments.max_steps < 0 and how:
        lines.append(f"max_steps {max_steps:,}: {how}")
    if None in (arguments.per_device_train_batch_size, arguments.gradient_accumulation_steps):
        lines.append(
            f"per_device_train_batch_size {size}, gradient_accumulation_steps {micro_batches}: {tokens_per_step:,} "
            f"tokens a step, by 0.58 D^0.571 {step_law_batch(tokens):,.0f} (Step Law, hf.co/papers/2503.04715)"
        )
    learning_rate, warmup_steps = arguments.learning_rate, arguments.warmup_steps
    if learning_rate is None and base_run is not None:
        learning_rate = base_run.learning_rate
        stable = f", at which it still was at step {base_run.step} (the stable part of warmup_stable_decay)"
        lines.append(
            f"learning_rate {learning_rate:g}: the peak of the run that wrote {arguments.model_name_or_path}"
            + (stable if base_run.is_stable else ", re-warmed")
            + ", and decayed again (Ibrahim et al. 2024, hf.co/papers/2403.08763)"
        )
    elif learning_rate is None:
        learning_rate = float(f"{step_law_learning_rate(inner, trained):.3g}")
        fitted = _within(inner, FITTED_PARAMETERS) and _within(trained, FITTED_TOKENS)
        lines.append(
            f"learning_rate {learning_rate:g}: 1.79 N^-0.713 D^0.307, at most {LARGEST_LEARNING_RATE:g}, of N = "
            f"{inner:,} parameters outside the embeddings and D = {trained:,} tokens (Step Law"
            + (")" if fitted else ", fitted to 60 million to 1.1 billion and 2 to 100 billion: extrapolated)")
        )
    if warmup_steps is None and arguments.model_name_or_path:
        warmup_steps = max(1, round(REWARMING_SHARE * max_steps))
        lines.append(
            f"warmup_steps {warmup_steps}: {REWARMING_SHARE:.0%} of the steps of a continued run (Ibrahim et al. 2024, "
            "hf.co/papers/2403.08763)"
        )
    elif warmup_steps is None:
        warmup_steps = short_warmup(total, tokens_per_step, max_steps)
        lines.append(
            f"warmup_steps {warmup_steps}: as many tokens as parameters, at most 5% of the steps (Porian et al. 2024, "
            "hf.co/papers/2406.19146)"
        )
    return Scale(max_steps, size, micro_batches, learning_rate, warmup_steps), lines


def _budget(
    arguments: PretrainArguments, num_parameters: int, available_tokens: int | None, passes: float
) -> tuple[float, str]:
    """The tokens of the run, and the rule that the number is from; empty if the arguments say it."""
    if arguments.tokens is not None:
        return arguments.tokens, ""
    if arguments.num_train_epochs is not None:
        if available_tokens is None:
            message = f"num_train_epochs {arguments.num_train_epochs:g} of shards that are not there yet: give --tokens"
            raise UserError("setting_missing", message, setting="tokens")
        return arguments.num_train_epochs * available_tokens, ""
    best = CHINCHILLA_TOKENS_PER_PARAMETER * num_parameters
    source = f"{CHINCHILLA_TOKENS_PER_PARAMETER} tokens a parameter (Hoffmann et al. 2022, hf.co/papers/2203.15556)"
    if available_tokens is None or best <= available_tokens:
        return best, f"{best:,} tokens, {source}"
    tokens = min(best, passes * available_tokens)
    return tokens, (
        f"{tokens / available_tokens:.3g} passes over {available_tokens:,} tokens; {source} would be {best:,}, and up to "
        f"{GOOD_PASSES} passes are worth almost as much as new text (Muennighoff et al. 2023, hf.co/papers/2305.16264)"
    )


def good_passes(manifest: Mapping[str, Any]) -> float:
    """Passes over shards after which the source that they repeat most was read GOOD_PASSES times; at least 1."""
    repeats = max(source.get("epochs") or 1.0 for source in manifest["sources"])
    return max(1.0, GOOD_PASSES / max(1.0, repeats))


def _within(value: float, limits: tuple[float, float]) -> bool:
    return limits[0] <= value <= limits[1]
