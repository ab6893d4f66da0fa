# SPDX-License-Identifier: Apache-2.0
"""OpenAI's Harmony: channels become thinking and answers, recipients become calls of tools and their results."""

import json

from scratch_gpt.data.rows.conversations import instruction_rows


def test_a_conversation_with_thinking_and_a_call(read):
    """The text of OpenAI's cookbook, in short; calls name their function before the channel or after it."""
    text = (
        "<|start|>system<|message|>S<|end|><|start|>developer<|message|># Instructions\n\nBe kind.<|end|>"
        "<|start|>user<|message|>Q<|end|>"
        "<|start|>assistant<|channel|>analysis<|message|>I look.<|end|>"
        "<|start|>assistant<|channel|>commentary to=functions.look <|constrain|>json<|message|>"
        '{"what": "é"}<|call|>'
        "<|start|>functions.look to=assistant<|channel|>commentary<|message|>5<|end|>"
        "<|start|>assistant to=functions.find<|channel|>commentary json<|message|>{}<|call|>"
        "<|start|>functions.find to=assistant<|channel|>commentary<|message|>6<|end|>"
        "<|start|>assistant<|channel|>final<|message|>  A\n\nb<|return|>"
    )
    (row,) = read(instruction_rows, [{"text": text}])
    calls = [
        {
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)},
        }
        for name, arguments in (("look", {"what": "é"}), ("find", {}))
    ]
    assert row["messages"] == [
        {"role": "system", "content": "S"},
        {"role": "system", "content": "# Instructions\n\nBe kind."},
        {"role": "user", "content": "Q"},
        {"role": "assistant", "content": "", "reasoning_content": "I look.", "tool_calls": [calls[0]]},
        {"role": "tool", "content": "5"},
        {"role": "assistant", "content": "", "tool_calls": [calls[1]]},
        {"role": "tool", "content": "6"},
        {"role": "assistant", "content": "  A\n\nb"},
    ]


def test_a_prompt_up_to_the_answer(read):
    """It ends where the assistant begins."""
    prompt = "<|start|>user<|message|>Q<|end|><|start|>assistant"
    (row,) = read(instruction_rows, [{"prompt": prompt, "completion": "A"}])
    assert [message["content"] for message in row["messages"]] == ["Q", "A"]
