# SPDX-License-Identifier: Apache-2.0
"""Settings of pretraining, by the names that transformers has for them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from scratch_gpt.data.shards.mixed_blocks import parse_shards
from scratch_gpt.errors import UserError
from scratch_gpt.settings.checking import Count, NotNegative, Positive, Range, Seed, check_values


Share = Annotated[float, Range("in [0, 1]", lambda value: 0 <= value <= 1)]
MomentDecay = Annotated[float, Range("at least 0 and below 1", lambda value: 0 <= value < 1)]

# With `max_minutes`: what comes before the decay must be long enough to be shortened.
LARGEST_DECAY_RATIO = 0.8


@dataclass(frozen=True)
class PretrainArguments:
    """Settings of `train/pretrain.py`; the names are those of transformers' `TrainingArguments`."""

    # Settings that the user or the config file named: see `parse`.
    given: ClassVar[Mapping[str, Literal["user", "config"]]] = {}
    required: ClassVar[tuple[str, ...]] = ("shards", "tokenizer", "output_dir")

    shards: str | list[dict[str, Any]] = field(
        default="",
        metadata={
            "help": "Folder of the shards stage, or a list of {path, weight, from, until}: each used from one share of the run to another."
        },
    )
    tokenizer: str = field(
        default="",
        metadata={"help": "Folder of the tokenizer stage. Default: the tokenizer of model_name_or_path."},
    )
    model_name_or_path: str | None = field(
        default=None,
        metadata={"help": "Model folder whose weights to begin with. Default: a fresh model."},
    )
    output_dir: str = field(default="", metadata={"help": "The one folder that this stage writes."})
    model_config: dict[str, Any] = field(
        default_factory=dict,
        metadata={
            "help": "Passed unchanged to ScratchGPTConfig: {hidden_size: 256, ...} or JSON; with model_name_or_path the "
            "context alone: {max_position_embeddings: ..., rope_parameters: ...}."
        },
    )
    objective: Literal["causal", "masked", "span"] = field(
        default="causal",
        metadata={"help": "Next token, hidden tokens (as BERT), or taken-out spans (as T5)."},
    )
    whole_words: bool = field(
        default=False, metadata={"help": "Objective masked: hide all tokens of a word or none."}
    )
    attn_implementation: Literal["auto", "sdpa", "eager", "flex_attention", "flash_attention_2", "varlen"] = (
        field(
            default="auto",
            metadata={
                "help": "auto: varlen on a GPU that has it, else sdpa; eager is faster on a CPU with short blocks."
            },
        )
    )
    max_steps: Annotated[int, Range("at least 1, or -1", lambda n: n >= 1 or n == -1)] = field(
        default=-1, metadata={"help": "Optimizer steps; -1: as many as `tokens` take."}
    )
    max_minutes: Positive | None = field(
        default=None,
        metadata={
            "help": "Minutes of training steps: a tenth into the run its length is set to what the measured speed allows. "
            "The decay stays as planned. Default: the length as planned."
        },
    )
    tokens: Count | None = field(
        default=None,
        metadata={"help": "Tokens to train on. Default: num_train_epochs over the shards, or by rule."},
    )
    num_train_epochs: Positive | None = field(
        default=None,
        metadata={
            "help": "Passes over the shards. Default: 20 tokens a parameter, and at most four passes (by rule)."
        },
    )
    per_device_train_batch_size: Count | None = field(
        default=None, metadata={"help": "Packed blocks in one micro-batch. Default: what fits (by rule)."}
    )
    validation_shards: dict[str, str] = field(
        default_factory=dict,
        metadata={
            "help": "Other shards whose held-out blocks are measured too, name: folder: what a model forgets."
        },
    )
    per_device_eval_batch_size: Count = field(
        default=16, metadata={"help": "Packed blocks in one evaluation batch."}
    )
    gradient_accumulation_steps: Count | None = field(
        default=None,
        metadata={"help": "Micro-batches in one optimizer step. Default: by rule, see scaling.py."},
    )
    optim: Literal["muon", "adamw"] = field(
        default="muon", metadata={"help": "muon (AdamW for embeddings and norms) or adamw alone."}
    )
    learning_rate: Positive | None = field(
        default=None, metadata={"help": "Peak learning rate. Default: by rule, of parameters and tokens."}
    )
    weight_decay: NotNegative = field(default=0.1, metadata={"help": "Decay of the projection matrices."})
    adam_beta1: MomentDecay = field(default=0.9, metadata={"help": "AdamW's first moment decay."})
    adam_beta2: MomentDecay = field(default=0.95, metadata={"help": "AdamW's second moment decay."})
    max_grad_norm: Annotated[float, Range("above 0 (inf: no clipping)", lambda norm: norm > 0)] = field(
        default=1.0, metadata={"help": "Gradients are clipped to this global norm; inf: they are not."}
    )
    warmup_steps: Annotated[int, Range("at least 0", lambda n: n >= 0)] | None = field(
        default=None,
        metadata={"help": "Steps of linear warm-up. Default: by rule, at most a twentieth of all."},
    )
    lr_scheduler_type: Literal["warmup_stable_decay", "cosine"] = field(
        default="warmup_stable_decay",
        metadata={"help": "warmup_stable_decay, or cosine: down from the end of the warm-up on."},
    )
    decay_ratio: Share = field(
        default=0.4,
        metadata={"help": "Share of the steps in the final linear decay of warmup_stable_decay."},
    )
    max_skipped_steps: Count = field(
        default=8,
        metadata={"help": "The run aborts after this many consecutive skipped steps."},
    )
    activation_checkpointing: bool | None = field(
        default=None,
        metadata={
            "help": "Compute activations again in the backward pass: less memory, a third slower. Default: if needed."
        },
    )
    torch_compile: bool | None = field(
        default=None,
        metadata={"help": "Compile the layers. Default: on CUDA, and on a CPU if the run is long (by rule)."},
    )
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = field(
        default="auto",
        metadata={"help": "auto: what this machine is made for; fp16 needs a GPU."},
    )
    num_threads: Count | None = field(
        default=None, metadata={"help": "CPU threads. Default: OMP_NUM_THREADS, or all."}
    )
    logging_steps: Count = field(default=10, metadata={"help": "Steps between rows of log.jsonl."})
    eval_steps: Count = field(default=200, metadata={"help": "Steps between evaluations and samples."})
    max_eval_blocks: Count = field(
        default=256, metadata={"help": "Validation blocks in one evaluation, at most."}
    )
    save_steps: Count = field(default=500, metadata={"help": "Steps between checkpoints."})
    save_total_limit: Count = field(default=2, metadata={"help": "Checkpoints kept; older ones are removed."})
    sample_prompts: list[str] = field(
        default_factory=lambda: ["The", "Once upon a time"],
        metadata={"help": "Beginnings that the model continues at every evaluation, into samples.jsonl."},
    )
    resume_from_checkpoint: str | None = field(
        default=None,
        metadata={"help": "A checkpoint folder, or latest: the newest one, afresh if there is none."},
    )
    allow_changed_settings: bool = field(
        default=False,
        metadata={"help": "Resume although settings differ from the checkpoint's: no longer the same bits."},
    )
    report_to: list[str] = field(
        default_factory=list,
        metadata={"help": "Trackers besides log.jsonl: trackio, tensorboard, wandb; each must be installed."},
    )
    seed: Seed = field(default=0, metadata={"help": "Seed of the weights and of the order of the blocks."})
    push_to_hub: bool = field(default=False, metadata={"help": "Upload the finished folder to the Hub."})
    hub_model_id: str | None = field(default=None, metadata={"help": "Where to: user/name."})
    hub_private_repo: bool = field(
        default=False, metadata={"help": "Create the repository as a private one."}
    )
    hub_strategy: Literal["end", "every_save"] = field(
        default="end",
        metadata={"help": "end, or every_save: each checkpoint too, as the revision step-N."},
    )

    def __post_init__(self) -> None:
        check_values(self)
        for name in self.required:
            if not getattr(self, name) and not (name == "tokenizer" and self.model_name_or_path):
                message = f"{name} is missing: give --{name} DIR or {name}: DIR in the YAML"
                raise UserError("setting_missing", message, setting=name)
        parse_shards(self.shards)
        if self.whole_words and self.objective != "masked":
            message = f"whole_words is for objective masked, not for {self.objective}"
            raise UserError("settings_conflict", message, setting="whole_words", other="objective")
        if (
            self.model_name_or_path
            and Path(self.model_name_or_path).resolve() == Path(self.output_dir).resolve()
        ):
            message = f"output_dir {self.output_dir} is the model that the run begins with: name a new one"
            raise UserError("settings_conflict", message, setting="output_dir", other="model_name_or_path")
        if self.tokens is not None and self.num_train_epochs is not None:
            message = f"tokens {self.tokens} and num_train_epochs {self.num_train_epochs} are both given: leave one out"
            raise UserError("settings_conflict", message, setting="tokens", other="num_train_epochs")
        if self.max_minutes is not None:
            self._check_time_budget()
        if not all(self.sample_prompts):
            message = "sample_prompts must not be empty texts: leave them out, or give a first word"
            raise UserError("empty_text", message)
        if self.push_to_hub and not self.hub_model_id:
            message = "push_to_hub needs hub_model_id: user/name"
            raise UserError("setting_missing", message, setting="hub_model_id")

    def _check_time_budget(self) -> None:
        """Refuse a length that depends on the speed where something else depends on the length."""
        others = {
            "lr_scheduler_type": self.lr_scheduler_type != "warmup_stable_decay",
            "decay_ratio": self.decay_ratio > LARGEST_DECAY_RATIO,
            "shards": len(parse_shards(self.shards)) > 1,
        }
        for name, conflicts in others.items():
            if conflicts:
                message = (
                    f"max_minutes {self.max_minutes:g} needs lr_scheduler_type warmup_stable_decay, decay_ratio of at most "
                    f"{LARGEST_DECAY_RATIO} and one folder of shards: change {name}, or set max_steps instead"
                )
                raise UserError("settings_conflict", message, setting="max_minutes", other=name)
