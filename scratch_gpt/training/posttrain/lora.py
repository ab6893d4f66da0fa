# SPDX-License-Identifier: Apache-2.0
"""Settings of LoRA and QLoRA: a few added weights are learned in place of all."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import torch

from scratch_gpt.errors import UserError
from scratch_gpt.training.posttrain.checks import refuse_without


@dataclass
class LoraArguments:
    """Low-rank adapters in place of all weights (Hu et al. 2021, arXiv 2106.09685), by TRL's names."""

    use_peft: bool | None = field(
        default=None,
        metadata={
            "help": "Learn LoRA adapters by PEFT; they are merged into the weights at the end. Default: where training all "
            "weights does not fit into memory."
        },
    )
    load_in_4bit: bool = field(
        default=False,
        metadata={"help": "Keep the weights that are not learned in 4 bits, by bitsandbytes: QLoRA."},
    )
    lora_r: int = field(default=16, metadata={"help": "Rank of the adapters."})
    lora_alpha: int = field(default=32, metadata={"help": "What they learn counts lora_alpha / lora_r."})
    lora_dropout: float = field(default=0.0, metadata={"help": "Dropout before the adapters."})
    lora_target_modules: list[str] | None = field(
        default=None,
        metadata={"help": "Names of the adapted modules. Default: all linear ones in the layers."},
    )

    def __post_init__(self) -> None:
        names = ("load_in_4bit", "lora_r", "lora_alpha", "lora_dropout", "lora_target_modules")
        super().__post_init__()  # type: ignore[misc]  # of the arguments that this is combined with
        refuse_without(self, "use_peft", names)

    def quantization_config(self) -> Any:
        """What TRL's trainers take: None without `load_in_4bit`, else NF4 as Dettmers et al. 2023 (arXiv 2305.14314) have it.

        Raises:
            UserError: bitsandbytes is not installed.
        """
        if not self.load_in_4bit:
            return None
        if find_spec("bitsandbytes") is None:
            message = "load_in_4bit needs the package bitsandbytes: pip install bitsandbytes"
            raise UserError("missing_package", message, package="bitsandbytes")
        from transformers import BitsAndBytesConfig

        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16 if self.bf16 else torch.float32,  # type: ignore[attr-defined]
        )

    def peft_config(self, task_type: str, new_tokens: Sequence[int] = ()) -> Any:
        """What TRL's trainers take: None without `use_peft`, else a `peft.LoraConfig`.

        Args:
            task_type: CAUSAL_LM, or SEQ_CLS for a model with a score, which is then learned too.
            new_tokens: that the chat template needs and the model has never seen.

        Raises:
            UserError: PEFT is not installed; new tokens, whose embeddings adapters do not learn (PEFT's
                `trainable_token_indices` would, but TRL 1.16 fails on the head that it wraps).
        """
        if not self.use_peft:
            return None
        if new_tokens:
            message = (
                "use_peft: adapters would never learn the new tokens of the chat template: train all weights (use_peft: "
                "false), or begin with a model that has a chat template of its own"
            )
            raise UserError("tokens_not_learned", message, tokens=list(new_tokens))
        if find_spec("peft") is None:
            message = 'use_peft needs the package peft: pip install "scratch-gpt[peft]"'
            raise UserError("missing_package", message, package="scratch-gpt[peft]")
        from peft import LoraConfig

        return LoraConfig(
            task_type=task_type,
            r=self.lora_r,
            lora_alpha=self.lora_alpha,
            lora_dropout=self.lora_dropout,
            target_modules=self.lora_target_modules or "all-linear",
        )
