# SPDX-License-Identifier: Apache-2.0
"""What a model says while a Trainer teaches it, into `samples.jsonl`."""

from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedTokenizerFast, TrainerCallback

from scratch_gpt.inference.generation import generate_answers
from scratch_gpt.runs.log import RunLog


MAX_NEW_TOKENS = 64


@dataclass
class SampleArguments:
    """The setting of the stages whose models write text."""

    sample_prompts: list[str] = field(
        default_factory=lambda: ["Who are you?", "What is the capital of France?"],
        metadata={"help": "Questions that the model answers at every evaluation, into samples.jsonl."},
    )


class Samples(TrainerCallback):
    """Appends the greedy answers to `prompts` at every evaluation; random states stay as they were."""

    def __init__(self, log: RunLog, prompts: list[str], tokenizer: PreTrainedTokenizerFast) -> None:
        self.log, self.prompts, self.tokenizer = log, prompts, tokenizer
        self.step = max((row["step"] for row in log.rows()), default=-1)

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any], model: Any = None, **kwargs: Any
    ) -> None:
        if self.step == state.global_step or not any(name.startswith("eval_") for name in logs):
            return
        self.step, was_training = state.global_step, model.training
        model.eval()
        answers = generate_answers(
            model,
            self.tokenizer,
            self.prompts,
            chat=not model.config.is_encoder_decoder,
            max_new_tokens=min(MAX_NEW_TOKENS, model.config.max_position_embeddings // 2),
        )
        model.train(was_training)
        if state.is_world_process_zero:
            for prompt, answer in zip(self.prompts, answers, strict=True):
                self.log.write(step=state.global_step, text=f"{prompt}\n{answer.text}")
