# SPDX-License-Identifier: Apache-2.0
"""Conversations as one text: every style of marks gives the same turns; prose gives none."""

import json

import pytest

from scratch_gpt.data.rows.conversations import instruction_rows
from scratch_gpt.data.rows.transcripts import read_function_call, read_transcript


SYSTEM, QUESTION = {"role": "system", "content": "S"}, {"role": "user", "content": "Q\n\nmore"}
ANSWER, AGAIN = {"role": "assistant", "content": "A: b\n  c"}, {"role": "user", "content": "R"}
TURNS = [QUESTION, ANSWER, AGAIN, {"role": "assistant", "content": "B"}]
STYLES = {
    "chatml": (
        "<|im_start|>{0}\n{1}<|im_end|>\n",
        {"system": "system", "user": "user", "assistant": "assistant"},
    ),
    "llama3": (
        "<|start_header_id|>{0}<|end_header_id|>\n\n{1}<|eot_id|>",
        {"system": "system", "user": "user", "assistant": "assistant"},
    ),
    "gemma": ("<start_of_turn>{0}\n{1}<end_of_turn>\n", {"user": "user", "assistant": "model"}),
    "zephyr": ("<|{0}|>\n{1}</s>\n", {"system": "system", "user": "user", "assistant": "assistant"}),
    "openassistant": ("<|{0}|>{1}<|endoftext|>", {"user": "prompter", "assistant": "assistant"}),
    "deepseek": (
        "<\uff5c{0}\uff5c>{1}<\uff5cend\u2581of\u2581sentence\uff5c>",
        {"user": "User", "assistant": "Assistant"},
    ),
    "baize": ("\n[|{0}|] {1}", {"user": "Human", "assistant": "AI"}),
    "guanaco": ("### {0}: {1}", {"user": "Human", "assistant": "Assistant"}),
    "alpaca": ("### {0}:\n{1}\n\n", {"user": "Instruction", "assistant": "Response"}),
    "hh": ("\n\n{0}: {1}", {"user": "Human", "assistant": "Assistant"}),
    "glaive": (
        "{0}: {1} <|endoftext|>\n\n\n",
        {"system": "SYSTEM", "user": "USER", "assistant": "ASSISTANT"},
    ),
    "vicuna": (" {0}: {1}", {"user": "USER", "assistant": "ASSISTANT"}),
}


@pytest.mark.parametrize("style", STYLES)
def test_turns_of_every_style(style):
    """The texts come back as they are, and so does a system message where the style has one."""
    form, names = STYLES[style]
    turns = [SYSTEM, *TURNS] if "system" in names else TURNS
    text = "".join(form.format(names[turn["role"]], turn["content"]) for turn in turns)
    assert read_transcript(text) == turns


def test_llama_2_writes_the_system_message_into_the_question():
    """What stands before the marks of it is empty."""
    text = "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\nQ\n\nmore [/INST] A: b\n  c </s><s>[INST] R [/INST] B </s>"
    assert read_transcript(text) == [SYSTEM, *TURNS]


def test_text_before_the_first_turn(read):
    """It is a system message in a column of conversations; Alpaca's input belongs to its instruction."""
    text = "Below is an instruction.\n\n### Instruction:\nQ\n\n### Input:\nmore\n\n### Response:\nA: b\n  c"
    assert read_transcript(text) is None
    expected = [{"role": "system", "content": "Below is an instruction."}, QUESTION, ANSWER]
    assert read_transcript(text, preamble=True) == expected
    assert read(instruction_rows, [{"text": text}])[0]["messages"] == expected


@pytest.mark.parametrize(
    ("beginning", "style"), [("<bos>", "gemma"), ("<|begin_of_text|>", "llama3"), ("<s>", "zephyr")]
)
def test_the_beginning_of_a_text_is_no_turn(beginning, style):
    """The token that chat templates write before all turns."""
    turn, names = STYLES[style]
    text = beginning + turn.format(names["user"], "Q\n\nmore") + turn.format(names["assistant"], "A: b\n  c")
    assert read_transcript(text, preamble=True) == [QUESTION, ANSWER]


@pytest.mark.parametrize(
    "text",
    [
        "A story.",
        "USER: only a question",
        "Note: Human: is a word.",
        "# Heading\n\n## Question: why?\n\nBecause.",
        "ASSISTANT: nobody asked",
    ],
)
def test_prose_is_no_conversation(text):
    """There must be an answer and something that it answers."""
    assert read_transcript(text, preamble=True) is None


def test_calls_of_glaive(read):
    """JSON with single quotes around the arguments; the function's response is a tool's result."""
    call = """<functioncall> {"name": "look", "arguments": '{"what": "it\\'s"}'}"""
    assert read_function_call(f"I look. {call}") == (
        "I look.",
        {"name": "look", "arguments": {"what": "it's"}},
    )
    assert read_function_call("plain") is None
    chat = f"USER: Q\n\n\nASSISTANT: {call} <|endoftext|>\n\n\nFUNCTION RESPONSE: 5\n\n\nASSISTANT: Five. <|endoftext|>"
    (row,) = read(instruction_rows, [{"system": "SYSTEM: S", "chat": chat}])
    system, question, asked, result, answer = row["messages"]
    assert (system, question["content"], result) == (SYSTEM, "Q", {"role": "tool", "content": "5"})
    assert json.loads(asked["tool_calls"][0]["function"]["arguments"]) == {"what": "it's"}
    assert answer == {"role": "assistant", "content": "Five."}


def test_calls_of_hermes(read):
    """JSON or Python's text of it, several at a time; results lose the marks that chat templates write anew."""
    calls = """So:\n<tool_call>\n{'name': 'look', 'arguments': {'what': "it's"}}\n</tool_call>
<tool_call>\n{"arguments": {}, "name": "find"}\n</tool_call>\n"""
    said = [
        ("human", "Q"),
        ("gpt", calls),
        ("tool", "<tool_response>\n{}\n</tool_response>"),
        ("gpt", "The mark <tool_call>x</tool_call> is text here."),
    ]
    (row,) = read(
        instruction_rows, [{"conversations": [{"from": name, "value": text} for name, text in said]}]
    )
    _, asked, result, answer = row["messages"]
    functions = [call["function"] for call in asked["tool_calls"]]
    assert (asked["content"], [function["name"] for function in functions]) == ("So:", ["look", "find"])
    assert [json.loads(function["arguments"]) for function in functions] == [{"what": "it's"}, {}]
    assert (result["content"], answer["content"]) == ("{}", said[3][1])


@pytest.mark.parametrize(
    "text",
    [
        "<|user|>\nq</s>\n<|assistant|>\n    return 1\nx</s>",
        "<s>[INST] q [/INST]\n    return 1\nx</s>",
        "<|start_header_id|>user<|end_header_id|>\n\nq<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n    return 1\nx<|eot_id|>",
    ],
)
def test_answers_keep_their_indentation(text):
    assert read_transcript(text) == [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "    return 1\nx"},
    ]


def test_mistrals_system_prompt():
    text = "<s>[SYSTEM_PROMPT]Be kind.[/SYSTEM_PROMPT][INST]q[/INST]a</s>"
    assert [turn["content"] for turn in read_transcript(text, preamble=True)] == ["Be kind.", "q", "a"]


def test_headings_in_an_answer_are_no_turns():
    """Other names for a speaker than the ones that the conversation began with; the user's input is no answer."""
    text = "### Instruction:\nq\n\n### Response:\nUse\n\n### Input:\nx\n\n### Output:\ny\n\n### Instruction:\nr\n\n### Input:\nz"
    assert [(turn["role"], turn["content"]) for turn in read_transcript(text)] == [
        ("user", "q"),
        ("assistant", "Use\n\n### Input:\nx\n\n### Output:\ny"),
        ("user", "r\n\nz"),
    ]
    flan = "### Input:\nq\n### Output:\na\n### Input:\nr\n### Output:\nb"
    assert [turn["content"] for turn in read_transcript(flan)] == ["q", "a", "r", "b"]
