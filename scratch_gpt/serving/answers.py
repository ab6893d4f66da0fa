# SPDX-License-Identifier: Apache-2.0
"""Pieces of text as OpenAI's answers: whole, or in chunks of server-sent events."""

import json
import re
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any

from scratch_gpt.inference.generation import REPLACEMENT
from scratch_gpt.serving.generation import Piece, Token
from scratch_gpt.serving.protocol import RequestError
from scratch_gpt.serving.tool_calls import CallReader


PieceStream = AsyncIterator[Piece]


# Unicode's line ends, at which clients split events too, and halves of surrogate pairs, which UTF-8 has not.
_ESCAPED = re.compile("[\u0085\u2028\u2029\ud800-\udfff]")


def _event(content: Any) -> str:
    line = _ESCAPED.sub(lambda sign: f"\\u{ord(sign[0]):04x}", json.dumps(content, ensure_ascii=False))
    return f"data: {line}\n\n"


class Answer:
    """The form of one endpoint's answers to one request.

    Args:
        model: the name that the request gave.
        prompt_tokens: of all prompts.
        with_usage: whether a stream ends with the token counts.
    """

    prefix, whole_object, chunk_object = "", "", ""

    def __init__(self, model: str, prompt_tokens: int, with_usage: bool) -> None:
        self.prompt_tokens, self.with_usage = prompt_tokens, with_usage
        self.head = {
            "id": f"{self.prefix}-{secrets.token_hex(16)}",
            "created": int(time.time()),
            "model": model,
        }
        self.generated: dict[int, int] = {}  # tokens of each choice

    def usage(self) -> dict[str, int]:
        """Token counts so far."""
        generated = sum(self.generated.values())
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": generated,
            "total_tokens": self.prompt_tokens + generated,
        }

    def changes(self, piece: Piece) -> list[dict[str, Any]]:
        """What a piece adds to its choice, as chunks' `choices` entries; none if it adds nothing."""
        raise NotImplementedError

    def choice(self, pieces: list[Piece]) -> dict[str, Any]:
        """A whole choice."""
        raise NotImplementedError

    async def whole(self, pieces: PieceStream) -> dict[str, Any]:
        """The answer, once it is complete."""
        choices: dict[int, list[Piece]] = {}
        async for piece in pieces:
            choices.setdefault(piece.choice, []).append(piece)
            self.generated[piece.choice] = piece.num_tokens
        return {
            **self.head,
            "object": self.whole_object,
            "choices": [self.choice(choices[index]) for index in sorted(choices)],
            "usage": self.usage(),
        }

    async def stream(self, pieces: PieceStream) -> AsyncIterator[str]:
        """The answer in server-sent events; an error after the first one is the last."""
        usage = {"usage": None} if self.with_usage else {}
        head = {**self.head, "object": self.chunk_object}
        try:
            async for piece in pieces:
                self.generated[piece.choice] = piece.num_tokens
                for change in self.changes(piece):
                    yield _event({**head, "choices": [change], **usage})
        except Exception as error:
            yield _event(RequestError(f"the answer broke off: {type(error).__name__}", status=500).body())
            raise
        if self.with_usage:
            yield _event({**head, "choices": [], "usage": self.usage()})
        yield "data: [DONE]\n\n"


class ChatAnswer(Answer):
    """/v1/chat/completions"""

    prefix, whole_object, chunk_object = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def __init__(
        self, model: str, prompt_tokens: int, with_usage: bool, with_logprobs: bool, with_tools: bool
    ) -> None:
        super().__init__(model, prompt_tokens, with_usage)
        self.with_logprobs, self.with_tools = with_logprobs, with_tools
        self.readers: dict[int, CallReader] = {}

    def changes(self, piece: Piece) -> list[dict[str, Any]]:
        changes: list[tuple[dict[str, Any], list[Token], str | None]] = []
        if piece.choice not in self.readers:
            self.readers[piece.choice] = CallReader()
            changes.append(({"role": "assistant", "content": ""}, [], None))
        calls: list[dict[str, Any]] = []
        if self.with_tools:
            text, calls, reason = self.readers[piece.choice].read(piece.text, piece.finish_reason)
            piece = piece._replace(text=text, finish_reason=reason)
        if piece.text or piece.tokens:
            changes.append(({"content": piece.text}, piece.tokens, None))
        if calls:
            indexed = [{"index": index, **call} for index, call in enumerate(calls)]
            changes.append(({"tool_calls": indexed}, [], None))
        if piece.finish_reason is not None:
            changes.append(({}, [], piece.finish_reason))
        return [
            {
                "index": piece.choice,
                "delta": delta,
                "logprobs": self.logprobs(tokens) if tokens else None,
                "finish_reason": reason,
            }
            for delta, tokens, reason in changes
        ]

    def choice(self, pieces: list[Piece]) -> dict[str, Any]:
        text, reason = "".join(piece.text for piece in pieces), pieces[-1].finish_reason
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
        if self.with_tools:
            text, calls, reason = CallReader().read(text, reason)
            if calls:
                message |= {"content": text.strip() or None, "tool_calls": calls}
        return {
            "index": pieces[-1].choice,
            "message": message,
            "logprobs": self.logprobs([token for piece in pieces for token in piece.tokens]),
            "finish_reason": reason,
        }

    def logprobs(self, tokens: list[Token]) -> dict[str, Any] | None:
        """The log-probabilities of `tokens`, where they are asked for."""

        def entry(token: Token) -> dict[str, Any]:
            return {"token": token.text, "logprob": token.logprob, "bytes": token.raw}

        if not self.with_logprobs:
            return None
        content = [{**entry(token), "top_logprobs": list(map(entry, token.top))} for token in tokens]
        return {"content": content, "refusal": None}


class CompletionAnswer(Answer):
    """/v1/completions"""

    prefix, whole_object, chunk_object = "cmpl", "text_completion", "text_completion"

    def __init__(self, model: str, prompt_tokens: int, with_usage: bool, with_logprobs: bool) -> None:
        super().__init__(model, prompt_tokens, with_usage)
        self.with_logprobs = with_logprobs
        self.offsets: dict[int, int] = {}

    def changes(self, piece: Piece) -> list[dict[str, Any]]:
        empty = not piece.text and not piece.tokens and piece.finish_reason is None
        return [] if empty else [self.choice([piece])]

    def choice(self, pieces: list[Piece]) -> dict[str, Any]:
        last = pieces[-1]
        tokens = [token for piece in pieces for token in piece.tokens]
        return {
            "index": last.choice,
            "text": "".join(piece.text for piece in pieces),
            "logprobs": self.logprobs(last.choice, tokens) if self.with_logprobs else None,
            "finish_reason": last.finish_reason,
        }

    def logprobs(self, choice: int, tokens: list[Token]) -> dict[str, Any]:
        """The log-probabilities of `tokens`; offsets count characters of the choice's text.

        A part of a character is spelled by its bytes, as OpenAI's server does: "bytes:\\xe4\\xb8".
        """

        def spelled(token: Token) -> str:
            if REPLACEMENT not in token.text or token.raw is None:
                return token.text
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token.raw)

        offsets, start, before = [], self.offsets.get(choice, 0), b""
        for token in tokens:
            offsets.append(start + len(before.decode(errors="ignore")))
            before += token.text.encode() if token.raw is None else bytes(token.raw)
        self.offsets[choice] = start + len(before.decode(errors="replace"))
        return {
            "tokens": [spelled(token) for token in tokens],
            "token_logprobs": [token.logprob for token in tokens],
            "top_logprobs": [
                {spelled(other): other.logprob for other in [*token.top, token]}
                if token.logprob is not None
                else None
                for token in tokens
            ],
            "text_offset": offsets,
        }
