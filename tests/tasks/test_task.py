# SPDX-License-Identifier: Apache-2.0
"""Tasks: what models are asked, what is counted as right, what ignorance scores."""

import random

import pytest

from scratch_gpt.primer.tasks import TASKS, choose_tasks, first_pair, translation_source
from scratch_gpt.tasks.example import Example
from scratch_gpt.tasks.task import (
    CHOICE,
    Task,
    draw_shots,
    load_examples,
    majority_answer,
    random_choice,
    score_answer,
    score_choice,
)
from wording import user_error


def question(prompt: str, *references: str, key: str = "k", **settings) -> Example:
    return Example(prompt, references, "test", key, **settings)


ROWS = [question(f"Q{number}", f"A{number}") for number in range(8)]


def test_shots_are_drawn_by_seed_and_never_the_question_itself() -> None:
    """From the train split as Python's generator draws them, one after the other; of own rows one more, less the row."""
    split = {"train": ROWS[:5], "test": ROWS[5:]}
    apart = Task("apart", split.__getitem__, score_answer)
    generator = random.Random(7)
    expected = [generator.sample(ROWS[:5], 2) for _ in range(3)]
    assert draw_shots(apart, ROWS[5:], 2, seed=7) == expected != draw_shots(apart, ROWS[5:], 2, seed=8)
    own = Task("own", lambda split: ROWS, score_answer)
    generator = random.Random(7)
    expected = [[shot for shot in generator.sample(ROWS, 4) if shot != row][:3] for row in ROWS]
    assert draw_shots(own, ROWS, 3, seed=7) == expected
    assert draw_shots(own, ROWS, 0, seed=7) == [[]] * 8
    for row, shots in zip(ROWS, draw_shots(own, ROWS, 7, seed=0), strict=True):
        assert sorted(shots, key=ROWS.index) == [other for other in ROWS if other != row]
    for task, count, found in ((own, 8, 7), (apart, 6, 5)):
        with user_error("too_few_shots", task=task.name, num_fewshot=count, found=found):
            draw_shots(task, ROWS[5:], count, seed=0)


def test_a_question_that_is_there_twice_is_never_shown() -> None:
    """Others are drawn in its place."""
    rows = [ROWS[0]] * 6 + ROWS[1:3]
    task = Task("twice", lambda split: rows, score_answer)
    for seed in range(5):
        for row, shots in zip(rows, draw_shots(task, rows, 2, seed), strict=True):
            assert len(shots) == 2 and row not in shots


def test_first_shots_are_those_of_the_kind() -> None:
    """In their order, whatever the seed."""
    rows = [Example(f"Q{number}", ("A",), f"kind {number % 2}", "k") for number in range(6)]
    task = Task("first", lambda split: rows, score_answer, shots=lambda: rows, first_shots=True)
    assert draw_shots(task, rows[:2], 2, seed=1) == [[rows[2], rows[4]], [rows[3], rows[5]]]
    with user_error("too_few_shots", num_fewshot=3, found=2):
        draw_shots(task, rows, 3, seed=1)


def test_questions_stand_behind_shots() -> None:
    """As a text with the answers, or as turns of a conversation."""
    task = Task("t", lambda split: ROWS, score_answer)
    assert task.prompts(ROWS[:1], False, [ROWS[1:3]]) == ["Q1\nA1\n\nQ2\nA2\n\nQ0\n"]
    assert task.prompts(ROWS[:1], True, [ROWS[1:2]]) == [
        [
            {"role": "user", "content": "Q1"},
            {"role": "assistant", "content": "A1"},
            {"role": "user", "content": "Q0"},
        ]
    ]


@pytest.mark.parametrize("name", sorted(TASKS))
def test_the_first_reference_of_every_example_is_right(name: str) -> None:
    """The model answer gets the full main score in its own task, the other answers' chance level is below."""
    task = TASKS[name]
    examples = task.examples("test")
    answers = [
        example.choices[example.label] if example.choices else example.references[0] for example in examples
    ]
    main, value = next(iter(task.mean_scores(answers, examples).items()))
    assert value == 1.0
    assert 0.0 <= task.chance(task, examples)[main] < 0.5


def test_of_equally_frequent_answers_the_first_is_the_majority() -> None:
    """Whatever order a set would have in this process."""
    example = question("Which?", *(f"answer {number}" for number in range(50)))
    task = Task(
        "t", lambda split: [example], lambda prediction, _: {"first": float(prediction == "answer 0")}
    )
    assert majority_answer(task, [example]) == {"first": 1.0}


@pytest.mark.parametrize("name", ["facts", "choices", "sums", "reading"])
def test_base_models_are_asked_on_a_line_of_its_own(name: str) -> None:
    """A chat model gets the question, a base model the question with a line break."""
    task = TASKS[name]
    example = task.examples("test")[0]
    assert task.prompts([example], chat=True) == [example.prompt]
    assert task.prompts([example], chat=False) == [example.prompt + "\n"]


def test_translations_continue_a_pair() -> None:
    """A base model goes on where the pretraining text gives the German phrase; the next pair is not its answer."""
    examples = TASKS["translation"].examples("test")
    for example in examples:
        source = translation_source(example)
        assert example.prompt.strip("?").replace("'", "").count(source) == 1
        assert TASKS["translation"].prompts([example], chat=False) == [f"English: {source}. German:"]
    asked = question("What does 'a good duck swims' mean in German?", "eine gute Ente schwimmt.")
    assert translation_source(asked) == "a good duck swims"
    assert translation_source(question("Say in German: the old car", "das alte Auto.")) == "the old car"
    assert first_pair(" das Auto. English: the hat. German: der Hut.\nmore") == "das Auto."


def test_the_majority_answer_is_given_every_time() -> None:
    """Two of four questions accept "red"."""
    examples = [
        question("a", "red"),
        question("b", "blue", "red"),
        question("c", "green"),
        question("d", "blue hat"),
    ]
    assert majority_answer(Task("t", lambda split: examples, score_answer), examples)["exact_match"] == 0.5


def test_fact_guesses_name_the_commonest_object_of_the_train_split() -> None:
    """For each relation the guess is right where the test agrees with what train has most of."""
    rows = {
        "train": [
            question("", f"{name} lives in {town}.", key=f"fact:home:{name}")
            for name, town in (("Ann", "Rome"), ("Bob", "Rome"), ("Cid", "Bonn"))
        ],
        "test": [
            question("", "Dan lives in Rome.", key="fact:home:Dan"),
            question("", "Eve lives in Bonn.", key="fact:home:Eve"),
        ],
    }
    task = Task("facts", rows.__getitem__, score_answer)
    guessed = TASKS["facts"].chance(task, rows["test"])
    assert guessed == {"exact_match": 0.5, "f1": pytest.approx((1 + 3 / 4) / 2)}


def test_reading_chance_is_that_of_a_random_detail() -> None:
    """One of two details is the answer, and the question is not drawn."""
    example = question(
        "Read: Ann has a hat. Bob has a cup. What does Bob have?", "I read that Bob has a cup."
    )
    assert TASKS["reading"].chance(TASKS["reading"], [example])["exact_match"] == 0.5


def test_sum_chance_is_that_of_the_commonest_result() -> None:
    """Two of three results are 9, whatever the way to it."""
    examples = [question("", "1 more is 9. So 9."), question("", "It is 9."), question("", "It is 8.")]
    assert TASKS["sums"].chance(TASKS["sums"], examples) == {"last_number": pytest.approx(2 / 3)}


def test_choices_are_guessed_at_one_over_their_number() -> None:
    """With two and four candidates a guess is right in 3 of 8 cases."""
    examples = [question("", "a", choices=("a", "b")), question("", "a", choices=("a", "b", "c", "d"))]
    assert random_choice(Task("t", lambda split: examples, score_choice), examples) == {"accuracy": 0.375}


def test_tasks_are_chosen_by_name() -> None:
    """None asked means all or none, and an unknown name is refused with the known ones."""
    assert [task.name for task in choose_tasks(["sums"], ("facts", "sums"), default=True)] == ["sums"]
    assert [task.name for task in choose_tasks([], ("facts", "sums"), default=True)] == ["facts", "sums"]
    assert choose_tasks([], ("facts", "sums"), default=False) == []
    with user_error("wrong_value", "facts, sums", setting="task", value="sum"):
        choose_tasks(["sum"], ("facts", "sums"), default=True)


def test_an_empty_benchmark_is_refused() -> None:
    """A task without examples cannot be evaluated."""
    with user_error("no_examples", "'dev'", task="empty"):
        load_examples([Task("empty", lambda split: [], score_answer)], "dev", None)
    with user_error("nothing_to_evaluate", "tasks", "sources"):
        load_examples([], "dev", None)


def test_an_example_without_a_right_answer_is_refused() -> None:
    """A task that somebody wrote with missing references or candidates is named, and the example with it."""
    examples = [question("Who is it?", "Ann"), question("Where?")]
    with user_error("incomplete_example", "example 1", "'Where?'", task="who", missing="references"):
        load_examples([Task("who", lambda split: examples, score_answer)], "dev", None)
    task = Task("which", lambda split: examples[:1], score_choice, form=CHOICE)
    with user_error("incomplete_example", "example 0", "'Who is it?'", task="which", missing="candidates"):
        load_examples([task], "dev", None)
