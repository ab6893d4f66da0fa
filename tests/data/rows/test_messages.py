# SPDX-License-Identifier: Apache-2.0
"""Conversations as data sets write them: names of roles, parts, tool calls, thinking."""

import json

import pytest

from scratch_gpt.data.rows.conversations import instruction_rows
from scratch_gpt.data.rows.messages import read_messages, read_tools
from scratch_gpt.data.sources.bad_rows import BadRow, UnusedRow


def chat(*roles):
    return [{"from": role, "value": f"text {number}"} for number, role in enumerate(roles)]


@pytest.mark.parametrize(
    "answering",
    [
        "gpt-4o",
        "gpt-3.5-turbo",
        "Claude-3-Opus",
        "gemini",
        "gpt",
        "chatgpt",
        "bing",
        "bard",
        "model",
        "assistant",
        "Assistant",
        "GPT",
        "bot",
        "AI",
    ],
)
@pytest.mark.parametrize("asking", ["human", "user", "User", "Human"])
def test_names_of_roles(asking, answering):
    """ShareGPT's and others', in any case."""
    roles = [message["role"] for message in read_messages(chat("Developer", asking, answering), "c")]
    assert roles == ["system", "user", "assistant"]


def test_a_conversation_of_an_empty_system_message_is_left_out():
    """Other empty ones are reported as such; without that message nothing is left."""
    with pytest.raises(UnusedRow, match="'c'"):
        read_messages([{"role": "system", "content": ""}], "c")


@pytest.mark.parametrize("name", ["tool", "function", "observation", "ipython"])
def test_names_of_tools(name):
    """A tool's result may be empty."""
    written = [*chat("human", "gpt"), {"from": name, "value": ""}]
    assert read_messages(written, "c")[-1] == {"role": "tool", "content": ""}


def test_results_may_be_objects():
    """They are JSON, as OpenAI asks for them, never the text of a Python object."""
    for result, text in (
        ({"use": True}, '{"use": true}'),
        ([{"a": 1}, {"a": 2}], '[{"a": 1}, {"a": 2}]'),
        (5, "5"),
    ):
        assert read_messages([{"role": "tool", "content": result}], "m") == [
            {"role": "tool", "content": text}
        ]
    parts = [{"type": "text", "text": "R"}]
    assert read_messages([{"role": "tool", "content": parts}], "m")[0]["content"] == "R"


def test_a_source_names_its_own_roles(read):
    """What no list can know is said in `roles`, also against what is usual."""
    rows = [{"conversations": chat("narrator", "Merlin", "gpt", "Merlin")}]
    roles = {"narrator": "system", "Merlin": "assistant", "gpt": "user"}
    (row,) = read(instruction_rows, rows, roles=roles)
    assert [message["role"] for message in row["messages"]] == ["system", "assistant", "user", "assistant"]


def test_parts_of_text_are_joined():
    """Of the chat and the responses interface, and what Arrow fills in beside them."""
    parts = [{"type": "text", "text": "a\n", "image": None}, {"type": "input_text", "text": " b"}, "c"]
    assert read_messages([{"role": "user", "content": parts}], "m")[0]["content"] == "a\n bc"
    assert read_messages([{"role": "user", "content": parts[0]}], "m")[0]["content"] == "a\n"
    parts = [{"type": "thinking", "thinking": "so"}, {"type": "text", "text": "A"}]
    (message,) = read_messages([{"role": "assistant", "content": parts}], "m")
    assert (message["content"], message["reasoning_content"]) == ("A", "so")


CALL = {"type": "function", "function": {"name": "look", "arguments": '{"what": "é", "n": 2}'}}


@pytest.mark.parametrize(
    "written",
    [
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c0", **CALL}]},
        {
            "role": "assistant",
            "tool_calls": [{"name": "look", "arguments": {"what": "é", "n": 2, "else": None}}],
        },
        {"role": "assistant", "content": "", "function_call": {**CALL["function"], "id": None}},
        {"role": "assistant", "tool_calls": json.dumps([CALL])},
        {"from": "function_call", "value": '{"name": "look", "arguments": {"what": "é", "n": 2}}'},
    ],
)
def test_tool_calls_become_one(written):
    """OpenAI's with arguments in a string, transformers' as an object, the older function_call, LLaMA-Factory's role."""
    assert read_messages([written], "m") == [{"role": "assistant", "content": "", "tool_calls": [CALL]}]


def test_parts_of_tools_become_messages():
    """Anthropic's calls and results: a result is a message before what the user says beside it."""
    used = {"type": "tool_use", "id": "t", "name": "look", "input": {"what": "é", "n": 2, "else": None}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "R"}]}
    written = [
        {"role": "user", "content": "Q"},
        {"role": "assistant", "content": [{"type": "text", "text": "I look."}, used]},
        {"role": "user", "content": [result, {"type": "text", "text": "and?"}]},
    ]
    assert read_messages(written, "m") == [
        {"role": "user", "content": "Q"},
        {"role": "assistant", "content": "I look.", "tool_calls": [CALL]},
        {"role": "tool", "content": "R"},
        {"role": "user", "content": "and?"},
    ]


@pytest.mark.parametrize("key", ["weight", "train", "loss"])
def test_answers_that_are_not_learned(read, key):
    """OpenAI's, axolotl's and ms-swift's; of a conversation without a learned answer nothing is used."""
    wrong, right = ({"role": "assistant", "content": "A", key: value} for value in (0, 1))
    question = {"role": "user", "content": "Q", key: 0}
    plain = {"role": "assistant", "content": "A"}
    (row,) = read(instruction_rows, [{"messages": [question, wrong, question, right]}])
    assert row["messages"][1::2] == [{**plain, "weight": 0}, plain]
    (row,) = read(instruction_rows, [{"messages": [question, right, question, wrong]}])
    assert row["messages"][1:] == [plain]  # nothing follows that would need the last one
    assert (
        len(read(instruction_rows, [{"messages": [question, wrong]}, {"messages": [question, right]}])) == 1
    )
    assert key == "weight" or read.bad_rows.count("s") == 0
    assert "weight" in read.bad_rows.report()[0]
    with pytest.raises(BadRow, match=r"0\.5"):
        read_messages([{**plain, "weight": 0.5}], "m")


@pytest.mark.parametrize("column", ["thinking", "reasoning", "reasoning_content"])
def test_thinking_may_be_a_column(read, column):
    """It is what was thought before the answer, unless the message says that itself."""
    rows = [
        {"prompt": "Q", "completion": "A", column: "so"},
        {
            "messages": [
                {"role": "user", "content": "Q"},
                {"role": "assistant", "content": "A", "thinking": "so"},
            ]
        },
        {"question": "Q", "answer": "A", column: "so"},
    ]
    rows[1][column] = "otherwise"
    for row in read(instruction_rows, rows):
        assert row["messages"][-1] == {"role": "assistant", "content": "A", "reasoning_content": "so"}
    wrong = {"role": "assistant", "content": "B", "weight": 0}
    chat = [*rows[1]["messages"][:1], {"role": "assistant", "content": "A"}, rows[1]["messages"][0], wrong]
    (row,) = read(instruction_rows, [{"messages": chat, column: "of the answer that is not learned"}])
    assert row["messages"][1:] == [{"role": "assistant", "content": "A"}]
    (row,) = read(instruction_rows, [{"prompt": "Q", "completion": "A", column: " "}])
    assert row["messages"][-1] == {"role": "assistant", "content": "A"}


def test_answers_that_are_calls(read):
    """xLAM's rows: question, calls and definitions, the last two JSON in strings."""
    function = {"name": "look", "parameters": {"what": {"type": "str"}}}
    row = {
        "query": "Q",
        "answers": json.dumps([{"name": "look", "arguments": {"what": "é", "n": 2}}]),
        "tools": json.dumps([function]),
    }
    (found,) = read(instruction_rows, [row])
    assert found["messages"][-1] == {"role": "assistant", "content": "", "tool_calls": [CALL]}
    assert json.loads(found["tools"])[0]["function"] == function


def test_definitions_of_tools_become_one():
    """A list or JSON of one, with or without OpenAI's wrapping, without the nulls that Arrow fills in."""
    function = {"name": "look", "parameters": {"properties": {"what": {"type": "string"}}}}
    expected = json.dumps([{"type": "function", "function": function}])
    filled = {"name": "look", "parameters": {"properties": {"what": {"type": "string"}, "other": None}}}
    for written in ([function], json.dumps([function]), [{"type": "function", "function": filled}], function):
        assert read_tools(written, "t") == expected
    anthropic = {"name": "look", "input_schema": function["parameters"]}
    assert json.loads(read_tools([anthropic], "t") or "")[0]["function"] == function
    assert [read_tools(written, "t") for written in (None, [], "", "[]")] == [None] * 4
    with pytest.raises(BadRow, match="'t'"):
        read_tools([{"description": "nameless"}], "t")


@pytest.mark.parametrize("key", ["reasoning_content", "thinking", "reasoning"])
def test_thinking_has_one_name(key):
    """The names of Qwen, gpt-oss and DeepSeek's servers; what was thought without an answer is nothing to learn."""
    message = {"role": "assistant", "content": "A", key: " so\n"}
    assert read_messages([message], "m") == [
        {"role": "assistant", "content": "A", "reasoning_content": " so\n"}
    ]
    with pytest.raises(UnusedRow):
        read_messages([{**message, "content": ""}], "m")


def test_what_messages_have_besides_makes_no_other_layout_of_them():
    """A number of replies, and what Arrow fills in of the messages of other rows."""
    written = {"role": "user", "content": "Q", "replies": 3, "input": None, "output": None}
    assert read_messages([written], "m") == [{"role": "user", "content": "Q"}]


def test_conversations_may_be_json():
    """A list, or a single message, in a string."""
    messages = [{"role": "user", "content": "[1]"}]
    assert read_messages(json.dumps(messages), "m") == messages
    assert read_messages(messages[0], "m") == messages


def test_conversations_may_be_an_object_of_lists():
    """What `datasets` makes of a Sequence of objects."""
    read = read_messages({"role": ["user", "assistant"], "content": ["Q", "A"]}, "m")
    assert read == [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]


def test_a_row_with_tools_keeps_them(read):
    """The definitions travel with the conversation, and a call without an answer after its result ends it."""
    messages = [
        {"role": "user", "content": "Q"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "R"},
    ]
    (row,) = read(instruction_rows, [{"messages": messages, "tools": [{"name": "look"}]}])
    assert row["tools"] == '[{"type": "function", "function": {"name": "look"}}]'
    assert row["messages"][-1]["tool_calls"] == [CALL]


def roles_of(*names):
    return [message["role"] for message in read_messages(chat(*names), "c")]


def test_hyphens_part_no_names_of_roles():
    """A call, its result, and models of known families; a name of two roles is asked about, not guessed."""
    written = [*chat("human"), {"from": "function-call", "value": '{"name": "f", "arguments": \'{"a": 1}\'}'}]
    written += [{"from": "function-response", "value": "2"}, {"from": "claude-opus", "value": "It is 2."}]
    messages = read_messages(written, "c")
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "assistant"]
    assert messages[1]["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a": 1}'}
    assert roles_of("user_1", "gpt-4o") == roles_of("human-2", "llama 3") == ["user", "assistant"]
    for name in ("gpt-user", "ai-user"):
        with pytest.raises(BadRow, match=name):
            roles_of("human", name)


@pytest.mark.parametrize("key", ["arguments", "parameters", "args", "input"])
def test_arguments_by_any_name(key):
    written = [*chat("human"), {"role": "assistant", "tool_calls": [{"name": "f", key: {"x": 1}}]}]
    assert read_messages(written, "c")[1]["tool_calls"][0]["function"]["arguments"] == '{"x": 1}'


def test_nothing_said_is_dropped():
    """Two thoughts of one message, a result that is a list of texts, words behind a call."""
    thoughts = [{"type": "thinking", "thinking": text} for text in ("first", "second")]
    parts = [thoughts[0], {"type": "text", "text": "Look: "}, thoughts[1], {"type": "text", "text": "2."}]
    messages = read_messages([*chat("human"), {"role": "assistant", "content": parts}], "c")
    assert messages[1]["content"] == "Look: 2." and messages[1]["reasoning_content"] == "first\n\nsecond"
    result = [*chat("human", "gpt"), {"role": "tool", "content": ["Paris", "London"]}]
    assert json.loads(read_messages(result, "c")[2]["content"]) == ["Paris", "London"]
    called = {"from": "gpt", "value": '<functioncall> {"name": "f", "arguments": {}} One moment.'}
    with pytest.raises(BadRow, match="One moment"):
        read_messages([*chat("human"), called], "c")
    blank = {"role": "assistant", "content": "a", "reasoning_content": " \n"}
    assert "reasoning_content" not in read_messages([*chat("human"), blank], "c")[1]


def test_calls_and_results_of_gemini():
    """Parts of a message, and definitions in lists of their own."""
    call = {"functionCall": {"name": "look", "args": {"what": "é", "n": 2}}}
    chat = [
        {"role": "model", "parts": [{"text": "So: "}, call]},
        {"role": "user", "parts": [{"functionResponse": {"name": "look", "response": {"found": 5}}}]},
    ]
    assert read_messages(chat, "m") == [
        {"role": "assistant", "content": "So: ", "tool_calls": [CALL]},
        {"role": "tool", "content": '{"found": 5}'},
    ]
    assert json.loads(read_tools([{"functionDeclarations": [{"name": "look"}, {"name": "find"}]}], "t")) == [
        {"type": "function", "function": {"name": name}} for name in ("look", "find")
    ]
