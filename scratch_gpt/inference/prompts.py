# SPDX-License-Identifier: Apache-2.0
"""What a chat model is asked in reinforcement learning and in measuring it: questions, and what is known of the answer."""

import random
from typing import NamedTuple

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from scratch_gpt import primer
from scratch_gpt.data.rows.conversations import instruction_rows
from scratch_gpt.data.rows.messages import Message
from scratch_gpt.data.rows.schema import weighted_rows
from scratch_gpt.data.rows.splits import Row, SplitArguments, read_splits, report_few, training_sample
from scratch_gpt.data.sources.bad_rows import BadRows
from scratch_gpt.data.sources.source import Source
from scratch_gpt.errors import UserError
from scratch_gpt.inference.generation import encode_prompts
from scratch_gpt.runs.log import console
from scratch_gpt.settings.sources import PRIMER
from scratch_gpt.tasks.example import Example


class Prompt(NamedTuple):
    """A user's message, and what was said to the model before it.

    Args:
        text: the message.
        example: with acceptable answers: those of the embedded corpus, or the reply in the user's file.
        source: the user's source it is from; None for the embedded corpus, which has a gold score for its examples.
        system: the message that opens the conversation, as it was taught.
    """

    text: str
    example: Example | None = None
    source: str | None = None
    system: str | None = None

    @property
    def messages(self) -> list[Message]:
        """The conversation up to the answer."""
        opening = [] if self.system is None else [{"role": "system", "content": self.system}]
        return [*opening, {"role": "user", "content": self.text}]


def read_prompts(
    arguments: SplitArguments,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    *,
    max_new_tokens: int,
    limit: int | None,
) -> dict[str, list[Prompt]]:
    """Questions of all sources as train, dev and test: the primer's prompts, and the first message of files' rows.

    Prompts that leave no room for an answer of `max_new_tokens` are left out, and `limit` bounds dev and test: with files a
    draw by the seed, of all sources together.

    Raises:
        UserError: as for `read_splits`, or no prompt leaves room for an answer.
    """

    def read(sources: list[Source], split: str, bad_rows: BadRows, seed: int) -> list[Row]:
        rows: list[Row] = []
        for source in sources:
            if source.path == PRIMER:
                asked = [Prompt(example.prompt, example) for example in primer.prompts(split, seed)]
                own = [
                    {"asked": prompt, "source": PRIMER, "place": number}
                    for number, prompt in enumerate(asked)
                ]
                rows += weighted_rows(own, source, seed)
            else:
                found = instruction_rows([source], split, bad_rows, seed)
                plain = [row for row in found if not _has_tools(row)]
                rows += plain
                if len(plain) < len(found):
                    left_out = (
                        f"{len(found) - len(plain):,} of {len(found):,} conversations have tools: left out"
                    )
                    console.print(f"{source.name}: {left_out}", markup=False)
        return rows

    positions = model.config.max_position_embeddings
    prompts = {}
    for split, rows in read_splits(read, arguments).items():
        asked = [row["asked"] if "asked" in row else first_question(row) for row in rows]
        token_ids = encode_prompts(tokenizer, [prompt.messages for prompt in asked], chat=True)
        found = [
            prompt
            for prompt, ids in zip(asked, token_ids, strict=True)
            if len(ids) + max_new_tokens <= positions
        ]
        if not found:
            message = (
                f"no {split} prompt leaves room for {max_new_tokens} tokens of answer in the model's context of "
                f"{positions}: lower max_completion_length"
            )
            raise UserError("answer_too_long", message, max_new_tokens=max_new_tokens)
        dropped = len(asked) - len(found)
        if split == "train":
            found = training_sample(found, arguments)
        elif limit is not None and len(found) > limit:
            # the primer's come first, in a random order; a file's order may be one by subject
            if any(prompt.source for prompt in found):
                random.Random(arguments.seed).shuffle(found)
            found = found[:limit]
        prompts[split] = found
        console.print(
            f"{split}: {len(prompts[split]):,} prompts"
            + (f" ({dropped:,} that leave no room for an answer left out)" if dropped else "")
        )
    report_few(len(prompts["test"]), "prompts")
    return prompts


def _has_tools(row: Row) -> bool:
    return "tools" in row or any(message.get("tool_calls") for message in row["messages"])


def first_question(row: Row) -> Prompt:
    """A conversation's first question behind its system message, with the reply as the one acceptable answer."""
    messages = row["messages"]
    place = next(number for number, message in enumerate(messages) if message["role"] == "user")
    system = next((message["content"] for message in messages[:place] if message["role"] == "system"), None)
    question = messages[place]["content"]
    # an answer of weight 0 is no model for another one
    rest = [message["content"] for message in messages[place + 1 : place + 2] if "weight" not in message]
    example = Example(question, tuple(rest), kind=row["source"], key=question) if rest else None
    return Prompt(question, example, row["source"], system)
