# SPDX-License-Identifier: Apache-2.0
"""One way to configure: dataclasses filled from command line > YAML (`--config`) > default, by TRL's parser."""

import dataclasses
import errno
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub.errors import StrictDataclassError
from transformers.utils.logging import disable_progress_bar
from trl import TrlParser

from scratch_gpt.errors import UserError
from scratch_gpt.runs.folders import written_file


# What the user can cure: no room, no permission, a file where a folder should be.
CURABLE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)


def decode_yaml(value: Any, name: str) -> Any:
    """A mapping or list given on the command line arrives as text: JSON or YAML's flow style."""
    if not isinstance(value, str):
        return value
    try:
        decoded = json.loads(value)  # before YAML 1.1, to which 1e-6 is no number
    except json.JSONDecodeError:
        try:
            decoded = yaml.safe_load(value)
        except yaml.YAMLError as error:
            reason = getattr(error, "problem", error)
            raise UserError(f"--{name} must be YAML or JSON, got {value!r} ({reason})") from None
    if not isinstance(decoded, dict | list):
        raise UserError(f"--{name} must be a mapping or a list, got {value!r}")
    return decoded


def check_seed(seed: int) -> None:
    """Refuse what a generator of numpy or torch would not take, the process's number added."""
    if not 0 <= seed < 1 << 31:
        raise UserError(f"seed must be from 0 to {(1 << 31) - 1}, got {seed}")


@dataclass
class SourcesArguments:
    """What every stage that reads text is told."""

    sources: list | str | None = field(
        default=None,
        metadata={
            "help": "Where text comes from: a list of {name, path, weight, ...} (YAML) or the same as JSON."
        },
    )
    on_bad_row: str = field(
        default="skip",
        metadata={
            "help": "skip: leave out bad rows while they are under one percent of a file; fail: stop at the first."
        },
    )
    seed: int = field(default=0, metadata={"help": "Seed of every random choice of this stage."})
    output_dir: str | None = field(default=None, metadata={"help": "The one folder that this stage writes."})

    def __post_init__(self) -> None:
        self.sources = decode_yaml(self.sources, "sources")
        if not self.sources or not isinstance(self.sources, list):
            raise UserError("sources: name at least one, for example sources: [{name: primer, path: primer}]")
        if self.on_bad_row not in ("skip", "fail"):
            raise UserError(f"on_bad_row must be skip or fail, got {self.on_bad_row!r}")
        check_seed(self.seed)
        if not self.output_dir:
            raise UserError("output_dir is missing: give --output_dir DIR or output_dir: DIR in the YAML")


@dataclass
class TokenizerArguments(SourcesArguments):
    """Settings of `train/tokenizer.py`."""

    vocab_size: int = field(
        default=32768,
        metadata={"help": "Number of tokens, special ones included; rounded up to a multiple of 64."},
    )
    max_characters: int = field(
        default=200_000_000,
        metadata={"help": "Characters of text sampled from the sources: bounds the memory."},
    )
    max_document_characters: int = field(
        default=10_000, metadata={"help": "A longer document counts with its first so many characters."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("max_characters", "max_document_characters"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass
class ShardsArguments(SourcesArguments):
    """Settings of `train/shards.py`."""

    tokenizer: str | None = field(default=None, metadata={"help": "Folder of the tokenizer stage."})
    sequence_length: int = field(default=1024, metadata={"help": "Tokens in one packed block."})
    max_tokens: int | None = field(
        default=None,
        metadata={"help": "Tokens of training text to write. Default: until the first source is used up."},
    )
    validation_fraction: float = field(
        default=0.01,
        metadata={
            "help": "Share of documents held out, chosen by the hash of their text; of none where a source is held_out."
        },
    )
    num_slices: int | None = field(
        default=None,
        metadata={
            "help": "Tokenize in so many independent runs, each with its --slice; without, merge them."
        },
    )
    slice: int | None = field(
        default=None, metadata={"help": "Which of num_slices this run tokenizes: 0 to num_slices - 1."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.tokenizer:
            raise UserError("tokenizer is missing: give --tokenizer DIR, the folder of the tokenizer stage")
        if self.num_slices is not None and self.num_slices < 1:
            raise UserError(f"num_slices must be at least 1, got {self.num_slices}")
        if self.slice is not None and not 0 <= self.slice < (self.num_slices or 0):
            raise UserError(
                f"slice must be from 0 to num_slices - 1, got {self.slice} of num_slices {self.num_slices}"
            )


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
            raise UserError(
                f"model_config must be a mapping such as {{hidden_size: 256}}, got {self.model_config!r}"
            )
        for name in ("shards", "tokenizer", "output_dir"):
            if not getattr(self, name):
                raise UserError(f"{name} is missing: give --{name} DIR or {name}: DIR in the YAML")
        for name in (
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
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name} must be at least 1, got {value}")
        if self.objective not in ("causal", "masked", "span"):
            raise UserError(f"objective must be causal, masked or span, got {self.objective!r}")
        if self.whole_words and self.objective != "masked":
            raise UserError(f"whole_words is for objective masked, not for {self.objective}")
        if self.optim not in ("muon", "adamw"):
            raise UserError(f"optim must be muon or adamw, got {self.optim!r}")
        epochs = self.num_train_epochs
        no_epochs = self.max_steps < 0 and epochs is not None and not epochs > 0
        if self.max_steps == 0 or self.max_steps < -1 or no_epochs:
            raise UserError(f"nothing to train: max_steps is {self.max_steps}, num_train_epochs {epochs}")
        if self.tokens is not None and epochs is not None:
            raise UserError(
                f"tokens {self.tokens} and num_train_epochs {epochs} are both given: leave one out"
            )
        for name, cure in (("learning_rate", ""), ("max_grad_norm", " (inf: no clipping)")):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UserError(f"{name} must be above 0{cure}, got {value}")
        for name in ("warmup_steps", "weight_decay"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise UserError(f"{name} must be at least 0, got {value}")
        for name in ("adam_beta1", "adam_beta2"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise UserError(f"{name} must be at least 0 and below 1, got {getattr(self, name)}")
        check_seed(self.seed)
        if self.hub_strategy not in ("end", "every_save"):
            raise UserError(f"hub_strategy must be end or every_save, got {self.hub_strategy!r}")
        if self.mixed_precision not in ("auto", "no", "bf16", "fp16"):
            raise UserError(f"mixed_precision must be auto, no, bf16 or fp16, got {self.mixed_precision!r}")
        if self.attn_implementation not in ("sdpa", "eager", "flex_attention", "flash_attention_2"):
            raise UserError(
                "attn_implementation must be sdpa, eager, flex_attention or flash_attention_2, "
                f"got {self.attn_implementation!r}"
            )
        if self.lr_scheduler_type not in ("warmup_stable_decay", "cosine"):
            raise UserError(
                f"lr_scheduler_type must be warmup_stable_decay or cosine, got {self.lr_scheduler_type!r}"
            )
        if not 0.0 <= self.decay_ratio <= 1.0:
            raise UserError(f"decay_ratio must be in [0, 1], got {self.decay_ratio}")
        if not all(self.sample_prompts):
            raise UserError("sample_prompts must not be empty texts: leave them out, or give a first word")
        if self.push_to_hub and not self.hub_model_id:
            raise UserError("push_to_hub needs hub_model_id: user/name")


def plain_settings(arguments: Any) -> dict[str, Any]:
    """The arguments as `run.yaml` has them."""
    values = arguments.to_dict() if hasattr(arguments, "to_dict") else dataclasses.asdict(arguments)
    plain: dict[str, Any] = json.loads(json.dumps(values, default=str))
    return plain


def write_run_yaml(arguments: Any, output_dir: str | Path) -> None:
    """Write the resolved arguments as `run.yaml`, the last file of a stage: present means complete."""
    plain = plain_settings(arguments)
    with written_file(Path(output_dir) / "run.yaml") as temporary:
        temporary.write_text(yaml.safe_dump(plain, sort_keys=True, allow_unicode=True), encoding="utf-8")


def parse(arguments_class: type, args: list[str] | None = None) -> Any:
    """Fill `arguments_class` from `args` (default: the command line).

    Raises:
        UserError: an unknown key in the YAML, a YAML file that is missing or is not a mapping, a value that the
            dataclass refuses.
    """
    try:
        (arguments,) = TrlParser(arguments_class, allow_abbrev=False).parse_args_and_config(args)
    except FileNotFoundError as error:
        raise UserError(f"config file not found: {error.filename}") from None
    except IndexError:
        raise UserError("--config needs a file name") from None
    except yaml.YAMLError as error:
        raise UserError(f"config file is not valid YAML: {' '.join(str(error).split())}") from None
    except UserError:
        raise
    except (ValueError, TypeError) as error:
        raise UserError(" ".join(str(error).split())) from None
    return arguments


def run_stage(main: Callable[[Any], None], arguments_class: type, args: list[str] | None = None) -> None:
    """Parse `args` (default: the command line) and run one stage; a user's mistake becomes one line and exit status 2."""
    disable_progress_bar()  # of transformers: one bar a stage, and that is ours
    try:
        main(parse(arguments_class, args))
    except (UserError, StrictDataclassError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:
        if error.errno not in CURABLE:
            raise
        print(f"error: {error.strerror}: {error.filename or 'while writing'}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("interrupted: run the same command again to go on", file=sys.stderr)
        raise SystemExit(130) from None
