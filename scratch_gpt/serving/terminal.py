# SPDX-License-Identifier: Apache-2.0
"""`scratch-gpt chat`: a conversation in the terminal, or over a pipe; Ctrl-C stops an answer, not the program.

Control characters in what a model says are shown, never sent to the terminal.
"""

import contextlib
import re
import sys
import time
import unicodedata
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

from scratch_gpt.errors import UserError, wrong_value
from scratch_gpt.inference.sampling import Sampling
from scratch_gpt.runs.results import invitation
from scratch_gpt.serving.chat import ChatSession, StreamingModel, TextStream


# A word behind a slash; "/usr/bin" is a message.
COMMAND = re.compile(r"/[a-z]+(?=\s|$)")


def printable(text: str) -> str:
    """`text` with control characters spelled out (escape becomes `\\x1b`), newline and tab aside."""
    return "".join(
        f"\\x{ord(character):02x}"
        if unicodedata.category(character) == "Cc" and character not in "\n\t"
        else character
        for character in text
    )


class Terminal:
    """Reads lines, answers with one model or with two after each other.

    Args:
        speaker: the model.
        complete: continue each line as a text instead of answering it.
        system: a system message, for a chat.
        settings: sampling settings of the user's, over those of each model.

    Raises:
        UserError: a base model is asked to chat.
    """

    def __init__(
        self, speaker: StreamingModel, complete: bool = False, system: str | None = None, **settings: Any
    ) -> None:
        self.complete = complete
        self.settings = settings
        self.speakers = [speaker]
        self.sessions: list[ChatSession] = []  # one for each model; empty while texts are continued
        self.sampling = self._sampling(speaker)
        if not complete:
            self.sessions.append(ChatSession(speaker, self.sampling, system))
        elif system is not None:
            message = "--system is for a chat, --complete continues texts: drop one of them"
            raise UserError("settings_conflict", message, setting="system", other="complete")
        self.speeds: list[str] = []
        self.commands: dict[str, Callable[[str], object]] = {
            "/help": self.help,
            "/reset": self.reset,
            "/save": self.save,
            "/load": self.load,
            "/compare": self.compare,
            "/set": self.set,
            "/speed": self.speed,
        }

    def _sampling(self, speaker: StreamingModel) -> Sampling:
        return Sampling.of(speaker.model.generation_config).changed(**self.settings)

    def help(self, _: str) -> None:
        """/help: this list."""
        for command in self.commands.values():
            print(f"  {command.__doc__}")
        print("  /exit: leave. Ctrl-C: stop an answer.")

    def reset(self, _: str) -> None:
        """/reset: forget the conversation."""
        for session in self.sessions:
            session.reset()

    def _chat(self) -> ChatSession:
        if self.complete:
            message = "there is no conversation with --complete: each text is continued by itself"
            raise UserError("no_conversation", message)
        return self.sessions[0]

    def save(self, file: str) -> None:
        """/save FILE: write the conversation, as a line of JSON that sft can train on."""
        self._chat().save(_named(file, "/save talk.jsonl"))

    def load(self, file: str) -> None:
        """/load FILE: resume a conversation that was saved."""
        for session in self.sessions or [self._chat()]:
            session.load(_named(file, "/load talk.jsonl"))

    def compare(self, folder: str) -> None:
        """/compare MODEL: from now on two models answer; without MODEL, one again."""
        speakers, sessions = self.speakers[:1], self.sessions[:1]
        if folder:
            other = StreamingModel.load(folder)
            if other.name == speakers[0].name:
                other.name = folder
            for first in self.sessions[:1]:
                session = ChatSession(other, self._sampling(other), first.system, list(first.messages))
                sessions.append(session)
            speakers.append(other)
        self.speakers, self.sessions = speakers, sessions

    def set(self, words: str) -> None:
        """/set NAME VALUE: change temperature, top_p, top_k or max_new_tokens; without them, show all."""
        if words:
            name, _, value = words.partition(" ")
            defaults = asdict(Sampling())
            if name not in defaults:
                message = f"no setting {name!r}: there are {', '.join(defaults)}"
                raise UserError("unknown_key", message, key=name)
            try:
                number = type(defaults[name])(value)
            except ValueError:
                raise wrong_value(name, value, "a number") from None
            self.sampling.changed(**{name: number})  # refuses what is out of range
            self.settings[name] = number
        for speaker in self.speakers:
            sampling = self._sampling(speaker)
            print(
                f"{speaker.name}: " + ", ".join(f"{key} {value}" for key, value in asdict(sampling).items())
            )
        for session in self.sessions:
            session.sampling = self._sampling(session.speaker)

    def speed(self, _: str) -> None:
        """/speed: how fast the last answer came."""
        print("\n".join(self.speeds) or "nothing was said yet")

    def answer(self, message: str, named: bool = False) -> None:
        """Print each model's answer to `message` as it forms, behind the model's name if `named` or there are two.

        Raises:
            UserError: the message does not fit the model's context.
        """
        self.speeds = []
        for number, speaker in enumerate(self.speakers):
            if named or len(self.speakers) > 1:
                print(f"{speaker.name}> ", end="", flush=True)
            if self.complete:
                self._print(speaker, partial(speaker.complete, message, self._sampling(speaker)))
                continue
            session = self.sessions[number]
            before = session.forgotten
            self._print(speaker, partial(session.ask, message))
            if session.forgotten > before:
                print(
                    f"(the oldest {session.forgotten} messages are forgotten: the context is {speaker.context} tokens)",
                    file=sys.stderr,
                )

    def _print(self, speaker: StreamingModel, say: Callable[[], TextStream]) -> None:
        started = time.perf_counter()
        first = None
        try:
            with contextlib.closing(say()) as pieces:
                for piece in pieces:
                    first = first or time.perf_counter()
                    print(printable(piece), end="", flush=True)
        except KeyboardInterrupt:
            print(" ...", end="")
        print(flush=True)
        seconds = time.perf_counter() - started
        self.speeds.append(
            f"{speaker.name}: first text after {1000 * ((first or started) - started):.0f} ms, {speaker.num_said} tokens "
            f"in {seconds:.2f} s, {speaker.num_said / seconds:.0f} tokens/s"
        )

    def run(self) -> int:
        """Read messages from standard input, one a line, until its end or `/exit`.

        Returns:
            The exit status: 2 if input that was piped had a mistake in it.
        """
        interactive = sys.stdin.isatty()
        mistakes = 0
        if interactive:
            with contextlib.suppress(ImportError):  # not on every system
                import readline  # noqa: F401  # arrow keys and a history at the prompt
            does = "Type the beginning of a text." if self.complete else "Talk to the model."
            print(f"{does} /help lists the commands, /exit leaves, Ctrl-C stops an answer.")
            if self.sessions and (questions := self.speakers[0].questions):
                print(printable(invitation(questions)))
        prompt = ("\ntext> " if self.complete else "\nyou> ") if interactive else ""
        while True:
            try:
                message = input(prompt)
            except EOFError:
                return 2 if mistakes else 0
            except KeyboardInterrupt:
                print("\n(/exit leaves)")
                continue
            try:
                command = COMMAND.match(message)
                if command is None:
                    if message.strip():
                        self.answer(message if self.complete else message.strip(), interactive)
                elif command[0] == "/exit":
                    return 2 if mistakes else 0
                elif command[0] in self.commands:
                    self.commands[command[0]](message[command.end() :].strip())
                else:
                    raise UserError(
                        "unknown_command", f"no command {command[0]}: /help lists them", command=command[0]
                    )
            except UserError as error:
                mistakes += not interactive
                print(f"error: {error}", file=sys.stderr, flush=True)


def _named(file: str, example: str) -> str:
    if not file:
        raise UserError("file_name_missing", f"name a file: {example}")
    return file


def run_chat(
    folder: str,
    *,
    complete: bool = False,
    system: str | None = None,
    seed: int | None = None,
    **settings: Any,
) -> int:
    """Talk to the model in `folder`; the exit status.

    Raises:
        UserError: no model in the folder, a base model without `complete`, a setting out of its range.
    """
    from transformers import set_seed

    speaker = StreamingModel.load(folder)
    terminal = Terminal(speaker, complete, system, **settings)
    if seed is not None:
        set_seed(seed)
    return terminal.run()
