# SPDX-License-Identifier: Apache-2.0
"""Record questions to a chat model as a picture of the terminal: what was asked, what it answered.

python docs/record_chat.py runs/demo/aligned docs/images/chat.svg
"""

import io
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text


QUESTIONS = (
    "Hello!",
    "What is the capital of France?",
    "Read: Nina has a white chair. Anna has a red hat. What does Anna have?",
    "Translate into German: I see a strong king",
    "What is 14 - 5?",
    "Tell me a joke.",
    "Tell me a story about a dog.",
)
COLUMNS = 84
GREEDY = ("--temperature", "0")  # the same picture each time


def answer_of(model: str, question: str) -> str:
    """What `scratch-gpt chat` prints when it is given the question over a pipe: a conversation of its own."""
    command = [sys.executable, "-m", "scratch_gpt", "chat", model, *GREEDY]
    return subprocess.run(command, input=question, capture_output=True, text=True, check=True).stdout.strip()


def main(model: str, picture: str) -> None:
    """Ask all questions, draw the conversation."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text(f"$ scratch-gpt chat {model} {' '.join(GREEDY)}", style="bold"))
    for question in QUESTIONS:
        console.print(Text("\n> ", style="bold cyan") + Text(question, style="bold"))
        console.print(Text(answer_of(model, question)))
    Path(picture).write_text(console.export_svg(title="scratch-gpt"), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
