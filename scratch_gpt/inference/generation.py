# SPDX-License-Identifier: Apache-2.0
"""Answers of a model to prompts, in batches, on one process or shared out over several.

Shapes: B texts in a batch, T tokens of the longest of them, V vocabulary.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from transformers import (
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
)

from scratch_gpt.data.rows.messages import Message
from scratch_gpt.errors import UserError
from scratch_gpt.inference.turns import stop_ids
from scratch_gpt.tokenization import encode_plain


logger = logging.getLogger(__name__)

# For chat templates: a model that can think before its answer (Qwen3) answers at once. Its thought would fill the length
# of an answer, and count as part of it.
NO_THOUGHT = {"enable_thinking": False}
# What a generation config says of the form of a text, such as the language of a translation, not of how a token is drawn.
TOKENS = (
    *("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id"),
    *("forced_bos_token_id", "forced_eos_token_id"),
)


# What a decoder puts for bytes that are no character (yet).
REPLACEMENT = "\ufffd"


def without_half_character(text: str) -> str:
    """A text that was cut off at a token, without the bytes of an incomplete character at its end."""
    return text.rstrip(REPLACEMENT)


class Answer(NamedTuple):
    """What a model wrote, and whether it ended by itself (with a stop token) or was cut off."""

    text: str
    finished: bool


def encode_prompts(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str | list[Message]], chat: bool
) -> list[list[int]]:
    """Token ids of each prompt: a user's message or a conversation through the chat template, without a thought, or plain text.

    A text begins with the tokens that the tokenizer itself begins one with, such as Llama's <|begin_of_text|>.
    """
    if not chat:
        begin = begin_ids(tokenizer)
        return [begin + ids for ids in encode_plain(tokenizer, list(prompts))]  # type: ignore[arg-type]  # texts alone
    return list(
        tokenizer.apply_chat_template(
            conversations(prompts),
            add_generation_prompt=True,
            return_dict=True,
            **NO_THOUGHT,
            tokenizer_kwargs={"verbose": False},  # callers leave out or cut what is too long
        )["input_ids"]
    )


def begin_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The token that the tokenizer puts before every text, where it does so."""
    ids = tokenizer("")["input_ids"]
    return ids[:1] if ids[:1] == [tokenizer.bos_token_id] else []


def conversations(prompts: Sequence[str | list[Message]]) -> list[list[Message]]:
    """Each prompt as a conversation: a text is the user's message."""
    return [
        [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt for prompt in prompts
    ]


def generate_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str | list[Message]],
    *,
    chat: bool,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    top_k: int = 0,
    seed: int = 0,
    batch_size: int = 64,
    one_line: bool = False,
    stop: Sequence[str] = (),
    num_beams: int = 1,
    own_penalties: bool = False,
) -> list[Answer]:
    """Let the model answer each prompt; batches are left-padded, and shared out if there are several processes.

    An encoder-decoder reads the prompt with the end of text behind it, as in its training.

    Args:
        model: in evaluation mode.
        prompts: users' messages or conversations up to the answer if `chat`, else texts to continue.
        temperature: 0 is greedy; above, tokens are sampled: from all of them unless `top_p` or `top_k` says less. The same
            seed, prompts and batch size give the same answers. The caller's random state is left as it was.
        one_line: end an answer at its first line break, for base models, which do not stop.
        stop: strings that end an answer; it ends before the first of them.
        num_beams: above 1, beam search with this many beams: the answer with the highest mean log-probability a token.
        own_penalties: with what the model's generation config says besides, such as `repetition_penalty` and `min_p`: the
            answers that people get. Without, they are from the model's own probabilities.

    Raises:
        UserError: the model has no positions left for a prompt.
    """
    pairs = model.config.is_encoder_decoder
    token_ids = encode_prompts(tokenizer, prompts, chat)
    if pairs:
        token_ids = [[*ids, tokenizer.eos_token_id] for ids in token_ids]
    token_ids = fit(model, token_ids, 0 if pairs else max_new_tokens)
    stops = _stop_ids(model, tokenizer, one_line)
    generation_config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=temperature > 0,
        eos_token_id=sorted(stops),
        pad_token_id=tokenizer.pad_token_id,
        # Said also when greedy: what is left out comes from the model's own settings, with a warning.
        **(
            {"temperature": temperature, "top_k": top_k, "top_p": top_p}
            if temperature > 0
            else {"temperature": 1.0, "top_k": 50, "top_p": 1.0}
        ),
        num_beams=num_beams,
    )
    answers: dict[int, Answer] = {}
    for number, batch in own_batches([-len(ids) for ids in token_ids], batch_size):
        side = "right" if pairs else "left"
        inputs = padded([token_ids[index] for index in batch], tokenizer.pad_token_id, side, model.device)
        first = 1 if pairs else inputs["input_ids"].shape[1]  # behind decoder_start_token_id, or the prompt
        criteria = StoppingCriteriaList([_EndsWithString(tokenizer, stop, first)] if stop else [])
        own = nullcontext() if own_penalties else _without_penalties(model)
        with own, _seeded(seed + number, model.device), torch.inference_mode():
            output = model.generate(**inputs, generation_config=generation_config, stopping_criteria=criteria)
        for index, row in zip(batch, output[:, first:].tolist(), strict=True):
            end = next((position for position, token in enumerate(row, start=1) if token in stops), 0)
            text = tokenizer.decode(row[: end or None], skip_special_tokens=True)
            text = text if end else without_half_character(text)
            ends = [text.index(string) for string in stop if string in text]
            answers[index] = Answer(text[: min(ends, default=None)], end > 0 or bool(ends))
    return gathered(answers)


class _EndsWithString(StoppingCriteria):
    """Whether one of the strings is among the last tokens of an answer.

    transformers' own criterion finds strings that begin in the prompt too, which end nothing.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, strings: Sequence[str], first: int) -> None:
        self.tokenizer, self.strings, self.first = tokenizer, strings, first
        self.window = max(len(string.encode()) for string in strings)  # no token is shorter than a byte

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        texts = self.tokenizer.batch_decode(
            input_ids[:, max(self.first, input_ids.shape[1] - self.window) :], skip_special_tokens=True
        )
        ended = [any(string in text for string in self.strings) for text in texts]
        return torch.tensor(ended, device=input_ids.device)


def _stop_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, one_line: bool) -> set[int]:
    """The tokens after which generation stops; with `one_line` also those that hold a line break."""
    stops = stop_ids(tokenizer, model.generation_config)
    if one_line:
        texts = tokenizer.batch_decode([[index] for index in range(len(tokenizer))])
        stops |= {index for index, text in enumerate(texts) if "\n" in text}
    return stops


def fit(model: PreTrainedModel, token_ids: list[list[int]], max_new_tokens: int) -> list[list[int]]:
    """Cut texts that exceed the model's positions at their beginning, as usual in evaluation, and say so."""
    room = model.config.max_position_embeddings - max_new_tokens
    if room < 1:
        message = (
            f"max_new_tokens {max_new_tokens} leaves no room for a prompt in {room + max_new_tokens} tokens"
        )
        raise UserError("answer_too_long", message, max_new_tokens=max_new_tokens)
    if cut := sum(len(ids) > room for ids in token_ids):
        logger.warning(
            "%d of %d prompts are longer than %d tokens: their beginning is cut off",
            cut,
            len(token_ids),
            room,
        )
    return [ids[-room:] for ids in token_ids]


def own_batches(keys: Sequence[Any], batch_size: int) -> list[tuple[int, list[int]]]:
    """Numbered batches of indices for this process, in the order of the keys.

    With the longest texts first there is little padding, and memory fails early.
    """
    order = sorted(range(len(keys)), key=keys.__getitem__)
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    state = PartialState()
    return list(enumerate(batches))[state.process_index :: state.num_processes]


def gathered(own: dict[int, Any]) -> list[Any]:
    """The results of all processes, in the order of the examples."""
    merged = {index: result for part in gather_object([own]) for index, result in part.items()}
    return [merged[index] for index in range(len(merged))]


def padded(rows: list[list[int]], pad: int, side: str, device: torch.device) -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask`, each (B, T)."""
    width = max(map(len, rows))
    input_ids = torch.full((len(rows), width), pad)
    attention_mask = torch.zeros_like(input_ids)
    for number, row in enumerate(rows):
        place = slice(width - len(row), width) if side == "left" else slice(len(row))
        input_ids[number, place] = torch.tensor(row)
        attention_mask[number, place] = 1
    return {"input_ids": input_ids.to(device), "attention_mask": attention_mask.to(device)}


@contextmanager
def _without_penalties(model: PreTrainedModel) -> Iterator[None]:
    """A generation config of special tokens alone: `generate` takes from the model's own what its caller leaves out."""
    own = model.generation_config
    model.generation_config = GenerationConfig(**{name: getattr(own, name) for name in TOKENS})
    try:
        yield
    finally:
        model.generation_config = own


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """A random state of its own."""
    own = [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(devices=own, device_type=device.type):
        torch.manual_seed(seed)
        yield
