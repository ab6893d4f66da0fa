# SPDX-License-Identifier: Apache-2.0
"""What the measurement of binding asks, and what it makes of the answers."""

import random
from pathlib import Path

import binding as module
import pytest
from binding import COUNTS, make_examples, share_right

from scratch_gpt.inference.likelihood import Likelihood
from scratch_gpt.primer.pairs import LESSONS
from scratch_gpt.primer.splits import split_of
from wording import user_error


def test_texts_end_at_a_key_and_the_choices_are_the_values_of_the_text() -> None:
    """With the right choice a sentence of the text is said again; no passage holds a detail of the training text."""
    examples = make_examples(40, seed=1)
    forms = [lesson.form for lesson in LESSONS.values()]
    assert list(examples) == [*forms, *(f"of {count} people" for count in COUNTS)]
    for kind, texts in examples.items():
        for text in texts:
            whole = text.prompt + text.choices[text.label]
            (reference,) = text.references
            assert whole.count(reference.removeprefix("I read that ").removesuffix(".")) == 2
            assert len(set(text.choices)) == len(text.choices)
            assert all(text.prompt.count(choice.removesuffix(".")) == 1 for choice in text.choices)
            assert kind in forms or split_of(text.key) == "test"


def test_a_share_is_right_where_the_likeliest_choice_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that copies gets 1.0, one that likes the first choice what its labels say."""
    texts = make_examples(40, seed=1)["of 3 people"]
    rng = random.Random(0)

    def weigh(model, tokenizer, prompts, choices, *, chat):
        scores = {
            "reader": lambda prompt, choice: (prompt.split("I read that ")[-1] + choice) in prompt,
            "first": lambda prompt, choice: -prompt.index(choice.removesuffix(".")),
            "drawn": lambda prompt, choice: rng.random(),
        }[model]
        return [Likelihood(float(scores(*pair)), 1, 1, True) for pair in zip(prompts, choices, strict=True)]

    monkeypatch.setattr(module, "loglikelihoods", weigh)
    assert share_right("reader", None, texts).value == 1.0
    assert share_right("first", None, texts).value == sum(text.label == 0 for text in texts) / 40
    metric = share_right("drawn", None, texts)
    assert metric.chance == pytest.approx(1 / 3) and metric.value < 0.7


def test_a_run_without_checkpoints_is_refused(tmp_path: Path) -> None:
    """The line says how to pretrain one that keeps them."""
    with user_error("no_checkpoint", "--save_steps", "--save_total_limit", folder=tmp_path):
        module.main(module.BindingArguments(run=str(tmp_path)))
