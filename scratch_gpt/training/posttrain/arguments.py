# SPDX-License-Identifier: Apache-2.0
"""Settings of the stages after pretraining, over TRL's.

TRL's defaults are meant for models of half a billion parameters and more; those here are for models a hundred times
smaller, and the recipes in `train/` say the rest.
"""

import copy
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from trl import DistillationConfig, DPOConfig, KTOConfig, RewardConfig, SFTConfig

from scratch_gpt.errors import UserError, wrong_value
from scratch_gpt.inference.generation import NO_THOUGHT
from scratch_gpt.settings.checking import Count, Range, check_values
from scratch_gpt.settings.hardware import cpu_precision, gpu_precision
from scratch_gpt.settings.sources import PRIMER, SourcesArguments
from scratch_gpt.training.posttrain.checks import (
    UNUSED,
    check_options,
    check_ranges,
    refuse_sharding,
    refuse_unused,
    refuse_without,
)
from scratch_gpt.training.posttrain.forgetting import ForgettingArguments
from scratch_gpt.training.posttrain.lora import LoraArguments


# Settings that follow from the others.
DERIVED = ("include_num_input_tokens_seen", "generation_batch_size", "gradient_checkpointing")
# What `accelerate launch` says of precision; it says "no" too where its user said nothing.
LAUNCHERS_PRECISION = "ACCELERATE_MIXED_PRECISION"


@dataclass
class SampleArguments:
    """The setting of the stages whose models write text."""

    sample_prompts: list[str] = field(
        default_factory=lambda: ["Who are you?", "What is the capital of France?"],
        metadata={"help": "Questions that the model answers at every evaluation, into samples.jsonl."},
    )


@dataclass
class PosttrainingArguments(SourcesArguments):
    """Settings that all stages on top of TRL have, and defaults for small models on one machine.

    To be combined with a configuration of TRL's, which brings all of transformers' `TrainingArguments`.

    Attributes:
        unused: settings that the stage refuses -> what to do in their place.
        measures_distance: from another model, which must be 0 at the start: both have to round alike.
    """

    unused: ClassVar[Mapping[str, str]] = UNUSED
    measures_distance: ClassVar[bool] = True

    model_name_or_path: str | None = field(default=None, metadata={"help": "Model folder to start from."})
    held_out_fraction: Annotated[float, Range("at least 0 and below 0.5", lambda share: 0 <= share < 0.5)] = (
        field(
            default=0.05,
            metadata={
                "help": "Share of a file's rows in the development split, and again in the test split. 0: train on all rows."
            },
        )
    )
    max_train_samples: Count | None = field(
        default=None,
        metadata={
            "help": "Train on this many of the rows that fit, drawn by the seed; a smaller number draws a subset of a larger one's rows."
        },
    )
    activation_checkpointing: bool = field(
        default=False,
        metadata={"help": "Save memory by computing activations twice: needed by large models only."},
    )
    gradient_checkpointing: bool | None = field(
        default=None, metadata={"help": "The older name of activation_checkpointing."}
    )
    bf16: bool | None = field(
        default=None, metadata={"help": "bfloat16 autocast. Default: on a GPU or a CPU that multiplies it."}
    )
    use_cache: bool = field(
        default=True,
        metadata={"help": "Kept in config.json: what the saved model does, not what training does."},
    )
    dataloader_pin_memory: bool = field(
        default=False, metadata={"help": "Pinned memory, for copies to a GPU."}
    )
    ddp_find_unused_parameters: bool | None = field(
        default=False,
        metadata={
            "help": "Search for weights without gradient, with several processes: there are none here."
        },
    )
    save_total_limit: int | None = field(
        default=2, metadata={"help": "Checkpoints kept; older ones are removed."}
    )
    per_device_eval_batch_size: int | None = field(
        default=64, metadata={"help": "Rows in one evaluation batch."}
    )
    hub_strategy: str = field(default="end", metadata={"help": "When push_to_hub uploads: at the end."})
    push_to_hub: bool = field(default=False, metadata={"help": "Upload the finished folder to the Hub."})
    hub_model_id: str | None = field(default=None, metadata={"help": "Where to: user/name."})
    num_threads: Count | None = field(
        default=None, metadata={"help": "CPU threads. Default: OMP_NUM_THREADS, or all."}
    )
    resume_from_checkpoint: str | None = field(
        default=None,
        metadata={"help": "A checkpoint folder, or latest: the newest one, afresh if there is none."},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_unused(self, self.unused)
        refuse_sharding(self)
        check_ranges(self)
        self.activation_checkpointing = self.activation_checkpointing or bool(self.gradient_checkpointing)
        if not self.model_name_or_path:
            message = (
                "model_name_or_path is missing: give --model_name_or_path DIR, a folder of the stage before"
            )
            raise UserError("setting_missing", message, setting="model_name_or_path")
        if Path(str(self.output_dir)).resolve() == Path(self.model_name_or_path).resolve():
            message = f"output_dir {self.output_dir} is the model to start from: name another folder"
            raise UserError("output_is_input", message, folder=self.output_dir)
        embedded = any(isinstance(each, dict) and each.get("path") == PRIMER for each in self.sources or [])
        if not self.held_out_fraction and not embedded:
            self.eval_strategy = "no"  # there is nothing to evaluate on
        if self.push_to_hub and not self.hub_model_id:
            message = "push_to_hub needs hub_model_id: user/name"
            raise UserError("setting_missing", message, setting="hub_model_id")
        if not torch.accelerator.is_available():
            self.use_cpu = True
        fp16 = self.fp16  # type: ignore[attr-defined]  # of TRL's configuration
        if self.bf16 is None:
            self.bf16 = not fp16 and (cpu_precision() if self.use_cpu else gpu_precision()) == "bf16"
        if LAUNCHERS_PRECISION in os.environ:  # which transformers would follow where both are false
            os.environ[LAUNCHERS_PRECISION] = "fp16" if fp16 else "bf16" if self.bf16 else "no"
        self.disable_tqdm = True  # progress is shown by a bar of our own
        # How the tokens of the log are counted; not a field, since its type of text or truth defeats the parser.
        self.include_num_input_tokens_seen = "non_padding"
        # SourcesArguments ends its chain; what follows it in the order of bases is the configuration of TRL's.
        super(SourcesArguments, self).__post_init__()  # type: ignore[misc]
        check_options(self)

    def to_dict(self) -> dict[str, Any]:
        """The settings as `run.yaml` has them: another run may take that file as its --config."""
        # left out are what is derived here, and tokens, which transformers writes as <NAME>
        return {
            name: value
            for name, value in super().to_dict().items()  # type: ignore[misc]
            if name not in DERIVED and value != f"<{name.upper()}>"
        }


@dataclass
class SFTArguments(SampleArguments, ForgettingArguments, LoraArguments, PosttrainingArguments, SFTConfig):
    """Settings of `train/sft.py`: those of TRL's `SFTConfig`, and where data and model come from."""

    unused: ClassVar[Mapping[str, str]] = {
        **UNUSED,
        "completion_only_loss": "assistant_only_loss says what is learned: true for the answers only, false for all of a row",
        "model_init_kwargs": "the model is loaded as its folder says: bf16: true computes in bfloat16",
    }
    measures_distance: ClassVar[bool] = False

    learning_rate: float | None = field(
        default=None, metadata={"help": "Peak learning rate. Default: by the model's size, 1e-3 to 2e-5."}
    )
    num_train_epochs: float | None = field(
        default=None, metadata={"help": "Passes over the rows. Default: by the model's size, 3 to 2."}
    )
    per_device_train_batch_size: int | None = field(
        default=None,
        metadata={"help": "Rows that go through the model together. Default: 8, or as many of them as fit."},
    )
    per_device_eval_batch_size: int | None = field(
        default=None, metadata={"help": "Rows in one evaluation batch. Default: as many as fit, at most 64."}
    )
    max_length: int | None = field(
        default=None,
        metadata={
            "help": "Longest row in tokens; longer ones are left out. Default: the model's context, at most 2048."
        },
    )
    assistant_only_loss: bool = field(
        default=True, metadata={"help": "Learn the answers only, not the questions."}
    )
    replay_shards: str | None = field(
        default=None,
        metadata={"help": "Blocks of the pretraining, such as shards/train: learn documents of them too."},
    )
    replay_fraction: Annotated[float, Range("at least 0 and below 1", lambda share: 0 <= share < 1)] = field(
        default=0.1, metadata={"help": "The documents' share of the learned tokens, with replay_shards."}
    )

    def __post_init__(self) -> None:
        check_values(self)
        refuse_without(self, "replay_shards", ("replay_fraction",))
        super().__post_init__()

    def for_trainer(self) -> "SFTArguments":
        """The settings as TRL's trainer takes rows that are tokens with labels: it need not look for the answers itself."""
        settings = copy.copy(self)
        settings.assistant_only_loss = False
        return settings


@dataclass
class PairArguments(LoraArguments, PosttrainingArguments):
    """Settings of the stages that learn from judged answers."""

    max_length: int | None = field(
        default=None,
        metadata={
            "help": "Longest side in tokens; longer pairs are left out. Default: the model's context, at most 2048."
        },
    )
    num_train_epochs: float | None = field(
        default=None, metadata={"help": "Passes over the rows. Default: by the model's size, 3 to 1."}
    )
    per_device_train_batch_size: Count | None = field(
        default=None,
        metadata={"help": "Rows that go through the model together. Default: 8, or as many of them as fit."},
    )
    per_device_eval_batch_size: Count | None = field(
        default=None, metadata={"help": "Rows in one evaluation batch. Default: as many as fit, at most 64."}
    )
    remove_unused_columns: bool | None = field(
        default=False, metadata={"help": "False keeps the rows' length, by which they can be grouped."}
    )


@dataclass
class RewardArguments(PairArguments, RewardConfig):
    """Settings of `train/reward.py`: those of TRL's `RewardConfig`, and where data and model come from."""

    measures_distance: ClassVar[bool] = False

    learning_rate: float | None = field(
        default=None, metadata={"help": "Peak learning rate. Default: by the model's size, 5e-4 to 1e-4."}
    )


@dataclass
class DPOArguments(SampleArguments, ForgettingArguments, PairArguments, DPOConfig):
    """Settings of `train/dpo.py`: those of TRL's `DPOConfig`, and where data and model come from."""

    unused: ClassVar[Mapping[str, str]] = {
        **UNUSED,
        "padding_free": "TRL's DPO pads every batch: leave it out",
    }

    learning_rate: float | None = field(
        default=None, metadata={"help": "Peak learning rate. Default: by the model's size, 5e-5 to 1e-6."}
    )


@dataclass
class KTOArguments(SampleArguments, ForgettingArguments, PairArguments, KTOConfig):
    """Settings of `train/kto.py`: those of TRL's `KTOConfig`, and where data and model come from."""

    learning_rate: float | None = field(
        default=None, metadata={"help": "Peak learning rate. Default: by the model's size, 5e-5 to 1e-6."}
    )

    def __post_init__(self) -> None:
        # TRL estimates the KL divergence by the answers to the other prompts of a batch, in the order of the rows
        if self.loss_type == "kto":
            if (rows := self.per_device_train_batch_size) is not None and rows < 2:
                raise wrong_value("per_device_train_batch_size", rows, "at least 2")
            if self.train_sampling_strategy != "sequential":
                raise wrong_value("train_sampling_strategy", self.train_sampling_strategy, "sequential")
        super().__post_init__()


@dataclass
class DistillArguments(SampleArguments, PosttrainingArguments, DistillationConfig):
    """Settings of `train/distill.py`: those of TRL's `DistillationConfig`, and where data and models come from."""

    unused: ClassVar[Mapping[str, str]] = {
        **UNUSED,
        **dict.fromkeys(
            ("model_init_kwargs", "teacher_model_init_kwargs"),
            "the models are loaded as their folders say: bf16: true computes in bfloat16",
        ),
        "teacher_model_revision": "the teacher is a folder: download that revision into it",
    }

    teacher_model_name_or_path: str | None = field(
        default=None, metadata={"help": "Folder of the chat model to learn from, with the same vocabulary."}
    )
    shards: str | None = field(
        default=None,
        metadata={
            "help": "Held-out blocks, such as shards/validation: bits per byte before and after. Default: those of the "
            "pretraining, where the model's run.yaml names them."
        },
    )
    max_eval_prompts: Count = field(
        default=256, metadata={"help": "Held-out prompts of the comparison, at most."}
    )
    learning_rate: float | None = field(
        default=None, metadata={"help": "Peak learning rate. Default: by the model's size, 5e-4 to 1e-6."}
    )
    per_device_train_batch_size: Count = field(
        default=32, metadata={"help": "Prompts that go through both models together."}
    )
    max_completion_length: Count = field(default=128, metadata={"help": "Longest answer in tokens."})

    def __post_init__(self) -> None:
        check_values(self)
        if not self.teacher_model_name_or_path:
            message = "teacher_model_name_or_path is missing: give --teacher_model_name_or_path DIR, the chat model to learn from"
            raise UserError("setting_missing", message, setting="teacher_model_name_or_path")
        refuse_without(
            self, "use_vllm", [entry.name for entry in fields(self) if entry.name.startswith("vllm_")]
        )
        super().__post_init__()
        # as the measurements ask; TRL's parser makes a mapping of text
        self.chat_template_kwargs = {**NO_THOUGHT, **(self.chat_template_kwargs or {})}  # type: ignore[has-type]
        self.include_num_input_tokens_seen = "no"  # TRL counts prompts and answers itself
