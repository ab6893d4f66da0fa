# SPDX-License-Identifier: Apache-2.0
"""The questions of reinforcement learning: what is known of their answers, and which leave room for one."""

import json
from pathlib import Path
from typing import Any

import pytest

from scratch_gpt import primer
from scratch_gpt.inference.prompts import Prompt, first_question, read_prompts
from scratch_gpt.training.rl.arguments import RLHFArguments
from wording import shows, user_error


@pytest.fixture
def arguments(tmp_path: Path) -> RLHFArguments:
    """The primer, and a file of 50 questions."""
    rows = [{"question": f"What is {n} plus one?", "answer": f"It is {n + 1}."} for n in range(50)]
    path = tmp_path / "sums.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    sources = [{"name": "primer", "path": "primer"}, {"name": "mine", "path": str(path)}]
    return RLHFArguments(
        model_name_or_path="c", reward_model="r", output_dir="o", held_out_fraction=0.2, sources=sources
    )


def test_prompts_leave_room_for_the_answer(
    arguments: RLHFArguments, tiny_model: Any, tiny_tokenizer: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every prompt that fits is there with its example; those without room are left out and counted."""
    answer = 80
    prompts = read_prompts(arguments, tiny_model, tiny_tokenizer, max_new_tokens=answer, limit=250)
    of_primer = {example.prompt for example in primer.prompts("train")}
    known = [prompt for prompt in prompts["train"] if prompt.source is None]
    assert 0 < len(known) < len(of_primer)  # the longest ones are gone
    assert all(prompt.text == prompt.example.prompt and prompt.text in of_primer for prompt in known)
    for prompt in prompts["train"]:
        ids = tiny_tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt.text}], add_generation_prompt=True, return_dict=True
        )["input_ids"]
        assert len(ids) + answer <= 128
    assert len(prompts["test"]) == 250
    assert shows(capsys.readouterr().out, f"({len(primer.prompts('train')) - len(known)} that leave no room")
    with user_error("answer_too_long", "train", 128, max_new_tokens=127):
        read_prompts(arguments, tiny_model, tiny_tokenizer, max_new_tokens=127, limit=250)


def test_a_file_brings_its_replies_as_references(
    arguments: RLHFArguments, tiny_model: Any, tiny_tokenizer: Any
) -> None:
    """The first question of each row, the reply as its one reference, and the name of the source."""
    prompts = read_prompts(arguments, tiny_model, tiny_tokenizer, max_new_tokens=10, limit=None)
    mine = [prompt for split in prompts.values() for prompt in split if prompt.source == "mine"]
    assert len(mine) == 50
    for prompt in mine:
        number = int(prompt.text.split()[2])
        assert prompt.example.references == (f"It is {number + 1}.",)
        assert prompt.example.prompt == prompt.text


def test_a_limit_leaves_something_of_every_source(
    arguments: RLHFArguments, tiny_model: Any, tiny_tokenizer: Any
) -> None:
    """Of a mixture the prompts are drawn by the seed; the primer alone is in a random order, and its first ones are taken."""

    def read(limit: int | None, arguments: RLHFArguments = arguments) -> dict[str, list[Prompt]]:
        return read_prompts(arguments, tiny_model, tiny_tokenizer, max_new_tokens=10, limit=limit)

    everything, some = read(None), read(60)
    for split in ("dev", "test"):
        of_file = [sum(prompt.source == "mine" for prompt in found[split]) for found in (everything, some)]
        assert len(some[split]) == 60 and set(some[split]) < set(everything[split])
        assert 0 < of_file[1] < of_file[0]
    assert read(60) == some
    arguments.sources = arguments.sources[:1]
    assert read(60, arguments)["test"] == read(None, arguments)["test"][:60]


def test_prompts_are_asked_as_they_were_taught(
    arguments: RLHFArguments, tiny_model: Any, tiny_tokenizer: Any
) -> None:
    """The system message opens the prompt, of the source or of the row; the primer comes as often as its weight says."""
    sources = [{**arguments.sources[0], "weight": 0}, {**arguments.sources[1], "system": "Count well."}]
    arguments.sources = sources
    prompts = read_prompts(arguments, tiny_model, tiny_tokenizer, max_new_tokens=40, limit=None)
    for prompt in (prompt for split in prompts.values() for prompt in split):
        assert prompt.source == "mine"
        taught, asked = {"role": "system", "content": "Count well."}, {"role": "user", "content": prompt.text}
        assert prompt.messages == [taught, asked]
    sources[0]["weight"] = 2
    prompts = read_prompts(arguments, tiny_model, tiny_tokenizer, max_new_tokens=1, limit=None)
    known = [prompt for prompt in prompts["train"] if prompt.source is None]
    assert len(known) == 2 * len(primer.prompts("train")) and len(set(known)) == len(primer.prompts("train"))
    assert all(prompt.messages == [{"role": "user", "content": prompt.text}] for prompt in known)
    assert len([prompt for prompt in prompts["test"] if prompt.source is None]) == len(primer.prompts("test"))


def test_the_system_message_takes_its_room(
    arguments: RLHFArguments, tiny_model: Any, tiny_tokenizer: Any
) -> None:
    """A prompt that fits alone is left out where its system message leaves no room for the answer."""
    arguments.sources = [arguments.sources[1]]
    settings: dict[str, Any] = {"max_new_tokens": 20, "limit": None}
    assert read_prompts(arguments, tiny_model, tiny_tokenizer, **settings)["train"]
    arguments.sources[0]["system"] = "Be kind to everyone who asks. " * 20
    with user_error("answer_too_long", "train", max_new_tokens=20):
        read_prompts(arguments, tiny_model, tiny_tokenizer, **settings)


def test_conversations_with_tools_are_left_out(
    arguments: RLHFArguments, tiny_model: Any, tiny_tokenizer: Any, tmp_path: Path, capsys: Any
) -> None:
    """A question is asked without tools, so their rows' answers are no references; how many is printed."""
    chat = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
    path = tmp_path / "tools.jsonl"
    called = [chat[0], {"role": "assistant", "tool_calls": [{"name": "f", "arguments": "{}"}]}]
    rows = [{"messages": chat, "tools": [{"name": "f"}]}, {"messages": called}, {"messages": chat}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    arguments.sources = [arguments.sources[1], {"name": "tools", "path": str(path)}]
    prompts = read_prompts(arguments, tiny_model, tiny_tokenizer, max_new_tokens=10, limit=None)
    found = [prompt for split in prompts.values() for prompt in split if prompt.source == "tools"]
    assert [(prompt.text, prompt.example.references) for prompt in found] == [("Q", ("A",))]
    assert shows(capsys.readouterr().out, "tools: 2 of 3")


def test_a_reply_of_weight_0_is_no_reference() -> None:
    """What is not to be learned is not rewarded either; the question is asked all the same."""
    messages = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
    assert first_question({"messages": messages, "source": "s"}).example.references == ("A",)
    messages[1]["weight"] = 0
    assert first_question({"messages": messages, "source": "s"}) == Prompt("Q", None, "s")
