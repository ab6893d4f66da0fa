# SPDX-License-Identifier: Apache-2.0
"""What the stages after pretraining share: settings over TRL's, loading with checks, the log, resuming, saving.

TRL's trainers do the learning. Their defaults are meant for models of half a billion parameters and more; the
settings here are for models a hundred times smaller, and the recipes in `train/` say the rest.
"""

import dataclasses
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from accelerate import PartialState
from accelerate.utils import set_seed
from transformers import (
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    PrinterCallback,
    Trainer,
)
from trl import GRPOConfig, RewardConfig, RLOOConfig, SFTConfig

from scratch_gpt.errors import UserError
from scratch_gpt.evaluation.runner import is_chat, load_model
from scratch_gpt.publishing import push_to_hub
from scratch_gpt.tokenization import END_OF_TEXT, IM_END
from scratch_gpt.training.arguments import SourcesArguments, write_run_yaml
from scratch_gpt.training.checkpoints import prepare_folder, save_model_folder
from scratch_gpt.training.hardware import choose_hardware
from scratch_gpt.training.provenance import write_provenance
from scratch_gpt.training.stage_log import StageLog
from scratch_gpt.training.telemetry import RunLog, console, progress_bar


# What Trainer writes last into a checkpoint.
LAST_FILE = "trainer_state.json"
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


def begin(arguments: PosttrainingArguments) -> None:
    """Seed every random choice, and leave the terminal to our own lines, told by the main process alone."""
    set_seed(arguments.seed)
    console.quiet = not PartialState().is_main_process
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    # TRL 1.16 asks transformers 5.23 by the old name.
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)


def check_chat_format(tokenizer: PreTrainedTokenizerFast, folder: str) -> None:
    """Raise UserError unless the tokenizer can write conversations and tell which tokens are the assistant's."""
    if IM_END not in tokenizer.get_vocab():
        raise UserError(f"tokenizer {folder} lacks the token {IM_END}: use one made by the tokenizer stage")
    if not tokenizer.chat_template:
        raise UserError(f"tokenizer {folder} has no chat template: use one made by the tokenizer stage")
    if "generation %}" not in tokenizer.chat_template:
        raise UserError(
            f"the chat template in {folder} does not mark the assistant's part ({{% generation %}}): without it "
            "nothing tells which tokens to learn"
        )


def load_chat_model(folder: str) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Load what the sft stage wrote.

    Raises:
        UserError: no such folder, a model of another kind, a base model, a tokenizer that cannot write conversations.
    """
    model, tokenizer = load_model(folder)
    check_chat_format(tokenizer, folder)
    if not is_chat(tokenizer):
        raise UserError(
            f"{folder} is a base model, its answers do not end with {IM_END}: run the sft stage first"
        )
    return model, tokenizer


def make_chat_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    """Let answers end with the end of a turn, in the tokenizer and in what `generate` does by itself."""
    document_end = tokenizer.convert_tokens_to_ids(END_OF_TEXT)
    tokenizer.eos_token = IM_END
    model.config.eos_token_id = tokenizer.eos_token_id
    model.config.pad_token_id = tokenizer.pad_token_id
    model.generation_config = GenerationConfig(
        eos_token_id=[tokenizer.eos_token_id, document_end],
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        max_new_tokens=128,
        # The tail of a small model's distribution is noise: sampling stays near the top.
        do_sample=True,
        temperature=0.3,
        top_p=0.9,
    )


def context_length(model: PreTrainedModel, max_length: int | None) -> int:
    """The tokens that a row may have.

    Raises:
        UserError: more are asked for than the model has positions.
    """
    positions: int = model.config.max_position_embeddings
    if max_length is not None and max_length > positions:
        raise UserError(f"max_length {max_length} is longer than the model's context of {positions} tokens")
    return max_length or positions


def set_threads(model: PreTrainedModel, num_threads: int | None) -> None:
    """Set the CPU threads: as asked for, or as a few timed passes over a batch of a usual size are fastest."""
    if num_threads is not None:
        torch.set_num_threads(num_threads)
        return
    input_ids = torch.full((8, min(48, model.config.max_position_embeddings)), 1, device=model.device)

    def step() -> None:
        model(input_ids=input_ids, use_cache=False).logits.float().mean().backward()
        model.zero_grad(set_to_none=True)

    with torch.random.fork_rng():
        choose_hardware(step)


def train(
    trainer: Trainer,
    arguments: PosttrainingArguments,
    stage: str,
    monitor: Callable[[], dict[str, float]] | None = None,
    monitor_steps: int = 1,
) -> None:
    """Train to the last step, from a checkpoint where one is asked for, and keep `log.jsonl`.

    Raises:
        UserError: see `checkpoints.find_start`.
    """
    output_dir = Path(arguments.output_dir)  # type: ignore[arg-type]
    checkpoint = prepare_folder(output_dir, arguments.resume_from_checkpoint, LAST_FILE)
    set_threads(trainer.model, arguments.num_threads)
    # TRL would write a generic README.md at every checkpoint; the card of this project is filled from results.
    trainer.create_model_card = lambda *_, **__: None
    trainer.remove_callback(PrinterCallback)
    with progress_bar(trainer.is_world_process_zero()) as bar:
        trainer.add_callback(StageLog(RunLog(output_dir / "log.jsonl"), bar, stage, monitor, monitor_steps))
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)


def save_stage(
    trainer: Trainer, tokenizer: PreTrainedTokenizerFast, arguments: PosttrainingArguments
) -> None:
    """Write the finished folder, `run.yaml` last, and upload it where asked."""
    if trainer.is_world_process_zero():
        output_dir = Path(arguments.output_dir)  # type: ignore[arg-type]
        tokenizer.backend_tokenizer.no_padding()  # padding a batch leaves its traces in what is saved
        save_model_folder(trainer.accelerator.unwrap_model(trainer.model), tokenizer, output_dir)
        previous = (arguments.model_name_or_path, getattr(arguments, "reward_model", None))
        write_provenance(
            arguments, trainer.model.config, output_dir, RunLog(output_dir / "log.jsonl"), previous
        )
        write_run_yaml(arguments, output_dir)
        if arguments.push_to_hub:
            push_to_hub(arguments)
    trainer.end()
