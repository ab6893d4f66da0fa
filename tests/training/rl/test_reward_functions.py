# SPDX-License-Identifier: Apache-2.0
"""The weighted list of rewards: what each kind gives, and every mistake in the list in one line."""

import json
import math
from typing import Any

import pytest

from scratch_gpt.inference.generation import Answer
from scratch_gpt.inference.prompts import Prompt
from scratch_gpt.primer.tasks import TASKS
from scratch_gpt.tasks.example import Example
from scratch_gpt.training.rl import reward_functions
from scratch_gpt.training.rl.arguments import RLHFArguments
from scratch_gpt.training.rl.reward_functions import Reward, check_rewards, make_rewards, reward_judge
from wording import user_error


STOPS = [3, 0]


def scores(
    entry: dict[str, Any], answers: list[str], token_ids: Any = None, prompts: Any = ()
) -> list[float | None]:
    """What one reward of the list gives these answers, called as TRL calls it."""
    (reward,) = make_rewards(
        check_rewards([entry]),
        reward_model=None,
        tokenizer=None,
        stop_token_ids=STOPS,
        prompts=prompts,
    )
    asked = [[{"role": "user", "content": prompt.text}] for prompt in prompts] or [[]] * len(answers)
    said = [[{"role": "assistant", "content": answer}] for answer in answers]
    return reward(
        prompts=asked, completions=said, completion_ids=token_ids or [[]] * len(answers), trainer_state=None
    )


def test_finished_is_judged_on_token_ids() -> None:
    """Either stop token at the end counts; a cut-off answer, an empty one and a stop token inside do not."""
    token_ids = [[7, 3], [7, 0], [7, 8], [], [3, 8]]
    assert scores({"name": "finished"}, [""] * 5, token_ids) == [1.0, 1.0, 0.0, 0.0, 0.0]


def test_format_is_a_regular_expression() -> None:
    """It is searched for, so that anchors are the user's choice."""
    entry = {"name": "format", "pattern": r"^[A-Z].*\.$"}
    assert scores(entry, ["It is so.", "it is so.", "It is so", ""]) == [1.0, 0.0, 0.0, 0.0]


def test_length_falls_to_minus_one() -> None:
    """DAPO's equation 13: nothing up to max - soft, then linear, then -1."""
    entry = {"name": "length", "max_tokens": 10, "soft_tokens": 4}
    token_ids = [[1] * length for length in (1, 6, 8, 10, 11)]
    assert scores(entry, [""] * 5, token_ids) == [0.0, 0.0, -0.5, -1.0, -1.0]
    assert scores({"name": "length", "max_tokens": 10}, [""] * 2, [[1] * 10, [1] * 11]) == [0.0, -1.0]


def test_language_is_the_share_of_a_script() -> None:
    """Digits, blanks and signs are nobody's; accents are Latin."""
    answers = ["Größe 12!", "Ответ", "ab Ответ", "123", ""]
    assert scores({"name": "language", "script": "latin"}, answers) == [1.0, 0.0, 2 / 7, 0.0, 0.0]
    assert scores({"name": "language", "script": "cyrillic"}, answers) == [0.0, 1.0, 5 / 7, 0.0, 0.0]
    assert scores(
        {"name": "language", "script": "katakana"}, ["\u30b3\u30fc\u30d2\u30fc", "\uff76\uff70", "か"]
    ) == [1.0, 1.0, 0.0]


def test_a_task_scores_as_its_benchmark_does() -> None:
    """The benchmark's own example and score object; other prompts are none of its business."""
    sums = TASKS["sums"].examples("train")[:3]
    fact = TASKS["facts"].examples("train")[0]
    prompts = [Prompt(example.prompt, example) for example in (*sums, fact)]
    answers = [sums[0].references[0], "The answer is 1234.", "", fact.references[0]]
    found = scores({"name": "task", "task": "sums"}, answers, prompts=prompts)
    expected = [TASKS["sums"].score(*pair)["last_number"] for pair in zip(answers[:3], sums, strict=True)]
    assert found == [*expected, None]
    assert expected == [1.0, 0.0, 0.0]
    assert scores({"name": "task", "task": "facts"}, answers, prompts=prompts) == [None, None, None, 1.0]


def test_a_task_scores_a_source_against_its_replies() -> None:
    """With `source`, the rows of a user's file, by the reply that stands there."""
    prompts = [
        Prompt("2+2?", Example("2+2?", ("It is 4.",), "mine", "2+2?"), "mine"),
        Prompt("3+3?", Example("3+3?", ("It is 6.",), "other", "3+3?"), "other"),
    ]
    entry = {"name": "task", "task": "sums", "source": "mine"}
    assert scores(entry, ["So 4.", "So 6."], prompts=prompts) == [1.0, None]
    with user_error("no_prompt_scored", "mine, other", task="sums"):
        scores({"name": "task", "task": "sums"}, ["", ""], prompts=prompts)


def test_the_sum_is_weighted(monkeypatch: pytest.MonkeyPatch, tiny_tokenizer: Any) -> None:
    """As TRL adds them: weight times value; where a task has no opinion, nothing; finished by the answer's mark."""
    monkeypatch.setattr(reward_functions, "score_conversations", lambda model, tokenizer, rows: [0.5, -1.0])
    sums = TASKS["sums"].examples("train")[0]
    prompts = [Prompt(sums.prompt, sums), Prompt("Hello?")]
    entries = [
        {"name": "model", "weight": 2},
        {"name": "finished", "weight": 0.25},
        {"name": "task", "task": "sums", "weight": 3.0},
    ]
    rewards = make_rewards(
        check_rewards(entries),
        reward_model=object(),
        tokenizer=tiny_tokenizer,
        stop_token_ids=tiny_tokenizer.eos_token_id,
        prompts=prompts,
    )
    assert [reward.__name__ for reward in rewards] == ["model", "finished", "sums"]
    answers = [Answer(sums.references[0], True), Answer("Hi", False)]
    assert reward_judge(rewards, tiny_tokenizer)(prompts, answers) == [2 * 0.5 + 0.25 + 3.0, -2.0]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_reward_that_is_no_number_is_told(value: float) -> None:
    """TRL would count NaN as 0 and go on; the reward and the answer are named."""
    reward = Reward("model", 1.0, lambda *_: [0.0, value])
    said = [[{"role": "assistant", "content": text}] for text in ("good", "bad answer")]
    with user_error("reward_not_finite", "'bad answer'", reward="model", value=value):
        reward([[], []], said, [[], []])


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ("model", user_error("wrong_value", setting="rewards")),
        ([], user_error("wrong_value", setting="rewards")),
        (["model"], user_error("wrong_value", setting="rewards")),
        ([{"weight": 1.0}], user_error("wrong_value", "model, finished", setting="reward", value=None)),
        ([{"name": "modle"}], user_error("wrong_value", "model, finished", setting="reward", value="modle")),
        ([{"name": "model", "weight": -1}], user_error("wrong_value", "'model'", setting="weight", value=-1)),
        ([{"name": "model", "weight": math.nan}], user_error("wrong_value", value=math.nan)),
        ([{"name": "model", "weight": math.inf}], user_error("wrong_value", value=math.inf)),
        ([{"name": "model", "weight": "much"}], user_error("wrong_value", setting="weight", value="much")),
        ([{"name": "model", "weight": True}], user_error("wrong_value", setting="weight", value=True)),
        ([{"name": "model", "weight": 0}], user_error("all_weights_zero")),
        ([{"name": "model"}, {"name": "model"}], user_error("duplicate_name", name="model")),
        ([{"name": "model", "folder": "x"}], user_error("unknown_key", "'model'", key="folder")),
        ([{"name": "format"}], user_error("setting_missing", "'format'", setting="pattern")),
        ([{"name": "format", "pattern": "("}], user_error("invalid_pattern", pattern="(")),
        ([{"name": "format", "pattern": 3}], user_error("invalid_pattern", pattern=3)),
        (
            [{"name": "length", "max_tokens": "ten"}],
            user_error("wrong_value", setting="max_tokens", value="ten"),
        ),
        (
            [{"name": "length", "max_tokens": 5, "soft_tokens": 9}],
            user_error("settings_conflict", 9, 5, setting="soft_tokens", other="max_tokens"),
        ),
        (
            [{"name": "language", "script": "german"}],
            user_error("wrong_value", "latin", setting="script", value="german"),
        ),
        (
            [{"name": "task", "task": "chess"}],
            user_error("wrong_value", "facts", setting="task", value="chess"),
        ),
        ([{"name": "task", "task": "choices"}], user_error("wrong_value", setting="task", value="choices")),
    ],
)
def test_mistakes_in_the_list(entries: Any, expected: user_error) -> None:
    """Each is refused before anything is loaded, by the list and by the stage's settings alike."""
    with expected:
        check_rewards(entries)
    if entries and isinstance(entries, list):
        text = json.dumps(entries)
        with expected:
            RLHFArguments(
                model_name_or_path="c", reward_model="r", output_dir="o", sources=[{}], rewards=text
            )


def test_two_tasks_are_two_rewards() -> None:
    """They have names of their own, and weights."""
    entries = [
        {"name": "task", "task": "sums"},
        {"name": "task", "task": "facts", "weight": 2},
        {"name": "task", "task": "facts", "source": "mine"},
    ]
    assert [entry["weight"] for entry in check_rewards(entries)] == [1.0, 2, 1.0]
