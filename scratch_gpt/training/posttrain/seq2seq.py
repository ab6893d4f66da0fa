# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning an encoder-decoder on pairs: settings, rows as token ids, the model made ready."""

from dataclasses import dataclass, field

from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast, Seq2SeqTrainingArguments

from scratch_gpt.data.rows.splits import Row
from scratch_gpt.errors import UserError
from scratch_gpt.inference.loading import load_model
from scratch_gpt.inference.sampling import CHAT_LIMIT
from scratch_gpt.tokenization import encode_plain
from scratch_gpt.training.posttrain.arguments import PosttrainingArguments, SampleArguments


@dataclass
class Seq2SeqArguments(SampleArguments, PosttrainingArguments, Seq2SeqTrainingArguments):
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
        message = f"{folder} is no encoder-decoder: pretrain one with objective span, or use the sft stage for this model"
        raise UserError("wrong_model", message, found=model.config.architectures)
    if model.config.decoder_start_token_id is None:
        message = (
            f"{folder}: config.json has no decoder_start_token_id, the token that a target begins with; T5 takes the "
            "pad token's id"
        )
        raise UserError("token_missing", message, token="decoder_start_token_id")
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        decoder_start_token_id=model.config.decoder_start_token_id,
        **{CHAT_LIMIT: 128},
    )
    return model, tokenizer


def encode_pair(tokenizer: PreTrainedTokenizerFast, row: Row) -> Row:
    """The conversation with `input_ids` and `labels`, both with the end of text behind them, and the longer one's `length`.

    The target is the last answer, the source all that was said before it.

    Raises:
        UserError: a conversation with tools or thinking, which would be lost; its place is named.
    """
    if row.get("tools") or any(message.keys() - {"role", "content"} for message in row["messages"]):
        message = f"{row['place']}: an encoder-decoder learns texts, and here are tools or thinking: use the sft stage"
        raise UserError("row_refused", message, place=row["place"])
    *said, answer = (message["content"] for message in row["messages"])
    source, target = (
        [*ids, tokenizer.eos_token_id] for ids in encode_plain(tokenizer, ["\n".join(said), answer])
    )
    return {**row, "input_ids": source, "labels": target, "length": max(len(source), len(target))}
