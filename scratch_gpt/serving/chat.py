# SPDX-License-Identifier: Apache-2.0
"""A model that one talks to: what of a conversation it reads, and its text as it forms.

Nobody's text is trusted: the chat template and the plain encoding keep it from becoming special tokens.
"""

import contextlib
import json
import queue
import threading
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from transformers import StoppingCriteria
from transformers.generation.streamers import BaseStreamer
from transformers.utils import logging

from scratch_gpt.errors import UserError
from scratch_gpt.inference.generation import REPLACEMENT, begin_ids, without_half_character
from scratch_gpt.inference.loading import load_model
from scratch_gpt.inference.sampling import Sampling
from scratch_gpt.inference.turns import is_chat, stop_ids
from scratch_gpt.runs.folders import atomic_write
from scratch_gpt.runs.results import things_to_ask
from scratch_gpt.tokenization import encode_plain


Message = dict[str, str]

# An answer as it forms; whoever closes it early stops the model.
TextStream = Generator[str, None, None]


class _TokenQueue(BaseStreamer):
    """Hands on each new token, not the prompt."""

    def __init__(self, tokens: queue.Queue) -> None:
        self.tokens = tokens
        self.is_prompt = True

    def put(self, value: torch.Tensor) -> None:
        if not self.is_prompt:
            self.tokens.put(value.item())
        self.is_prompt = False

    def end(self) -> None:
        """`stream` says itself when it is over, also after an error."""


class _Stopped(StoppingCriteria):
    def __init__(self, event: threading.Event) -> None:
        self.event = event

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        return torch.full((input_ids.shape[0],), self.event.is_set(), device=input_ids.device)


class StreamingModel:
    """A causal language model in evaluation mode, its tokenizer, the name that people see, and what to ask it.

    Args:
        questions: that it answered right in its benchmarks.
        folder: where it was loaded from.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        name: str,
        questions: Sequence[str] = (),
        folder: Path | None = None,
    ) -> None:
        self.model, self.tokenizer, self.name, self.folder = model, tokenizer, name, folder
        self.questions = list(questions)
        self.is_chat = is_chat(tokenizer)
        self.context: int = model.config.max_position_embeddings
        self.num_said = 0  # tokens of the latest text

    @classmethod
    def load(cls, folder: str) -> "StreamingModel":
        """Open the model in `folder`, named after it.

        Raises:
            UserError: no causal language model in the folder.
        """
        logging.disable_progress_bar()
        path = Path(folder)
        return cls(*load_model(folder), path.resolve().name, things_to_ask(folder), path)

    def longest(self, sampling: Sampling) -> int:
        """Tokens of the longest answer: never more than half of the context."""
        return min(sampling.max_new_tokens, self.context // 2)

    def fits(self, token_ids: list[int], sampling: Sampling) -> bool:
        """Whether the context has room for the longest answer behind these tokens."""
        return len(token_ids) + self.longest(sampling) <= self.context

    def refuse_long(self, what: str, token_ids: list[int], sampling: Sampling) -> None:
        """Raise UserError if the tokens of `what` leave no room for an answer."""
        if not self.fits(token_ids, sampling):
            room = self.context - self.longest(sampling)
            message = f"that {what} is {len(token_ids)} tokens, the model reads {room}: shorten it"
            raise UserError("too_long", message, length=len(token_ids), limit=room)

    def encode(self, text: str) -> list[int]:
        """Token ids of plain text.

        Raises:
            UserError: the text is empty.
        """
        if not text:
            raise UserError("empty_text", "there is no text to continue: type its beginning")
        return begin_ids(self.tokenizer) + encode_plain(self.tokenizer, [text])[0]

    def stream(self, token_ids: list[int], sampling: Sampling) -> TextStream:
        """What follows `token_ids`, in pieces of whole characters; generation stops when the iterator is closed.

        Generation runs in a thread, so that whoever reads can stop it between two tokens.
        """
        tokens: queue.Queue[int | BaseException | None] = queue.Queue()
        stopped = threading.Event()
        inputs = torch.tensor([token_ids], device=self.model.device)
        settings = sampling.arguments() | {"max_new_tokens": self.longest(sampling)}
        stops = stop_ids(self.tokenizer, self.model.generation_config)
        settings["eos_token_id"] = sorted(stops) or None

        def generate() -> None:
            try:
                self.model.generate(
                    inputs,
                    attention_mask=torch.ones_like(inputs),
                    pad_token_id=self.tokenizer.pad_token_id,
                    streamer=_TokenQueue(tokens),
                    stopping_criteria=[_Stopped(stopped)],
                    **settings,
                )
                tokens.put(None)
            except BaseException as error:  # raised again where the text is read
                tokens.put(error)

        thread = threading.Thread(target=generate, daemon=True)
        thread.start()
        said: list[int] = []
        text = shown = ""
        self.num_said = 0
        try:
            while (token := tokens.get()) is not None:
                if isinstance(token, BaseException):
                    raise token
                said.append(token)
                self.num_said += 1
                text = self.tokenizer.decode(said, skip_special_tokens=True)
                # at the end it is half a character, whose rest may follow
                if text != shown and not text.endswith(REPLACEMENT):
                    yield text[len(shown) :]
                    shown = text
            if not said or said[-1] not in stops:
                text = without_half_character(text)
            if text != shown:
                yield text[len(shown) :]
        finally:
            stopped.set()
            thread.join()

    def complete(self, text: str, sampling: Sampling) -> TextStream:
        """Continue `text`, in pieces; see `stream`.

        Raises:
            UserError: the text is empty, or too long for the context.
        """
        token_ids = self.encode(text)
        self.refuse_long("text", token_ids, sampling)
        return self.stream(token_ids, sampling)


class ChatSession:
    """One conversation with a chat model.

    Args:
        speaker: the model that answers.
        sampling: how; by default as its generation config says.
        system: a system message, never forgotten.
        messages: users' and assistant's in turn, so far; answers are appended while they form.

    Raises:
        UserError: the model was not trained to chat.
    """

    def __init__(
        self,
        speaker: StreamingModel,
        sampling: Sampling | None = None,
        system: str | None = None,
        messages: list[Message] | None = None,
    ) -> None:
        if not speaker.is_chat:
            message = (
                f"{speaker.name} is a base model, it only continues text: add --complete to continue yours, "
                "or train it to chat first (scratch-gpt sft)"
            )
            raise UserError("base_model", message, model=speaker.name)
        self.speaker = speaker
        self.sampling = sampling or Sampling.of(speaker.model.generation_config)
        self.system = system
        self.messages = messages or []
        self.forgotten = 0  # of the oldest messages, which no longer fit the context

    def reset(self) -> None:
        """Forget the conversation, the system message aside."""
        self.messages, self.forgotten = [], 0

    def prompt(self) -> list[int]:
        """Token ids of the conversation, after forgetting the oldest turns until it fits the context.

        Raises:
            UserError: the last message alone does not fit; the chat template refuses the conversation.
        """
        system = [] if self.system is None else [{"role": "system", "content": self.system}]
        forgotten = self.forgotten
        while True:
            kept = self.messages[forgotten:]
            try:
                token_ids = self.speaker.tokenizer.apply_chat_template(
                    [*system, *kept], add_generation_prompt=True, return_dict=True
                )["input_ids"]
            except TemplateError as error:
                message = (
                    f"the model's chat template refuses this conversation: {' '.join(str(error).split())}"
                )
                raise UserError("conversation_refused", message) from None
            if self.speaker.fits(token_ids, self.sampling):
                self.forgotten = forgotten
                return token_ids
            if len(kept) == 1:
                self.speaker.refuse_long("message", token_ids, self.sampling)
            forgotten += 2

    def ask(self, message: str) -> TextStream:
        """Answer `message`, in pieces; an iterator that is closed early leaves the part that was said.

        Raises:
            UserError: there is no message, or it does not fit the context; the conversation is as it was before.
        """
        if not message.strip():
            raise UserError("empty_text", "type a message first")
        self.messages.append({"role": "user", "content": message})
        try:
            token_ids = self.prompt()
        except UserError:
            self.messages.pop()
            raise
        answer = {"role": "assistant", "content": ""}
        self.messages.append(answer)
        with contextlib.closing(self.speaker.stream(token_ids, self.sampling)) as pieces:
            for piece in pieces:
                answer["content"] += piece
                yield piece

    def save(self, file: str) -> None:
        """Write the conversation as a line of JSON, the format of instruction data: {"messages": [...]}.

        Raises:
            UserError: the file cannot be written, or is there and holds no conversation.
        """
        path = Path(file)
        if path.exists():
            _read(path)  # an older conversation may be replaced, nothing else
        system = [] if self.system is None else [{"role": "system", "content": self.system}]
        row = json.dumps({"messages": [*system, *self.messages]}, ensure_ascii=False)
        with atomic_write(path) as temporary:
            temporary.write_text(row + "\n", encoding="utf-8")

    def load(self, file: str) -> None:
        """Go on with a conversation that `save` wrote, its system message included.

        Raises:
            UserError: no such file, or no conversation in it; this conversation stays.
        """
        messages = _read(Path(file))
        self.reset()
        self.system = messages.pop(0)["content"] if messages[:1] and messages[0]["role"] == "system" else None
        self.messages = messages


def _read(path: Path) -> list[Message]:
    """The messages in a file that `ChatSession.save` wrote: perhaps a system message, then questions and answers."""
    try:
        messages = json.loads(path.read_text(encoding="utf-8"))["messages"]
        start = int(bool(messages) and messages[0]["role"] == "system")
        for number, message in enumerate(messages):
            role = "system" if number < start else ("user", "assistant")[(number - start) % 2]
            if message.keys() != {"role", "content"} or message["role"] != role:
                raise ValueError(f"message {number + 1} must be of the {role}")
            if not isinstance(message["content"], str):
                raise ValueError(f"message {number + 1} is no text")
        if (len(messages) - start) % 2:
            raise ValueError("the last question has no answer")
    except OSError as error:
        raise UserError("unreadable_file", f"cannot read {path}: {error.strerror}", file=path) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = str(error) if type(error) is ValueError else "it is not what /save writes"
        raise UserError("not_a_conversation", f"{path} holds no conversation: {reason}", file=path) from None
    return list(messages)
