# SPDX-License-Identifier: Apache-2.0
"""Training rows as they are shown before a stage: what is learned is marked, in any terminal."""

from typing import Any

import pytest

from scratch_gpt.inference.chat_format import encode_conversation
from scratch_gpt.inference.preview import rendered, show_rows
from scratch_gpt.inference.turns import add_chat_template


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


@pytest.fixture
def tokenizer(tiny_tokenizer: Any) -> Any:
    add_chat_template(tiny_tokenizer)
    return tiny_tokenizer


def test_answers_and_ends_of_turns_are_marked(tokenizer: Any) -> None:
    """Of a conversation each answer, its line breaks as text; without `assistant_only` all of the row."""
    turns = [user("Hi?"), assistant("One\ntwo."), user("So?"), assistant("No.")]
    row = encode_conversation(tokenizer, {"messages": turns, "place": "f:1"})
    (line,) = rendered(tokenizer, row)
    parts = [part.partition("]]")[0] for part in line.split("[[")[1:]]
    assert [part.removesuffix("\\n") for part in parts] == ["One\\ntwo.<|im_end|>", "No.<|im_end|>"]
    assert line.startswith("f:1: ") and line.count("Hi?") == 1 and "\n" not in line
    colored = encode_conversation(
        tokenizer, {"messages": [*turns[:3], assistant("\x1b[31mNo.")], "place": "f:1"}
    )
    assert "[[\\x1b[31mNo.<|im_end|>" in next(rendered(tokenizer, colored))
    everything = encode_conversation(tokenizer, {"messages": turns, "place": "f:1"}, assistant_only=False)
    assert next(rendered(tokenizer, everything)).startswith("f:1: [[<|im_start|>user")


def test_judged_answers_are_shown_with_their_judgement(tokenizer: Any) -> None:
    """Both sides of a pair behind the same question; a single answer as liked or not."""
    pair = {
        "prompt": [user("Hi?")],
        "chosen": [assistant("Yes.")],
        "rejected": [assistant("Go.")],
        "place": "f:2",
    }
    chosen, rejected = rendered(tokenizer, pair)
    assert chosen.startswith("f:2 chosen: ") and "[[Yes.<|im_end|>" in chosen
    assert rejected.startswith("f:2 rejected: ") and "[[Go.<|im_end|>" in rejected
    assert chosen.partition("[[")[0].endswith("<|im_start|>assistant\\n")
    single = {"prompt": [user("Hi?")], "completion": [assistant("Go.")], "label": False, "place": "f:3"}
    assert next(rendered(tokenizer, single)).startswith("f:3 disliked: ")


def test_three_rows_are_shown_and_long_ones_are_shortened(
    tokenizer: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first, the middle and the last; of one row one."""
    rows = [
        encode_conversation(
            tokenizer, {"messages": [user("a " * 300), assistant("Yes.")], "place": f"f:{number}"}
        )
        for number in range(9)
    ]
    show_rows(tokenizer, rows)
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.split()[0] for line in lines] == ["f:0:", "f:4:", "f:8:"]
    assert all(len(line) < 300 and " ... " in line for line in lines)
    show_rows(tokenizer, rows[:1])
    assert len(capsys.readouterr().out.splitlines()) == 2
