# SPDX-License-Identifier: Apache-2.0
"""Held-out instructions: the loss of the answers, and what a chat model writes beside the replies."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from scratch_gpt.evaluation.benchmarks import instructions
from scratch_gpt.evaluation.benchmarks.instructions import (
    InstructionArguments,
    answer_nll,
    evaluate_instructions,
)
from scratch_gpt.inference.chat_format import encode_conversation
from scratch_gpt.inference.generation import Answer
from wording import user_error


def row(question: str, reply: str, source: str = "mine") -> dict[str, Any]:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": reply}]
    return {"messages": messages, "source": source, "kind": source, "place": f"{source}.jsonl:1"}


ROWS = [
    row("Where is Paris?", "Paris is in France."),
    row("Is it?", "Yes", "other"),
    row("And Rome?", "It is in Italy, as you know, and has been there for a long time.", "other"),
]


@pytest.fixture
def arguments(tmp_path: Any) -> InstructionArguments:
    (tmp_path / "config.json").write_text("{}")
    return InstructionArguments(model=[str(tmp_path)], batch_size=2)


def test_costs_are_of_the_answers_tokens_alone(tiny_model: Any, tiny_tokenizer: Any) -> None:
    """One by one, unpadded: torch's cross-entropy of the answer and its end of turn, nothing of the question."""
    costs = answer_nll(
        tiny_model, tiny_tokenizer, [encode_conversation(tiny_tokenizer, each) for each in ROWS], 2
    )
    for (nats, tokens), each in zip(costs, ROWS, strict=True):
        question, reply = (message["content"] for message in each["messages"])
        start = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
        begin = len(tiny_tokenizer(start)["input_ids"])
        ids = tiny_tokenizer(f"{start}{reply}<|im_end|>", return_tensors="pt")["input_ids"]
        with torch.no_grad():
            logits = tiny_model(ids).logits[0, begin - 1 : -1]
        expected = torch.nn.functional.cross_entropy(logits, ids[0, begin:], reduction="sum")
        assert tokens == len(ids[0]) - begin
        assert nats == pytest.approx(expected.item(), rel=1e-4)


def test_a_base_model_has_a_loss_and_writes_nothing(
    tiny_model: Any, tiny_tokenizer: Any, arguments: InstructionArguments
) -> None:
    """The loss is that of all tokens together, not the mean of the rows'; each source has its own."""
    metrics = evaluate_instructions(tiny_model, tiny_tokenizer, ROWS, arguments)
    assert set(metrics) == {"loss", "mine/loss", "other/loss"}
    costs = answer_nll(
        tiny_model, tiny_tokenizer, [encode_conversation(tiny_tokenizer, each) for each in ROWS], 2
    )
    assert metrics["loss"].value == pytest.approx(costs[:, 0].sum() / costs[:, 1].sum())
    assert metrics["other/loss"].value == pytest.approx(costs[1:, 0].sum() / costs[1:, 1].sum())
    assert metrics["loss"].value != pytest.approx(np.mean(costs[:, 0] / costs[:, 1]), rel=1e-6)
    # an untrained model knows nothing of any token
    assert metrics["loss"].value == pytest.approx(math.log(len(tiny_tokenizer)), rel=0.1)


def test_answers_stand_beside_the_replies(
    tiny_model: Any,
    tiny_tokenizer: Any,
    arguments: InstructionArguments,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a chat model's answers: the ended ones, the repeated 4-grams, and the words shared with the right reply."""
    tiny_tokenizer.eos_token = "<|im_end|>"
    replies = {each["messages"][0]["content"]: each["messages"][1]["content"] for each in ROWS}
    written = {
        "Where is Paris?": Answer("Paris is in France.", True),
        "Is it?": Answer("no no no no no no", False),
        "And Rome?": Answer("a b", True),
    }
    monkeypatch.setattr(
        instructions,
        "generate_answers",
        lambda _model, _tokenizer, asked, **_: [written[messages[-1]["content"]] for messages in asked],
    )
    metrics = evaluate_instructions(tiny_model, tiny_tokenizer, ROWS, arguments)
    assert metrics["finished"].value == pytest.approx(2 / 3)
    assert metrics["repetition"].value == pytest.approx(
        (2 / 3) / 3
    )  # of three equal 4-grams two stood before
    assert metrics["repetition"].baselines == {"references": 0.0}
    assert metrics["length"].value == pytest.approx((4 + 6 + 2) / 3)
    words = sum(len(reply.split()) for reply in replies.values())
    assert metrics["length"].baselines == {"references": words / 3}
    assert metrics["f1"].value == pytest.approx(1 / 3)
    assert metrics["f1"].chance is not None and metrics["f1"].chance < 1 / 3
    assert metrics["finished"].items is None


def test_limit_bounds_the_answers_and_not_the_loss(
    tiny_model: Any,
    tiny_tokenizer: Any,
    arguments: InstructionArguments,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two questions are answered; the loss is of all three rows."""
    tiny_tokenizer.eos_token = "<|im_end|>"
    monkeypatch.setattr(
        instructions,
        "generate_answers",
        lambda _model, _tokenizer, asked, **_: [Answer("x", True)] * len(asked),
    )
    arguments.limit = 2
    metrics = evaluate_instructions(tiny_model, tiny_tokenizer, ROWS, arguments)
    assert (metrics["loss"].n, metrics["finished"].n) == (3, 2)


def test_rows_that_do_not_fit(tiny_model: Any, tiny_tokenizer: Any, arguments: InstructionArguments) -> None:
    """Longer rows are left out, and said; where none is left, and where the model is too short, that is an error."""
    arguments.max_length = 16
    with user_error("rows_too_long", 3, "test", limit=16):
        evaluate_instructions(tiny_model, tiny_tokenizer, ROWS, arguments)
    arguments.max_length = 100_000
    with user_error("too_long", length=100_000):
        evaluate_instructions(tiny_model, tiny_tokenizer, ROWS, arguments)
    arguments.max_length = 40
    assert evaluate_instructions(tiny_model, tiny_tokenizer, ROWS, arguments)["loss"].n == 2
