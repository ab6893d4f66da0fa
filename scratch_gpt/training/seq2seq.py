# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning an encoder-decoder on pairs: settings, rows as token ids, the model made ready."""

from dataclasses import dataclass, field
from typing import Any

from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast, Seq2SeqTrainingArguments

from scratch_gpt.errors import UserError
from scratch_gpt.evaluation.runner import load_model
from scratch_gpt.tokenization import encode_plain
from scratch_gpt.training.posttraining_arguments import PosttrainingArguments
from scratch_gpt.training.rows import Row
from scratch_gpt.training.telemetry import console


@dataclass
class Seq2SeqArguments(PosttrainingArguments, Seq2SeqTrainingArguments):
    """Settings of `train/seq2seq.py`: those of transformers' `Seq2SeqTrainingArguments`, and where data and model come from."""

    learning_rate: float = field(
        default=1e-3, metadata={"help": "Peak learning rate; 1e-4 for models of billions."}
    )
    label_smoothing_factor: float = field(
        default=0.1, metadata={"help": "Share of the target given to all tokens alike (Vaswani et al. 2017)."}
    )


def load_encoder_decoder(folder: str) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Load a model that reads a source and writes a target, ready to be trained to end its answers by itself.

    Raises:
        UserError: as for `load_model`; a model without encoder or decoder, or one that cannot begin a target.
    """
    model, tokenizer = load_model(folder, allow_encoder_decoder=True)
    if not model.config.is_encoder_decoder:
        raise UserError(
            f"{folder} is no encoder-decoder: pretrain one with objective span, or use the sft stage for this model"
        )
    if model.config.decoder_start_token_id is None:
        raise UserError(
            f"{folder}: config.json has no decoder_start_token_id, the token that a target begins with; T5 takes the "
            "pad token's id"
        )
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        decoder_start_token_id=model.config.decoder_start_token_id,
        max_new_tokens=128,
    )
    return model, tokenizer


def encode_pairs(
    splits: dict[str, list[Row]], tokenizer: PreTrainedTokenizerFast, positions: int
) -> dict[str, list[dict[str, Any]]]:
    """Source and target of each conversation as `input_ids` and `labels`, both with the end of text behind them.

    The target is the last answer, the source all that was said before it. Pairs of which a side has more than
    `positions` tokens are left out, and the terminal says how many: cut ones would teach to break off.

    Raises:
        UserError: no pair of a split is left.
    """
    encoded: dict[str, list[dict[str, Any]]] = {}
    for split, rows in splits.items():
        sources = ["\n".join(message["content"] for message in row["messages"][:-1]) for row in rows]
        targets = [row["messages"][-1]["content"] for row in rows]
        end = [tokenizer.eos_token_id]
        pairs: list[dict[str, Any]] = [
            {"input_ids": source + end, "labels": target + end, "length": len(source) + len(target)}
            for source, target in zip(
                encode_plain(tokenizer, sources), encode_plain(tokenizer, targets), strict=True
            )
        ]
        encoded[split] = [
            pair for pair in pairs if max(len(pair["input_ids"]), len(pair["labels"])) <= positions
        ]
        if not encoded[split]:
            raise UserError(
                f"none of the {len(rows)} {split} pairs has a source and a target of at most {positions} tokens, the "
                "model's positions: give shorter ones, or use a model with more positions"
            )
        dropped = len(rows) - len(encoded[split])
        console.print(
            f"{split}: {len(encoded[split]):,} pairs"
            + (f" ({dropped:,} over {positions} tokens left out)" if dropped else "")
        )
    return encoded
