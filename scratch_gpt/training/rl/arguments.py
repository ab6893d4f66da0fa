# SPDX-License-Identifier: Apache-2.0
"""Settings of the rlhf stage, over TRL's."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from trl import GRPOConfig, RLOOConfig

from scratch_gpt.errors import UserError, wrong_value
from scratch_gpt.inference.generation import NO_THOUGHT
from scratch_gpt.settings.checking import Count, Positive, check_values
from scratch_gpt.training.posttrain.arguments import PosttrainingArguments, SampleArguments
from scratch_gpt.training.posttrain.checks import UNUSED, refuse_without
from scratch_gpt.training.posttrain.lora import LoraArguments
from scratch_gpt.training.rl.reward_functions import DEFAULT_REWARDS, Reward, check_rewards


# Settings of transformers and TRL that follow from the others.
DERIVED = {
    *("eval_strategy", "save_strategy", "eval_on_start", "load_best_model_at_end", "greater_is_better"),
    *("metric_for_best_model", "num_generations_eval", "reward_weights"),
}
# Settings of one algorithm alone -> their defaults; `scale_rewards` is declared below.
RLOO_ONLY = {"normalize_advantages": False, "reward_clip_range": None}
_SHARED = {entry.name for entry in dataclasses.fields(RLOOConfig)}
_GRPO_FIELDS = [entry for entry in dataclasses.fields(GRPOConfig) if entry.name not in _SHARED]
GRPO_ONLY = {entry.name: entry.default for entry in _GRPO_FIELDS} | {"scale_rewards": None}
INSTEAD = {
    "scale_rewards": "use normalize_advantages or reward_clip_range",
    "normalize_advantages": "use scale_rewards",
    "reward_clip_range": "use scale_rewards",
}

# The two configurations of TRL's do not combine: each derives its batches in `__post_init__`, and refuses the other's.
GRPOFields: Any = dataclasses.make_dataclass(
    "GRPOFields",
    [
        (entry.name, entry.type, field(default=entry.default, metadata=entry.metadata))
        for entry in _GRPO_FIELDS
    ],
)
GRPOFields.__module__ = GRPOConfig.__module__  # by which `own_settings` knows whose they are


@dataclass
class RLHFArguments(SampleArguments, LoraArguments, PosttrainingArguments, GRPOFields, RLOOConfig):
    """Settings of `train/rlhf.py`: those of TRL's `RLOOConfig` and `GRPOConfig`, models, data and measuring."""

    unused: ClassVar[Mapping[str, str]] = {
        **UNUSED,
        "load_in_4bit": "the model that writes the answers is not quantized: leave it out",
        "reward_weights": "give each entry of rewards its own weight",
    }

    reward_model: str | None = field(
        default=None, metadata={"help": "Folder of the reward stage, for the reward named model."}
    )
    rewards: list[dict[str, Any]] = field(
        default_factory=lambda: list(DEFAULT_REWARDS),
        metadata={
            "help": "What answers are rewarded by: a list of {name, weight, ...} (YAML) or the same as JSON."
        },
    )
    algorithm: Literal["rloo", "grpo"] = field(default="rloo", metadata={"help": "How answers are compared."})
    reward_clip_range: list[float] | None = field(
        default=None, metadata={"help": "rloo: [lowest, highest], to which the sum of rewards is clipped."}
    )
    scale_rewards: Literal["group", "batch", "none"] | None = field(
        default=None,
        metadata={
            "help": "grpo: divide advantages by the standard deviation of rewards of the group (default), of the batch, "
            "or by none. rloo: see normalize_advantages and reward_clip_range."
        },
    )
    max_kl: Positive | None = field(
        default=None,
        metadata={"help": "Stop where the KL from the starting model exceeds this many nats per answer."},
    )
    patience: Count | None = field(
        default=None,
        metadata={
            "help": "Stop after this many measurements in a row without a better score on dev prompts."
        },
    )
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
        default=10,
        metadata={"help": "Steps between measurements on dev prompts; a checkpoint is written with each."},
    )
    save_steps: float | None = field(
        default=None, metadata={"help": "As eval_steps: the best measured model is one that was saved."}
    )
    learning_rate: float | None = field(
        default=None, metadata={"help": "Peak learning rate. Default: by the model's size, 1e-4 to 1e-6."}
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
        check_values(self)
        self.rewards = check_rewards(self.rewards or list(DEFAULT_REWARDS))
        if not self.reward_model and any(entry["name"] == "model" for entry in self.rewards):
            message = (
                "reward_model is missing: give --reward_model DIR, the folder of the reward stage, or rewards without "
                "the entry model"
            )
            raise UserError("setting_missing", message, setting="reward_model")
        self._check_algorithm()
        vllm = [entry.name for entry in dataclasses.fields(self) if entry.name.startswith("vllm_")]
        refuse_without(self, "use_vllm", vllm)
        if self.save_steps not in (None, self.eval_steps):
            message = (
                f"save_steps {self.save_steps} must be as eval_steps {self.eval_steps}, or be left out: the best measured "
                "model is one that was saved"
            )
            raise UserError("settings_conflict", message, setting="save_steps", other="eval_steps")
        self.save_steps = self.eval_steps
        # of transformers: what measures, saves, keeps the best and takes it in the end
        self.eval_strategy = self.save_strategy = "steps"
        self.eval_on_start = self.load_best_model_at_end = self.greater_is_better = True
        self.metric_for_best_model = "eval_score"
        self.num_generations_eval = 1  # TRL checks it against the evaluation batch, which we do not use
        super().__post_init__()
        # as the measurements ask; TRL's parser makes a mapping of text
        self.chat_template_kwargs = {**NO_THOUGHT, **(self.chat_template_kwargs or {})}  # type: ignore[has-type]
        self.include_num_input_tokens_seen = "no"  # TRL counts prompts and answers itself

    def _check_algorithm(self) -> None:
        """Raise UserError for a setting that is the other algorithm's, or makes no sense."""
        other, foreign = ("grpo", GRPO_ONLY) if self.algorithm == "rloo" else ("rloo", RLOO_ONLY)
        for name, default in foreign.items():
            if getattr(self, name) != default:
                cure = INSTEAD.get(name, f"leave it out, or give algorithm: {other}")
                message = f"{name} is not {self.algorithm}'s: {cure}"
                raise UserError("settings_conflict", message, setting=name, other="algorithm")
        clip = self.reward_clip_range
        if clip is not None and not (len(clip) == 2 and clip[0] < clip[1]):
            raise wrong_value("reward_clip_range", clip, "[lowest, highest]")

    def to_dict(self) -> dict[str, Any]:
        """The settings as `run.yaml` has them, without those that follow from the others."""
        return {name: value for name, value in super().to_dict().items() if name not in DERIVED}

    def for_trainer(self, rewards: Sequence[Reward]) -> RLOOConfig | GRPOConfig:
        """These settings as the chosen algorithm's trainer takes them, with the rewards' weights."""
        self.reward_weights = [reward.weight for reward in rewards]
        if self.algorithm == "rloo":
            return self
        names = {entry.name for entry in dataclasses.fields(GRPOConfig)} & {
            entry.name for entry in dataclasses.fields(self)
        }
        # Derived from steps_per_generation by now; the two together are refused.
        names -= {"generation_batch_size"} | ({"scale_rewards"} if self.scale_rewards is None else set())
        return GRPOConfig(**{name: getattr(self, name) for name in names})
