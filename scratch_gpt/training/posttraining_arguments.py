# SPDX-License-Identifier: Apache-2.0
"""Settings of the stages after pretraining, over TRL's.

TRL's defaults are meant for models of half a billion parameters and more; those here are for models a hundred times
smaller, and the recipes in `train/` say the rest.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from trl import RewardConfig, SFTConfig

from scratch_gpt.errors import UserError
from scratch_gpt.training.arguments import SourcesArguments


# Settings that follow from the others.
DERIVED = ("include_num_input_tokens_seen", "generation_batch_size")


@dataclass
class PosttrainingArguments(SourcesArguments):
    """Settings that all stages on top of TRL have, and defaults for small models on one machine.

    To be combined with a configuration of TRL's, which brings all of transformers' `TrainingArguments`.
    """

    model_name_or_path: str | None = field(default=None, metadata={"help": "Model folder to start from."})
    held_out_fraction: float = field(
        default=0.05,
        metadata={"help": "Share of a file's rows in the development split, and again in the test split."},
    )
    activation_checkpointing: bool = field(
        default=False,
        metadata={"help": "Save memory by computing activations twice: needed by large models only."},
    )
    bf16: bool | None = field(
        default=None, metadata={"help": "bfloat16 autocast. Default: on a GPU that has it; not on a CPU."}
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
        metadata={"help": "Search for weights without gradient, for several processes: here is none."},
    )
    save_total_limit: int | None = field(
        default=2, metadata={"help": "Checkpoints kept; older ones are removed."}
    )
    per_device_eval_batch_size: int = field(default=64, metadata={"help": "Rows in one evaluation batch."})
    hub_strategy: str = field(default="end", metadata={"help": "When push_to_hub uploads: at the end."})
    push_to_hub: bool = field(default=False, metadata={"help": "Upload the finished folder to the Hub."})
    hub_model_id: str | None = field(default=None, metadata={"help": "Where to: user/name."})
    num_threads: int | None = field(
        default=None, metadata={"help": "CPU threads. Default: timed at the start."}
    )
    resume_from_checkpoint: str | None = field(
        default=None,
        metadata={"help": "A checkpoint folder, or latest: the newest one, afresh if there is none."},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.model_name_or_path:
            raise UserError(
                "model_name_or_path is missing: give --model_name_or_path DIR, a folder of the stage before"
            )
        if self.push_to_hub and not self.hub_model_id:
            raise UserError("push_to_hub needs hub_model_id: user/name")
        if not torch.accelerator.is_available():
            self.use_cpu = True
        if self.bf16 is None:
            self.bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
        self.disable_tqdm = True  # progress is shown by a bar of our own
        # How the tokens of the log are counted; not a field, since its type of text or truth defeats the parser.
        self.include_num_input_tokens_seen = "non_padding"
        # SourcesArguments ends its chain; what follows it in the order of bases is the configuration of TRL's.
        super(SourcesArguments, self).__post_init__()  # type: ignore[misc]

    def to_dict(self) -> dict[str, Any]:
        """The settings as `run.yaml` has them: another run may take that file as its --config."""
        # left out are what is derived here, and tokens, which transformers writes as <NAME>
        return {
            name: value
            for name, value in super().to_dict().items()  # type: ignore[misc]
            if name not in DERIVED and value != f"<{name.upper()}>"
        }


@dataclass
class SFTArguments(PosttrainingArguments, SFTConfig):
    """Settings of `train/sft.py`: those of TRL's `SFTConfig`, and where data and model come from."""

    learning_rate: float = field(
        default=1e-3, metadata={"help": "Peak learning rate; 2e-5 for models of billions."}
    )
    max_length: int | None = field(
        default=None,
        metadata={"help": "Longest row in tokens; longer ones are left out. Default: the model's context."},
    )
    assistant_only_loss: bool = field(
        default=True, metadata={"help": "Learn the answers only, not the questions."}
    )


@dataclass
class RewardArguments(PosttrainingArguments, RewardConfig):
    """Settings of `train/reward.py`: those of TRL's `RewardConfig`, and where data and model come from."""

    learning_rate: float = field(
        default=5e-4, metadata={"help": "Peak learning rate; 1e-5 for models of billions."}
    )
    max_length: int | None = field(
        default=None,
        metadata={"help": "Longest side in tokens; longer pairs are left out. Default: the context."},
    )
    remove_unused_columns: bool | None = field(
        default=False, metadata={"help": "False keeps the rows' length, by which they can be grouped."}
    )
