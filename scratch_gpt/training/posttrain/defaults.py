# SPDX-License-Identifier: Apache-2.0
"""What a stage after pretraining leaves open, by the size of the model: learning rate, epochs, longest row, batch, LoRA.

The rates for SMALL models are this project's, tuned on its own; those for LARGE ones are TRL's defaults, made for
published models. A model between the two gets the rate on the straight line between them, both axes logarithmic.
"""

import math
from importlib.util import find_spec
from typing import Any

import psutil
from transformers import PreTrainedModel
from trl import DistillationConfig, DPOConfig, KTOConfig, RewardConfig, RLOOConfig, SFTConfig

from scratch_gpt.inference.chat_format import LONGEST, context_length
from scratch_gpt.runs.log import console
from scratch_gpt.settings.hardware import gpu_memory


SMALL, LARGE = 10e6, 500e6  # parameters

# By the name of the stage's arguments: learning rates for SMALL and LARGE, epochs below and above MANY.
RATES = {
    "SFT": (1e-3, SFTConfig.learning_rate),
    "Reward": (5e-4, RewardConfig.learning_rate),
    "DPO": (5e-5, DPOConfig.learning_rate),
    "KTO": (5e-5, KTOConfig.learning_rate),
    "RLHF": (1e-4, RLOOConfig.learning_rate),
    "Distill": (5e-4, DistillationConfig.learning_rate),
}
MANY = 100e6
EPOCHS = {
    "SFT": (
        3,
        2,
        "as SmolLM2 (Allal et al. 2025, hf.co/papers/2502.02737) and Tulu 3 (2411.15124) were tuned",
    ),
    "Reward": (3, 1, "as InstructGPT's (Ouyang et al. 2022, hf.co/papers/2203.02155): more overfits"),
    "DPO": (3, 1, "as Tulu 3 (Lambert et al. 2024, hf.co/papers/2411.15124)"),
    "KTO": (3, 1, "as Ethayarajh et al. 2024 (hf.co/papers/2402.01306)"),
}
# LoRA learns best at ten times the rate of all weights (Schulman et al. 2025, thinkingmachines.ai/blog/lora); of a small
# model's rate that would be too much.
LORA_FACTOR, LORA_FACTOR_SMALL = 10, 3

ROWS = 8  # in one step and process: TRL's default
EVAL_ROWS = 64
# Bytes a parameter in float32: weights, gradient, AdamW's two moments; and the copies that a stage keeps beside them.
TRAINED_BYTES, COPY_BYTES = 16, 4
COPIES = {"SFT": 0, "Reward": 1, "DPO": 2, "KTO": 2, "RLHF": 2}
# Stages whose rows are answers that the model itself writes while it learns.
ANSWERING_STAGES = ("RLHF", "Distill")
# Sequences with logits in a row: a pair is two, as is an answer with another one for the KL divergence; a reward model has none.
SIDES = {"SFT": 1, "Reward": 0, "DPO": 2, "KTO": 2}
MEMORY_SHARE, LOGITS_SHARE = 0.8, 0.25


def rate_by_size(small: float, large: float, parameters: int) -> float:
    """The learning rate of a model of this size, to two digits."""
    share = math.log(parameters / SMALL) / math.log(LARGE / SMALL)
    share = min(max(share, 0.0), 1.0)
    return float(f"{small ** (1 - share) * large**share:.2g}")


def fitting_rows(config: Any, max_length: int, memory: float, sides: int) -> int:
    """The number of rows whose logits, their float32 copy and its gradient stay within LOGITS_SHARE of the memory; 1 to EVAL_ROWS."""
    row = 3 * 4 * max_length * sides * config.vocab_size
    return max(1, min(EVAL_ROWS, int(memory * LOGITS_SHARE / row) if row else EVAL_ROWS))


def device_memory() -> float:
    """Bytes of the device that trains."""
    return float(gpu_memory() or psutil.virtual_memory().total)


def resolve_defaults(arguments: Any, model: PreTrainedModel) -> None:
    """Fill what `arguments` leave open, in place, and print each value with the rule that it is from.

    Raises:
        UserError: `max_length` is longer than the model's context.
    """
    stage = type(arguments).__name__.removesuffix("Arguments")
    parameters, memory = model.num_parameters(), device_memory()
    size = f"{parameters:,} parameters"
    tell: list[str] = []
    if stage not in ANSWERING_STAGES:
        _resolve_rows(arguments, model, memory, SIDES[stage], tell)
        if arguments.num_train_epochs is None:
            few, many, source = EPOCHS[stage]
            arguments.num_train_epochs = many if parameters > MANY else few
            if arguments.max_steps <= 0:
                why = source if parameters > MANY else f"below {MANY / 1e6:.0f} million parameters"
                tell.append(f"num_train_epochs {arguments.num_train_epochs}: {why}")
    if stage in COPIES and arguments.use_peft is None:
        needed = (TRAINED_BYTES + COPY_BYTES * COPIES[stage]) * parameters
        fits = needed <= memory * MEMORY_SHARE
        arguments.use_peft = not fits and find_spec("peft") is not None
        if not fits:
            cure = (
                "" if arguments.use_peft else ', but PEFT is not installed: pip install "scratch-gpt[peft]"'
            )
            tell.append(
                f"use_peft {arguments.use_peft}: training all {size} takes {needed / 2**30:.1f} GiB, of "
                f"{memory / 2**30:.1f} GiB{cure}"
            )
    if arguments.learning_rate is None:
        small, large = RATES[stage]
        rate = rate_by_size(small, large, parameters)
        source = f"by {size}, from {small:g} up to {SMALL / 1e6:.0f} million to TRL's {large:g} from {LARGE / 1e6:.0f} million on"
        if stage in COPIES and arguments.use_peft:
            rate = float(f"{min(LORA_FACTOR * rate, LORA_FACTOR_SMALL * small):.2g}")
            source += ", times ten for LoRA (Schulman et al. 2025)"
        arguments.learning_rate = rate
        tell.append(f"learning_rate {rate:g}: {source}")
    for line in tell:
        console.print(line, markup=False, soft_wrap=True)


def _resolve_rows(arguments: Any, model: PreTrainedModel, memory: float, sides: int, tell: list[str]) -> None:
    """The longest row, and how many rows go through the model together: the rest of a step's comes one after the other."""
    if arguments.max_length is None and model.config.max_position_embeddings > LONGEST:
        context = model.config.max_position_embeddings
        tell.append(f"max_length {LONGEST}: of a context of {context:,}; longer rows take more memory")
    arguments.max_length = context_length(model, arguments.max_length)
    fitting = fitting_rows(model.config, arguments.max_length, memory, sides)
    if arguments.per_device_train_batch_size is None:
        size = ROWS
        while size > fitting:
            size //= 2
        if arguments.gradient_accumulation_steps == 1:
            arguments.gradient_accumulation_steps = ROWS // size
        arguments.per_device_train_batch_size = size
        if size < ROWS:
            tell.append(
                f"per_device_train_batch_size {size}, gradient_accumulation_steps {arguments.gradient_accumulation_steps}: "
                f"rows of {arguments.max_length} tokens that fit into memory with logits over {model.config.vocab_size:,} tokens"
            )
    if arguments.per_device_eval_batch_size is None:
        arguments.per_device_eval_batch_size = fitting
