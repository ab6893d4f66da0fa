# SPDX-License-Identifier: Apache-2.0
"""A conversation in the terminal: streaming, as many turns as the context holds, Ctrl-C stops an answer only.

Nobody's text is trusted: the chat template keeps the user's from becoming special tokens, and control characters
of the model's are shown, never sent to the terminal.
"""

import sys
import unicodedata
from collections.abc import Callable
from typing import Any

from scratch_gpt.errors import UserError


def printable(text: str) -> str:
    """`text` with control characters spelled out (escape becomes `\\x1b`), newline and tab aside."""
    return "".join(
        f"\\x{ord(character):02x}"
        if unicodedata.category(character) == "Cc" and character not in "\n\t"
        else character
        for character in text
    )


class ChatSession:
    """One model and the conversation with it.

    Args:
        model: a causal language model in evaluation mode.
        tokenizer: its tokenizer, with a chat template.
        system: a system message, kept when older turns are dropped.
        temperature: 0 takes the likeliest token, more samples.
        max_new_tokens: longest answer; at most half of the context.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        system: str | None = None,
        temperature: float = 0.7,
        max_new_tokens: int = 200,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.system = [] if system is None else [{"role": "system", "content": system}]
        self.temperature = temperature
        context = model.config.max_position_embeddings
        self.max_new_tokens = min(max_new_tokens, context // 2)
        self.max_prompt_tokens = context - self.max_new_tokens
        self.turns: list[dict[str, str]] = []

    @classmethod
    def load(
        cls,
        folder: str,
        system: str | None = None,
        temperature: float = 0.7,
        max_new_tokens: int = 200,
        seed: int | None = None,
    ) -> "ChatSession":
        """Open the chat model in `folder`.

        Raises:
            UserError: no model in the folder, or one that was not trained to chat.
        """
        from transformers import set_seed
        from transformers.utils import logging

        from scratch_gpt.evaluation.runner import is_chat, load_model

        logging.disable_progress_bar()
        model, tokenizer = load_model(folder)
        if not is_chat(tokenizer):
            raise UserError(
                f"{folder} is a base model, it only continues text: train it to chat first (scratch-gpt sft)"
            )
        if seed is not None:
            set_seed(seed)
        return cls(model, tokenizer, system, temperature, max_new_tokens)

    def reset(self) -> None:
        """Forget the conversation."""
        self.turns = []

    def _prompt(self) -> Any:
        """The conversation as model inputs, after dropping the oldest turns until it fits the context.

        Raises:
            UserError: the last message alone does not fit.
        """
        while True:
            inputs = self.tokenizer.apply_chat_template(
                [*self.system, *self.turns], add_generation_prompt=True, return_dict=True, return_tensors="pt"
            )
            num_tokens = inputs["input_ids"].shape[1]
            if num_tokens <= self.max_prompt_tokens:
                return inputs.to(self.model.device)
            if len(self.turns) == 1:
                raise UserError(
                    f"that message is {num_tokens} tokens, the model reads {self.max_prompt_tokens}: shorten it"
                )
            del self.turns[:2]

    def ask(self, message: str, write: Callable[[str], Any]) -> str:
        """Answer `message`, handing pieces of the answer to `write` as they form; Ctrl-C ends the answer early.

        Returns:
            What was said, which the conversation remembers.

        Raises:
            UserError: the message does not fit the context; the conversation is as it was before.
        """
        from transformers import TextStreamer

        pieces: list[str] = []

        class Streamer(TextStreamer):
            def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
                pieces.append(text)
                write(printable(text))

        before = list(self.turns)
        self.turns.append({"role": "user", "content": message})
        try:
            inputs = self._prompt()
        except UserError:
            self.turns = before
            raise
        sampling = (
            {"do_sample": True, "temperature": self.temperature}
            if self.temperature > 0
            else {"do_sample": False}
        )
        try:
            self.model.generate(
                **inputs,
                **sampling,
                max_new_tokens=self.max_new_tokens,
                pad_token_id=self.tokenizer.pad_token_id,
                streamer=Streamer(self.tokenizer, skip_prompt=True, skip_special_tokens=True),
            )
        except KeyboardInterrupt:
            write(" ...")
        answer = "".join(pieces)
        self.turns.append({"role": "assistant", "content": answer})
        return answer


def converse(session: ChatSession) -> None:
    """Read messages from standard input, one a line, and print the answers, until the end of input or `/exit`."""
    interactive = sys.stdin.isatty()
    if interactive:
        print("Talk to the model. /reset forgets the conversation, /exit leaves, Ctrl-C stops an answer.")
    while True:
        try:
            message = input("\nyou> " if interactive else "").strip()
        except EOFError:
            return
        except KeyboardInterrupt:
            print("\n(/exit leaves)")
            continue
        if message == "/exit":
            return
        if message == "/reset":
            session.reset()
        elif message:
            if interactive:
                print("model> ", end="", flush=True)
            try:
                session.ask(message, lambda text: print(text, end="", flush=True))
            except UserError as error:
                print(f"error: {error}", end="", file=sys.stderr, flush=True)
            print()
