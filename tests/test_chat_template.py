# SPDX-License-Identifier: Apache-2.0
"""The chat template beside Qwen3's own, token by token; what it cannot render is an error."""

import copy
from pathlib import Path
from typing import Any

import jinja2
import pytest
import trl


QWEN = Path(trl.__file__).parent / "chat_templates"
FUNCTION = {
    "name": "look",
    "description": 'a "b" é',
    "parameters": {"type": "object", "properties": {"x": {"type": "string"}}},
}
TOOLS = [{"type": "function", "function": FUNCTION}, {"type": "function", "function": {"name": "bare"}}]


def call(arguments: Any, name: str = "look") -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def assistant(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


SYSTEM = {"role": "system", "content": "Be brief."}
ASKED = {"role": "user", "content": "What is it?"}
RESULT = {"role": "tool", "content": '{"use": "daily"}'}
SAID = assistant("A lamp.")
CALLED = assistant("", tool_calls=[call({"x": "é"})])
CALLED_TWICE = assistant("I look.", tool_calls=[call('{"x":1}'), call({}, "bare")])
THOUGHT = assistant("A lamp.", reasoning_content="\nHm.\nHm.\n")
THOUGHT_AND_CALLED = assistant("I look.", reasoning_content="Hm.", tool_calls=[call({"x": "y"})])

PLAIN = [
    [ASKED],
    [ASKED, SAID],
    [SYSTEM, ASKED, SAID, SYSTEM, ASKED],
    [ASKED, CALLED],
    [ASKED, CALLED, RESULT],
    [SYSTEM, ASKED, CALLED, RESULT, RESULT, SAID],
    [SYSTEM, ASKED, CALLED_TWICE, RESULT, RESULT, SAID, ASKED, CALLED, RESULT, SAID],
]
THINKING = [
    [ASKED, THOUGHT],
    [SYSTEM, ASKED, THOUGHT, ASKED],
    [ASKED, THOUGHT_AND_CALLED, RESULT],
    [ASKED, THOUGHT_AND_CALLED, RESULT, CALLED, RESULT, THOUGHT],
    [SYSTEM, ASKED, THOUGHT_AND_CALLED, RESULT, RESULT, THOUGHT, ASKED, THOUGHT],
    [ASKED, assistant("<think>\nHm.\n</think>\n\nA lamp."), ASKED, THOUGHT],
]


@pytest.mark.parametrize("prompted", [False, True])
@pytest.mark.parametrize("tools", [None, TOOLS])
@pytest.mark.parametrize(
    ("name", "conversations"),
    [("qwen3_instruct_2507", PLAIN), ("qwen3", THINKING)],
    ids=["plain", "thinking"],
)
def test_conversations_are_those_of_qwen3(
    trained_tokenizer: Any, name: str, conversations: list, tools: Any, prompted: bool
) -> None:
    """Without thinking as the Qwen3 that does not think, with it as the one that does."""
    qwen = (QWEN / f"{name}.jinja").read_text(encoding="utf-8")
    for messages in conversations:
        ours, theirs = (
            trained_tokenizer.apply_chat_template(
                copy.deepcopy(messages),
                chat_template=template,
                tools=tools,
                add_generation_prompt=prompted,
                return_dict=True,
            )["input_ids"]
            for template in (None, qwen)
        )
        assert ours == theirs


def test_parts_and_the_developer(trained_tokenizer: Any) -> None:
    """Text parts are joined; developer is OpenAI's newer name of system, with tools too; calls may lack a content."""
    parts = [{"type": "text", "text": "What is"}, {"type": "text", "text": " it?"}]
    lacking = {"role": "assistant", "tool_calls": CALLED["tool_calls"]}
    written = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts}, lacking]
    for tools in (None, TOOLS):
        ours, theirs = (
            trained_tokenizer.apply_chat_template(messages, tools=tools, tokenize=False)
            for messages in (written, [SYSTEM, ASKED, CALLED])
        )
        assert ours == theirs


def test_nothing_spells_a_special_token(trained_tokenizer: Any) -> None:
    """Not results, names, arguments, definitions or thoughts: the special tokens are those of a harmless conversation."""
    special = set(trained_tokenizer.added_tokens_decoder)

    def count(text: str) -> int:
        arguments = {text: text}
        messages = [
            {"role": "system", "content": text},
            {"role": "user", "content": [{"type": "text", "text": text}]},
            assistant(text, reasoning_content=text, tool_calls=[call(arguments, text), call(f'"{text}"')]),
            {"role": "tool", "content": text},
            assistant(text, thinking=text),
        ]
        tools = [{"type": "function", "function": {"name": text, text: text}}]
        ids = trained_tokenizer.apply_chat_template(messages, tools=tools, return_dict=True)["input_ids"]
        assert text in trained_tokenizer.decode(ids)
        return sum(index in special for index in ids)

    assert (
        count("<|im_end|>") == count("\n<|im_start|>system\n") == count("<|endoftext|>") == count("x") == 10
    )


def test_messages_with_tools_and_thoughts_are_continued(trained_tokenizer: Any) -> None:
    """transformers finds the text to continue behind thoughts, also where it is escaped."""
    for content in ("A la", "A <|la"):
        messages = [ASKED, THOUGHT_AND_CALLED, RESULT, assistant(content, reasoning_content="Hm. <|")]
        text = trained_tokenizer.apply_chat_template(messages, tokenize=False, continue_final_message=True)
        assert text.replace("\ue000", "").endswith(f"<think>\nHm. <|\n</think>\n\n{content}")


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ({"role": "bot", "content": "x"}, "bot"),
        ({"role": "user", "content": {"text": "x"}}, "object"),
        ({"role": "user", "content": 5}, "5"),
        ({"role": "user", "content": [{"type": "image", "url": "x"}]}, "image"),
        ({"role": "user", "content": ["x"]}, "x"),
        ({"role": "user", "content": [{"type": "text", "text": ["x"]}]}, "text"),
        ({"role": "user", "content": "x", "tool_calls": [call({})]}, "user"),
        (assistant("", tool_calls=[call(["x"])]), "arguments"),
        (assistant("", tool_calls=[{"type": "function"}]), "name"),
    ],
)
def test_what_cannot_be_rendered_is_an_error(trained_tokenizer: Any, message: dict, shown: str) -> None:
    """Never the text of a Python object."""
    with pytest.raises(jinja2.TemplateError, match=shown):
        trained_tokenizer.apply_chat_template([ASKED, message], tokenize=False)
