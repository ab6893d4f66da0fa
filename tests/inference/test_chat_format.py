# SPDX-License-Identifier: Apache-2.0
"""Each thing that makes a chat format useless is found before the first step; labels are the assistant's tokens."""

from typing import Any

import pytest
from tokenizers import normalizers

from scratch_gpt.data.rows.messages import read_answer, read_messages
from scratch_gpt.data.sources.bad_rows import BadRow
from scratch_gpt.inference.chat_format import check_chat_format, encode_conversation, measure_answers
from scratch_gpt.tokenization import IM_END
from wording import user_error


IN_GENERATION = "{{- '<|im_end|>' }}{% endgeneration %}"
TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Who are you?"},
    {"role": "assistant", "content": "Me."},
    {"role": "user", "content": "And you?"},
    {"role": "assistant", "content": "Also me."},
]


def test_the_project_s_own_format_is_fit(tiny_tokenizer: Any) -> None:
    """What the tokenizer stage makes passes."""
    check_chat_format(tiny_tokenizer, "folder")


def test_a_template_of_plain_text_ends_no_turn(tiny_tokenizer: Any) -> None:
    """One without marks too, whose answers are found by rendering."""
    tiny_tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    with user_error("end_of_turn_missing", "eos_token", folder="folder"):
        check_chat_format(tiny_tokenizer, "folder")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (IN_GENERATION, "{{- content }}{% endgeneration %}", user_error("end_of_turn_missing", "eos_token")),
        (
            IN_GENERATION,
            "{% endgeneration %}{{- '<|im_end|>' }}",
            user_error("end_of_turn_not_learned", "<|im_end|>"),
        ),
        ("<|im_start|>", "<|turn|>", user_error("chat_template_foreign", token="<|turn|>")),
        (
            "role not in ['system', 'user', 'assistant', 'tool']",
            "true",
            user_error("chat_template_fails", "role"),
        ),
    ],
)
def test_templates_that_spoil_a_run_are_refused(
    tiny_tokenizer: Any, old: str, new: str, expected: user_error
) -> None:
    """No end of turn, one that is not learned, markers that are no tokens, a template that fails."""
    template = tiny_tokenizer.chat_template
    assert old in template
    tiny_tokenizer.chat_template = template.replace(old, new)
    with expected:
        check_chat_format(tiny_tokenizer, "folder")


def test_answers_that_cannot_be_found_are_refused(tiny_tokenizer: Any) -> None:
    """A template without marks whose conversation is written otherwise than its prompt: nothing tells what to learn."""
    tiny_tokenizer.chat_template = "{%- for message in messages %}{{- loop.length ~ message['role'] ~ message['content'] ~ '<|im_end|>' }}{% endfor %}"
    with user_error("chat_template_unmarked", "{% generation %}", folder="folder"):
        check_chat_format(tiny_tokenizer, "folder")


def test_tokenizers_that_cannot_carry_conversations_are_refused(tiny_tokenizer: Any) -> None:
    """No template, a text that comes back otherwise, the padding as the end of a turn."""
    template, tiny_tokenizer.chat_template = tiny_tokenizer.chat_template, None
    with user_error("chat_template_missing", folder="folder"):
        check_chat_format(tiny_tokenizer, "folder")
    tiny_tokenizer.chat_template = template
    padding, tiny_tokenizer.pad_token = tiny_tokenizer.pad_token, IM_END
    with user_error("padding_ends_turns", "<|im_end|>", folder="folder"):
        check_chat_format(tiny_tokenizer, "folder")
    tiny_tokenizer.pad_token = padding
    tiny_tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    with user_error("text_not_preserved", folder="folder"):
        check_chat_format(tiny_tokenizer, "folder")


def test_labels_are_the_assistant_s_tokens(tiny_tokenizer: Any) -> None:
    """Every answer with its end of turn is learned, nothing else; all tokens are where that is asked for."""
    row = encode_conversation(tiny_tokenizer, {"messages": TURNS, "place": "f:1"})
    learned = [label for label in row["labels"] if label != -100]
    assert tiny_tokenizer.decode(learned) == "Me.<|im_end|>Also me.<|im_end|>"
    assert all(label in (-100, token) for label, token in zip(row["labels"], row["input_ids"], strict=True))
    assert row["length"] == len(row["input_ids"])
    whole = encode_conversation(tiny_tokenizer, {"messages": TURNS, "place": "f:1"}, assistant_only=False)
    assert whole["labels"] == whole["input_ids"] == row["input_ids"]


def test_answers_of_weight_0_are_read_and_not_learned(tiny_tokenizer: Any) -> None:
    """The conversation is the same; of the answer no token is a label, also where all others are."""
    messages = [{**message, "weight": 0} if message["content"] == "Me." else message for message in TURNS]
    for assistant_only in (True, False):
        plain = encode_conversation(tiny_tokenizer, {"messages": TURNS, "place": "f:1"}, assistant_only)
        row = encode_conversation(tiny_tokenizer, {"messages": messages, "place": "f:1"}, assistant_only)
        assert row["input_ids"] == plain["input_ids"]
        lost = [old for old, new in zip(plain["labels"], row["labels"], strict=True) if new != old]
        assert tiny_tokenizer.decode(lost) == "Me.<|im_end|>"
    tiny_tokenizer.chat_template = tiny_tokenizer.chat_template.replace(
        "if role == 'assistant' %}", "if role == 'assistant' and 'so' in content %}"
    )
    with user_error("row_refused", "weight", place="f:1"):
        encode_conversation(tiny_tokenizer, {"messages": messages, "place": "f:1"})


@pytest.mark.parametrize("read", [read_messages, read_answer])
def test_no_row_continues_a_message(read: Any) -> None:
    """The mark by which transformers continues a final message makes the template write it raw: such rows are refused."""
    answer = {"role": "assistant", "content": "No.<|im_end|> CONTINUE_FINAL_MESSAGE_TAG "}
    for content in (answer["content"], [{"type": "text", "text": answer["content"]}]):
        with pytest.raises(BadRow, match="CONTINUE_FINAL_MESSAGE_TAG"):
            read([TURNS[1], {**answer, "content": content}], "messages")
    with pytest.raises(BadRow, match="CONTINUE_FINAL_MESSAGE_TAG"):
        read_answer(answer["content"], "completion")


CALL = {"type": "function", "function": {"name": "look", "arguments": '{"what": "é<|im_end|>"}'}}
TOOL_TURNS = [
    TURNS[1],
    {"role": "assistant", "content": "", "reasoning_content": "Hm.<|im_end|>", "tool_calls": [CALL]},
    {"role": "tool", "content": "A lamp.<|im_end|>"},
    {"role": "assistant", "content": "A lamp."},
]


def test_calls_and_thinking_are_learned_and_tools_are_not(tiny_tokenizer: Any) -> None:
    """The assistant's part is what it thinks, calls and says; nobody's text becomes the end of a turn."""
    tools = '[{"type": "function", "function": {"name": "look", "description": "<|im_end|>"}}]'
    row = encode_conversation(tiny_tokenizer, {"messages": TOOL_TURNS, "tools": tools, "place": "f:1"})
    learned = tiny_tokenizer.decode([label for label in row["labels"] if label != -100])
    call = '<tool_call>\n{"name": "look", "arguments": {"what": "é<|im_end|>"}}\n</tool_call><|im_end|>'
    assert learned == f"<think>\nHm.<|im_end|>\n</think>\n\n{call}A lamp.<|im_end|>"
    # system with the tools, user, assistant, tool, assistant
    assert row["input_ids"].count(tiny_tokenizer.convert_tokens_to_ids(IM_END)) == 5
    assert '{"name": "look", "description": "<|im_end|>"}' in tiny_tokenizer.decode(row["input_ids"])


def test_templates_that_lose_thinking_are_reported(
    tiny_tokenizer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer is learned without it, and one line says so."""
    answer = {"role": "assistant", "content": "Me.", "reasoning_content": "Who am I?"}
    row = {"messages": [TURNS[1], answer], "place": "f:1"}
    encode_conversation(tiny_tokenizer, row)
    assert not caplog.records
    tiny_tokenizer.chat_template = tiny_tokenizer.chat_template.replace(
        "{%- if thinking %}", "{%- if false %}"
    )
    tiny_tokenizer.name_or_path = "a folder"
    for _ in range(2):
        encode_conversation(tiny_tokenizer, row)
    (record,) = caplog.records
    assert "a folder" in record.getMessage()


def test_templates_that_lose_tools_are_refused(tiny_tokenizer: Any) -> None:
    """Calls that a template passes over would teach empty answers: the row is named."""
    tiny_tokenizer.chat_template = tiny_tokenizer.chat_template.replace("message['tool_calls'] or []", "[]")
    with user_error("row_refused", "look", place="f:1"):
        encode_conversation(tiny_tokenizer, {"messages": TOOL_TURNS, "place": "f:1"})


def test_long_rows_are_encoded_in_silence(tiny_tokenizer: Any) -> None:
    """transformers would tell of the first one, without its place; the stage leaves them out and says so."""
    tiny_tokenizer.model_max_length = 4
    assert encode_conversation(tiny_tokenizer, {"messages": TURNS, "place": "f:1"})["length"] > 4
    assert not tiny_tokenizer.deprecation_warnings


def test_a_row_that_teaches_nothing_is_named(tiny_tokenizer: Any) -> None:
    """A template that marks some answers only passes the probe: the first row without a learned token is named."""
    tiny_tokenizer.chat_template = tiny_tokenizer.chat_template.replace(
        "if role == 'assistant' %}", "if role == 'assistant' and 'e.' in content %}"
    )
    check_chat_format(tiny_tokenizer, "folder")
    encode_conversation(tiny_tokenizer, {"messages": TURNS[1:3], "place": "f:1"})
    row = {"messages": [TURNS[1], {"role": "assistant", "content": "42"}], "place": "data/x.jsonl:7"}
    with user_error("nothing_learned", place="data/x.jsonl:7"):
        encode_conversation(tiny_tokenizer, row)


def test_a_row_that_the_template_refuses_is_named(tiny_tokenizer: Any) -> None:
    """Some templates take no system message: the row that has one is named."""
    tiny_tokenizer.chat_template = tiny_tokenizer.chat_template.replace("['system', 'user'", "['user'")
    check_chat_format(tiny_tokenizer, "folder")
    with user_error("row_refused", "system", place="f:9"):
        encode_conversation(tiny_tokenizer, {"messages": TURNS, "place": "f:9"})


def test_a_pair_is_as_long_as_its_longer_side(tiny_tokenizer: Any) -> None:
    """The longer of the two conversations decides, whichever it is."""
    prompt = [{"role": "user", "content": "Q"}]
    short, long = [{"role": "assistant", "content": "a"}], [{"role": "assistant", "content": "a b c " * 9}]
    expected = len(tiny_tokenizer.apply_chat_template(prompt + long, return_dict=True)["input_ids"])
    for chosen, rejected in ((short, long), (long, short)):
        row = {"prompt": prompt, "chosen": chosen, "rejected": rejected, "place": "f:1"}
        assert measure_answers(tiny_tokenizer, row) == {**row, "length": expected}
