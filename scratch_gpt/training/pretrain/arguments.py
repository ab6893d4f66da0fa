# SPDX-License-Identifier: Apache-2.0
"""Settings of pretraining, by the names that transformers has for them."""

from dataclasses import dataclass, field

from scratch_gpt.errors import UserError, wrong_value
from scratch_gpt.settings.parsing import check_positive, check_seed, decode_yaml


@dataclass
class PretrainArguments:
    """Settings of `train/pretrain.py`; the names are those of transformers' `TrainingArguments`."""

    shards: str | None = field(default=None, metadata={"help": "Folder of the shards stage."})
    tokenizer: str | None = field(default=None, metadata={"help": "Folder of the tokenizer stage."})
    output_dir: str | None = field(default=None, metadata={"help": "The one folder that this stage writes."})
    model_config: dict | str | None = field(
        default=None,
        metadata={"help": "Passed unchanged to ScratchGPTConfig: {hidden_size: 256, ...} or JSON."},
    )
    objective: str = field(
        default="causal",
        metadata={
            "help": "causal (next token), masked (hidden tokens, as BERT) or span (taken-out spans, as T5)."
        },
    )
    whole_words: bool = field(
        default=False, metadata={"help": "Objective masked: hide all tokens of a word or none."}
    )
    attn_implementation: str = field(
        default="sdpa",
        metadata={
            "help": "sdpa, eager (faster on a CPU with short blocks), flex_attention or flash_attention_2."
        },
    )
    max_steps: int = field(default=-1, metadata={"help": "Optimizer steps; -1: as many as `tokens` take."})
    tokens: int | None = field(
        default=None,
        metadata={"help": "Tokens to train on. Default: num_train_epochs over the shards, or by rule."},
    )
    num_train_epochs: float | None = field(
        default=None,
        metadata={
            "help": "Passes over the shards. Default: 20 tokens a parameter, and at most one pass (by rule)."
        },
    )
    per_device_train_batch_size: int | None = field(
        default=None, metadata={"help": "Packed blocks in one micro-batch. Default: what fits (by rule)."}
    )
    per_device_eval_batch_size: int = field(
        default=16, metadata={"help": "Packed blocks in one evaluation batch."}
    )
    gradient_accumulation_steps: int | None = field(
        default=None,
        metadata={"help": "Micro-batches in one optimizer step. Default: by rule, see scaling.py."},
    )
    optim: str = field(
        default="muon", metadata={"help": "muon (AdamW for embeddings and norms) or adamw alone."}
    )
    learning_rate: float | None = field(
        default=None, metadata={"help": "Peak learning rate. Default: by rule, of parameters and tokens."}
    )
    weight_decay: float = field(default=0.1, metadata={"help": "Decay of the projection matrices."})
    adam_beta1: float = field(default=0.9, metadata={"help": "AdamW's first moment decay."})
    adam_beta2: float = field(default=0.95, metadata={"help": "AdamW's second moment decay."})
    max_grad_norm: float = field(
        default=1.0, metadata={"help": "Gradients are clipped to this global norm; inf: they are not."}
    )
    warmup_steps: int | None = field(
        default=None,
        metadata={"help": "Steps of linear warm-up. Default: by rule, at most a twentieth of all."},
    )
    lr_scheduler_type: str = field(
        default="warmup_stable_decay",
        metadata={"help": "warmup_stable_decay, or cosine: down from the end of the warm-up on."},
    )
    decay_ratio: float = field(
        default=0.4,
        metadata={"help": "Share of the steps in the final linear decay of warmup_stable_decay."},
    )
    max_skipped_steps: int = field(
        default=8,
        metadata={
            "help": "The run stops after so many steps in a row whose loss or gradients are not usable."
        },
    )
    gradient_checkpointing: bool = field(
        default=False,
        metadata={
            "help": "Compute the layers' activations again in the backward pass: less memory, a third slower."
        },
    )
    torch_compile: bool = field(
        default=False, metadata={"help": "Compile the layers, where there is a compiler; slow to start."}
    )
    mixed_precision: str = field(
        default="auto",
        metadata={"help": "no, bf16, fp16 (GPU), or auto: what this machine is made for."},
    )
    num_threads: int | None = field(
        default=None, metadata={"help": "CPU threads. Default: OMP_NUM_THREADS, or all."}
    )
    logging_steps: int = field(default=10, metadata={"help": "Steps between rows of log.jsonl."})
    eval_steps: int = field(default=200, metadata={"help": "Steps between evaluations and samples."})
    max_eval_blocks: int = field(
        default=256, metadata={"help": "Validation blocks in one evaluation, at most."}
    )
    save_steps: int = field(default=500, metadata={"help": "Steps between checkpoints."})
    save_total_limit: int = field(default=2, metadata={"help": "Checkpoints kept; older ones are removed."})
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
    seed: int = field(default=0, metadata={"help": "Seed of the weights and of the order of the blocks."})
    push_to_hub: bool = field(default=False, metadata={"help": "Upload the finished folder to the Hub."})
    hub_model_id: str | None = field(default=None, metadata={"help": "Where to: user/name."})
    hub_private_repo: bool = field(
        default=False, metadata={"help": "Create the repository as a private one."}
    )
    hub_strategy: str = field(
        default="end",
        metadata={"help": "end, or every_save: each checkpoint too, as the revision step-N."},
    )

    def __post_init__(self) -> None:
        self.model_config = decode_yaml(self.model_config, "model_config") or {}
        if not isinstance(self.model_config, dict):
            raise wrong_value("model_config", self.model_config, "a mapping such as {hidden_size: 256}")
        for name in ("shards", "tokenizer", "output_dir"):
            if not getattr(self, name):
                message = f"{name} is missing: give --{name} DIR or {name}: DIR in the YAML"
                raise UserError("setting_missing", message, setting=name)
        check_positive(
            self,
            "per_device_train_batch_size",
            "per_device_eval_batch_size",
            "gradient_accumulation_steps",
            "logging_steps",
            "eval_steps",
            "max_eval_blocks",
            "save_steps",
            "save_total_limit",
            "max_skipped_steps",
            "tokens",
            "num_threads",
        )
        if self.objective not in ("causal", "masked", "span"):
            raise wrong_value("objective", self.objective, "causal, masked or span")
        if self.whole_words and self.objective != "masked":
            message = f"whole_words is for objective masked, not for {self.objective}"
            raise UserError("settings_conflict", message, setting="whole_words", other="objective")
        if self.optim not in ("muon", "adamw"):
            raise wrong_value("optim", self.optim, "muon or adamw")
        epochs = self.num_train_epochs
        no_epochs = self.max_steps < 0 and epochs is not None and not epochs > 0
        if self.max_steps == 0 or self.max_steps < -1 or no_epochs:
            message = f"nothing to train: max_steps is {self.max_steps}, num_train_epochs {epochs}"
            raise UserError("nothing_to_train", message, max_steps=self.max_steps)
        if self.tokens is not None and epochs is not None:
            message = f"tokens {self.tokens} and num_train_epochs {epochs} are both given: leave one out"
            raise UserError("settings_conflict", message, setting="tokens", other="num_train_epochs")
        for name, cure in (("learning_rate", ""), ("max_grad_norm", " (inf: no clipping)")):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise wrong_value(name, value, f"above 0{cure}")
        for name in ("warmup_steps", "weight_decay"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise wrong_value(name, value, "at least 0")
        for name in ("adam_beta1", "adam_beta2"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise wrong_value(name, getattr(self, name), "at least 0 and below 1")
        check_seed(self.seed)
        if self.hub_strategy not in ("end", "every_save"):
            raise wrong_value("hub_strategy", self.hub_strategy, "end or every_save")
        if self.mixed_precision not in ("auto", "no", "bf16", "fp16"):
            raise wrong_value("mixed_precision", self.mixed_precision, "auto, no, bf16 or fp16")
        if self.attn_implementation not in ("sdpa", "eager", "flex_attention", "flash_attention_2"):
            wanted = "sdpa, eager, flex_attention or flash_attention_2"
            raise wrong_value("attn_implementation", self.attn_implementation, wanted)
        if self.lr_scheduler_type not in ("warmup_stable_decay", "cosine"):
            raise wrong_value("lr_scheduler_type", self.lr_scheduler_type, "warmup_stable_decay or cosine")
        if not 0.0 <= self.decay_ratio <= 1.0:
            raise wrong_value("decay_ratio", self.decay_ratio, "in [0, 1]")
        if not all(self.sample_prompts):
            message = "sample_prompts must not be empty texts: leave them out, or give a first word"
            raise UserError("empty_text", message)
        if self.push_to_hub and not self.hub_model_id:
            message = "push_to_hub needs hub_model_id: user/name"
            raise UserError("setting_missing", message, setting="hub_model_id")
