# SPDX-License-Identifier: Apache-2.0
"""Settings of the rlhf stage, over TRL's."""

import dataclasses
from dataclasses import dataclass, field

from trl import GRPOConfig, RLOOConfig

from scratch_gpt.errors import UserError
from scratch_gpt.training.posttraining_arguments import PosttrainingArguments


@dataclass
class RLHFArguments(PosttrainingArguments, RLOOConfig):
    """Settings of `train/rlhf.py`: those that TRL's `RLOOConfig` and `GRPOConfig` share, models, data and measuring."""

    reward_model: str | None = field(default=None, metadata={"help": "Folder of the reward stage."})
    algorithm: str = field(default="rloo", metadata={"help": "rloo or grpo."})
    shards: str | None = field(
        default=None,
        metadata={
            "help": "Held-out blocks, such as shards/validation: measure bits per byte before and after."
        },
    )
    max_eval_prompts: int = field(
        default=256, metadata={"help": "Held-out prompts of the comparison, at most."}
    )
    eval_steps: float | None = field(
        default=10, metadata={"help": "Steps between measurements on prompts of the development split."}
    )
    learning_rate: float = field(
        default=1e-4, metadata={"help": "Peak learning rate; 1e-6 for models of billions."}
    )
    beta: float = field(
        default=0.1, metadata={"help": "Weight of the KL divergence from the starting model."}
    )
    num_generations: int | None = field(default=8, metadata={"help": "Answers to each prompt."})
    per_device_train_batch_size: int = field(
        default=64, metadata={"help": "Answers in one step: prompts times num_generations."}
    )
    max_completion_length: int | None = field(default=48, metadata={"help": "Longest answer in tokens."})
    mask_truncated_completions: bool = field(
        default=True, metadata={"help": "Answers that were cut off teach nothing."}
    )

    def __post_init__(self) -> None:
        if not self.reward_model:
            raise UserError(
                "reward_model is missing: give --reward_model DIR, the folder of the reward stage"
            )
        if self.algorithm not in ("rloo", "grpo"):
            raise UserError(f"algorithm must be rloo or grpo, got {self.algorithm!r}")
        super().__post_init__()
        self.include_num_input_tokens_seen = "no"  # TRL counts prompts and answers itself

    def for_trainer(self) -> RLOOConfig | GRPOConfig:
        """These settings as the chosen algorithm's trainer takes them."""
        if self.algorithm == "rloo":
            return self
        names = {entry.name for entry in dataclasses.fields(GRPOConfig)} & {
            entry.name for entry in dataclasses.fields(self)
        }
        # Derived from steps_per_generation by now; the two together are refused.
        return GRPOConfig(**{name: getattr(self, name) for name in names - {"generation_batch_size"}})
