# SPDX-License-Identifier: Apache-2.0
"""Whether answers end within `max_completion_length`, before anything is learned: those that are cut off teach nothing."""

import math
from collections.abc import Sequence

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from scratch_gpt.errors import UserError
from scratch_gpt.inference.generation import encode_prompts, generate_answers
from scratch_gpt.inference.prompts import Prompt
from scratch_gpt.tokenization import encode_plain


# Shares of answers that are cut off.
REFUSED, WARNED = 0.9, 0.5
# What the suggested length is measured on: the number of prompts, and the factor on the length that was too short.
PROMPTS, ROOM = 16, 8
ENDED = 0.9


def suggest_length(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[Prompt],
    length: int,
    seed: int,
) -> int | None:
    """Tokens within which nine of ten answers end, sampled with more room than `length`; None: they do not end there either."""
    asked = [prompt.messages for prompt in prompts[:PROMPTS]]
    longest = max(map(len, encode_prompts(tokenizer, asked, chat=True)))
    room = min(ROOM * length, model.config.max_position_embeddings - longest)
    if room <= length:
        return None
    was_training = model.training
    answers = generate_answers(
        model.eval(), tokenizer, asked, chat=True, max_new_tokens=room, temperature=1.0, seed=seed
    )
    model.train(was_training)
    ended = [answer.text for answer in answers if answer.finished]
    needed = math.ceil(ENDED * len(answers))
    if len(ended) < needed:
        return None
    return max(length + 1, sorted(len(ids) + 1 for ids in encode_plain(tokenizer, ended))[needed - 1])


def cut_off_line(share: float, length: int, suggested: int | None, masked: bool) -> str:
    """What to say of the share of answers that are cut off at `length`.

    Args:
        suggested: from `suggest_length`.
        masked: whether such answers are left out of the loss (`mask_truncated_completions`).

    Raises:
        UserError: more than nine of ten are, and are left out.
    """
    cure = (
        f"set max_completion_length to {suggested}, where nine of ten end"
        if suggested
        else "they do not end with more room either: tune the model first (scratch-gpt sft), or take a chat model"
    )
    line = f"{share:.0%} of the answers to dev prompts are cut off at max_completion_length {length}"
    if masked and share > REFUSED:
        message = f"{line} and would teach nothing: {cure}"
        raise UserError("answers_cut_off", message, share=share, length=length, suggested=suggested)
    return f"{line}{' and teach nothing' if masked else ''}: {cure}"
