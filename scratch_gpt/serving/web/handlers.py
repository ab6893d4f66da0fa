# SPDX-License-Identifier: Apache-2.0
"""What the buttons of the page do; every handler yields what is to be shown, as often as it changes."""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from html import escape
from itertools import zip_longest
from typing import Any

import gradio as gr

from scratch_gpt.errors import UserError
from scratch_gpt.inference.sampling import Sampling
from scratch_gpt.serving.chat import ChatSession, Message, StreamingModel, TextStream
from scratch_gpt.serving.inspection import attention_weights, next_tokens, token_bytes, token_label
from scratch_gpt.serving.web.drawings import draw_attention, draw_next_tokens, draw_note, draw_tokens


# Longest text that is looked at; what the model reads is shorter still.
MAX_CHARACTERS = 20_000
# A table of more tokens would be unreadable, and so would a row of more.
MAX_ATTENTION_TOKENS = 64
MAX_SHOWN_TOKENS = 1_000
NUM_NEXT_TOKENS = 10
# Between two updates of the page: a model may be faster than a browser.
UPDATE_SECONDS = 0.05
MEAN_OF_HEADS = "mean of all"
NO_TEXT = "(No text: the model ended at once.)"


def _telling(handler: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    """A mistake of the user's becomes a notice on the page, and what is shown stays."""

    @functools.wraps(handler)
    def tell(*arguments: Any) -> Iterator[Any]:
        try:
            yield from handler(*arguments)
        except UserError as error:
            gr.Warning(str(error), title="Not done")
            yield gr.skip()

    return tell


def _noting(handler: Callable[..., str]) -> Callable[..., str]:
    """Show a mistake of the user's in place of the drawing, which is drawn anew at each keystroke."""

    @functools.wraps(handler)
    def note(*arguments: Any) -> str:
        try:
            return handler(*arguments)
        except UserError as error:
            return draw_note(f"{error}.")

    return note


def _checked(text: str) -> str:
    if len(text) > MAX_CHARACTERS:
        message = f"that text has {len(text)} characters, the page takes {MAX_CHARACTERS}: shorten it"
        raise UserError("too_long", message, length=len(text), limit=MAX_CHARACTERS)
    return text


def _refuse_many(token_ids: list[int], limit: int) -> None:
    if len(token_ids) > limit:
        message = f"that text is {len(token_ids)} tokens, {limit} can be shown: shorten it"
        raise UserError("too_long", message, length=len(token_ids), limit=limit)


def _paced(pieces: TextStream) -> TextStream:
    """All said so far, now and then and at the end."""
    text, last = "", 0.0
    with contextlib.closing(pieces):
        for piece in pieces:
            text += piece
            if time.monotonic() - last >= UPDATE_SECONDS:
                last = time.monotonic()
                yield text
    yield text


def _sampling(temperature: float, top_k: float, top_p: float, max_new_tokens: float = 1) -> Sampling:
    return Sampling(temperature, top_p, int(top_k), int(max_new_tokens))


def _shown(session: ChatSession) -> list[Message]:
    """The messages for the chat window; where some no longer fit the context, a line says so."""
    # Without markdown the window still takes HTML: escaped, it shows what was written.
    shown = [{**message, "content": escape(message["content"])} for message in session.messages]
    if session.forgotten:
        note = (
            f"(The messages above no longer fit the context of {session.speaker.context} tokens: forgotten.)"
        )
        shown.insert(session.forgotten, {"role": "assistant", "content": note})
    return shown


class Handlers:
    """The handlers for models known by name; `settings` are temperature, top-k, top-p, longest answer."""

    def __init__(self, models: list[StreamingModel]) -> None:
        self.models = {model.name: model for model in models}

    @_telling
    def chat(
        self, message: str, messages: list[Message], name: str, system: str, *settings: float
    ) -> Iterator[tuple]:
        """Yield the input line (emptied once), what is shown and the messages, while the answer forms."""
        session = ChatSession(
            self.models[name], _sampling(*settings), _checked(system.strip()) or None, list(messages)
        )
        line: Any = ""
        with contextlib.closing(_paced(session.ask(_checked(message.strip())))) as answer:
            for _ in answer:
                yield line, _shown(session), list(session.messages)
                line = gr.skip()  # what is being typed by now stays

    @_telling
    def compare(
        self,
        message: str,
        name: str,
        temperature: float,
        other: str,
        other_temperature: float,
        *settings: float,
    ) -> Iterator[tuple[str, ...]]:
        """Yield both texts while they form: answers of chat models, else continuations."""
        with contextlib.ExitStack() as stack:
            streams = []
            for side, heat in ((name, temperature), (other, other_temperature)):
                model, sampling = self.models[side], _sampling(heat, *settings)
                if model.is_chat:
                    pieces = ChatSession(model, sampling).ask(_checked(message))
                else:
                    pieces = model.complete(_checked(message), sampling)
                streams.append(stack.enter_context(contextlib.closing(_paced(pieces))))
            texts = [""] * len(streams)
            for new in zip_longest(*streams):
                texts = [old if text is None else text for text, old in zip(new, texts, strict=True)]
                yield tuple(texts)
            yield tuple(text or NO_TEXT for text in texts)

    @_telling
    def complete(self, text: str, name: str, *settings: float) -> TextStream:
        """Yield `text` with what the model adds, while it forms."""
        pieces = self.models[name].complete(_checked(text), _sampling(*settings))
        with contextlib.closing(_paced(pieces)) as continuations:
            for continuation in continuations:
                yield text + continuation

    def add_token(self, text: str, name: str, *settings: float) -> TextStream:
        """Yield `text` with one more token."""
        yield from self.complete(text, name, *settings, 1)

    @_noting
    def tokens(self, text: str, name: str) -> str:
        """The tokens of the text, drawn."""
        model = self.models[name]
        token_ids = model.encode(_checked(text))
        _refuse_many(token_ids, MAX_SHOWN_TOKENS)
        tokenizer = model.tokenizer
        return draw_tokens(
            text,
            [(index, token_label(tokenizer, index), token_bytes(tokenizer, index)) for index in token_ids],
        )

    @_noting
    def next_tokens(self, text: str, name: str, *settings: float) -> str:
        """The likeliest next tokens, drawn: without the longest answer among the settings."""
        model = self.models[name]
        token_ids = model.encode(_checked(text))
        sampling = _sampling(*settings)
        model.refuse_long("text", token_ids, sampling)
        return draw_next_tokens(
            next_tokens(model.model, model.tokenizer, token_ids, NUM_NEXT_TOKENS, sampling)
        )

    @_noting
    def attention(self, text: str, name: str, layer: int, head: str) -> str:
        """The table of a layer (counted from 1) and a head ("1", ... or MEAN_OF_HEADS), drawn."""
        model = self.models[name]
        token_ids = model.encode(_checked(text))
        _refuse_many(token_ids, min(MAX_ATTENTION_TOKENS, model.context))
        weights = attention_weights(model.model, token_ids)
        layers, heads = weights.shape[:2]
        if layer > layers:
            message = f"{name} has {layers} layers, there is no layer {layer}"
            raise UserError("wrong_value", message, setting="layer", value=layer)
        if head != MEAN_OF_HEADS and int(head) > heads:
            message = f"{name} has {heads} heads, there is no head {head}"
            raise UserError("wrong_value", message, setting="head", value=head)
        of_layer = weights[int(layer) - 1]
        chosen = of_layer.mean(0) if head == MEAN_OF_HEADS else of_layer[int(head) - 1]
        return draw_attention([token_label(model.tokenizer, index) for index in token_ids], chosen)
