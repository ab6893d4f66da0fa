# SPDX-License-Identifier: Apache-2.0
"""What reinforcement learning is rewarded by: a weighted list of reward functions.

In YAML, each entry names a kind and says its settings; `weight` is 1 where nothing is said, and 0 only logs it:

    rewards:
      - {name: model}                                    # the reward stage's model
      - {name: finished, weight: 0.5}                    # 1 for an answer that ends by itself
      - {name: format, pattern: '^[A-Z].*[.!?]$'}        # 1 where the regular expression is found
      - {name: length, max_tokens: 60, soft_tokens: 20}  # 0 up to 40 tokens, falling to -1 at 60
      - {name: language, script: latin}                  # share of the letters that belong to a script
      - {name: task, task: sums}                         # a benchmark's own score against the references
      - {path: my_rewards.py:brevity}                    # a function of your own

A reward of one kind alone is easily gamed: rules see form, a reward model sees what it was taught, references see one
wording. Together they leave less room.
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerFast
from trl.rewards import get_soft_overlong_punishment

from scratch_gpt.data.rows.messages import Message
from scratch_gpt.errors import UserError, did_you_mean, wrong_value
from scratch_gpt.inference.generation import Answer
from scratch_gpt.inference.prompts import Prompt
from scratch_gpt.inference.rewards import score_conversations
from scratch_gpt.primer.tasks import TASKS
from scratch_gpt.tasks.task import Task
from scratch_gpt.tasks.words import letter_name
from scratch_gpt.tokenization import encode_plain
from scratch_gpt.training.rl.reward_files import check_reward_path, load_reward


# What scores a batch: prompts and answers as conversations, and the answers' token ids, up to and with the stop token.
# None where it has no opinion.
RewardFunction = Callable[
    [Sequence[list[Message]], Sequence[list[Message]], Sequence[Sequence[int]]], Sequence[float | None]
]

# Settings of each kind of reward: those that must be given, and those that may.
REWARD_SETTINGS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "model": ((), ()),
    "finished": ((), ()),
    "format": (("pattern",), ()),
    "length": (("max_tokens",), ("soft_tokens",)),
    "language": (("script",), ()),
    "task": (("task",), ("source",)),
    "python": (("path",), ()),
}
DEFAULT_REWARDS = ({"name": "model"}, {"name": "finished"})


class Reward:
    """One entry of the list, called as TRL calls reward functions.

    Args:
        name: how the log calls it.
        weight: its share in the sum.
        score: see `RewardFunction`.
    """

    def __init__(self, name: str, weight: float, score: RewardFunction) -> None:
        self.__name__ = name
        self.weight = weight
        self.score = score

    def __call__(
        self,
        prompts: Sequence[list[Message]],
        completions: Sequence[list[Message]],
        completion_ids: Sequence[Sequence[int]],
        **columns: Any,
    ) -> list[float | None]:
        """One number an answer.

        Raises:
            UserError: a number that is none, or infinite. TRL would count it as 0 and learn from that.
        """
        values = list(self.score(prompts, completions, completion_ids))
        for value, completion in zip(values, completions, strict=True):
            if value is not None and not math.isfinite(value):
                message = (
                    f"reward {self.__name__!r} is {value} for the answer {completion[0]['content'][:60]!r}"
                )
                raise UserError("reward_not_finite", message, reward=self.__name__, value=value)
        return values


def check_rewards(entries: Any) -> list[dict[str, Any]]:
    """The declared rewards, each with its weight.

    Raises:
        UserError: no list, an unknown name or setting, a setting that is missing or no use, a weight that is negative or
            no number, all weights 0, the same reward twice.
    """
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        message = "rewards must be a list such as [{name: model, weight: 1.0}, {name: finished}]"
        raise UserError("wrong_value", message, setting="rewards", value=entries)
    checked = [
        {**({"name": "python"} if "path" in entry else {}), "weight": 1.0, **entry} for entry in entries
    ]
    for entry in checked:
        name, weight = entry.get("name"), entry["weight"]
        if name not in REWARD_SETTINGS:
            message = f"unknown reward {name!r}{did_you_mean(name, REWARD_SETTINGS)} (known: {', '.join(REWARD_SETTINGS)})"
            raise UserError("wrong_value", message, setting="reward", value=name)
        # a truth value is a number to Python, and NaN is neither below nor above 0
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
            raise wrong_value("weight", weight, "a number of at least 0", where=f"reward {name!r}: ")
        needed, optional = REWARD_SETTINGS[name]
        if missing := [key for key in needed if key not in entry]:
            message = f"reward {name!r} needs {', '.join(missing)}"
            raise UserError("setting_missing", message, setting=missing[0])
        known = {"name", "weight", *needed, *optional}
        if unknown := sorted(entry.keys() - known):
            message = f"reward {name!r} has no setting {unknown[0]}{did_you_mean(unknown[0], known)}"
            raise UserError("unknown_key", message, key=unknown[0])
        _check_settings(entry)
    if not any(entry["weight"] for entry in checked):
        raise UserError("all_weights_zero", "every reward has weight 0: nothing would be learned")
    names = [_title(entry) for entry in checked]
    if twice := {name for name in names if names.count(name) > 1}:
        message = f"reward {', '.join(sorted(twice))} is declared twice: give one weight"
        raise UserError("duplicate_name", message, name=min(twice))
    return checked


def _check_settings(entry: dict[str, Any]) -> None:
    """Raise UserError for a setting whose value is no use."""
    if entry["name"] == "format":
        try:
            re.compile(entry["pattern"])
        except (re.error, TypeError) as error:
            message = f"reward 'format': {entry['pattern']!r} is no regular expression ({error})"
            raise UserError("invalid_pattern", message, pattern=entry["pattern"]) from None
    if entry["name"] == "length":
        soft = entry.setdefault("soft_tokens", 0)
        for key in ("max_tokens", "soft_tokens"):
            if not isinstance(entry[key], int) or entry[key] < 0:
                raise wrong_value(key, entry[key], "a number of tokens", where="reward 'length': ")
        if soft > entry["max_tokens"]:
            message = f"reward 'length': soft_tokens {soft} is more than max_tokens {entry['max_tokens']}"
            raise UserError("settings_conflict", message, setting="soft_tokens", other="max_tokens")
    if entry["name"] == "language" and not _is_script(entry["script"]):
        message = f"reward 'language': no letter is in script {entry['script']!r}: such as latin, cyrillic, greek, cjk"
        raise UserError("wrong_value", message, setting="script", value=entry["script"])
    if entry["name"] == "python":
        check_reward_path(entry["path"])
    if entry["name"] == "task":
        written = [name for name, task in TASKS.items() if not task.by_likelihood]
        if entry["task"] not in written:
            message = f"reward 'task': {entry['task']!r} is not a task with written answers (known: {', '.join(written)})"
            raise UserError("wrong_value", message, setting="task", value=entry["task"])


def _title(entry: dict[str, Any]) -> str:
    """How the log calls a reward: a task and a function by their own names."""
    if entry["name"] == "python":
        return entry["path"].rpartition(":")[2]
    if entry["name"] != "task":
        return entry["name"]
    return "/".join([entry["task"], *([entry["source"]] if "source" in entry else [])])


def make_rewards(
    entries: Sequence[dict[str, Any]],
    *,
    reward_model: PreTrainedModel | None,
    tokenizer: PreTrainedTokenizerFast,
    stop_token_ids: int | Iterable[int],
    prompts: Sequence[Prompt],
) -> list[Reward]:
    """The reward functions of a checked list.

    Args:
        entries: from `check_rewards`.
        reward_model: for the entry `model`.
        stop_token_ids: the tokens that end an answer.
        prompts: all that will be asked, with the examples by which tasks score.

    Raises:
        UserError: a task that scores none of the prompts; a function of the user's that is not there.
    """
    rewards = []
    for entry in entries:
        score: RewardFunction
        if entry["name"] == "model":
            score = model_score(reward_model, tokenizer)
        elif entry["name"] == "finished":
            score = finished_score([stop_token_ids] if isinstance(stop_token_ids, int) else stop_token_ids)
        elif entry["name"] == "format":
            score = format_score(entry["pattern"])
        elif entry["name"] == "length":
            score = length_score(entry["max_tokens"], entry["soft_tokens"])
        elif entry["name"] == "language":
            score = language_score(entry["script"])
        elif entry["name"] == "python":
            score = load_reward(entry["path"])
        else:
            score = task_score(TASKS[entry["task"]], entry.get("source"), prompts)
        rewards.append(Reward(_title(entry), float(entry["weight"]), score))
    return rewards


def model_score(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> RewardFunction:
    """What the reward model gives the conversation."""
    return lambda prompts, completions, _: score_conversations(
        model, tokenizer, [prompt + answer for prompt, answer in zip(prompts, completions, strict=True)]
    )


def finished_score(stop_token_ids: Iterable[int]) -> RewardFunction:
    """1 for an answer that ends with a stop token, else 0.

    The reward model cannot see the difference: the answer's *text* goes through the chat template again, which puts the
    end of the turn behind an answer that was cut off too. So it is judged on the token ids.
    """
    stops = frozenset(stop_token_ids)
    return lambda _, __, completion_ids: [float(bool(ids) and ids[-1] in stops) for ids in completion_ids]


def format_score(pattern: str) -> RewardFunction:
    """1 where the regular expression is found in the answer, else 0."""
    found = re.compile(pattern)
    return lambda _, completions, __: [
        float(found.search(answer[0]["content"]) is not None) for answer in completions
    ]


def length_score(max_tokens: int, soft_tokens: int) -> RewardFunction:
    """0 for short answers, falling to -1 over the last `soft_tokens` before `max_tokens` (DAPO, Yu et al. 2025)."""
    punish = get_soft_overlong_punishment(max_tokens, soft_tokens)
    return lambda _, __, completion_ids: punish(completion_ids=completion_ids)


def language_score(script: str) -> RewardFunction:
    """The share of an answer's letters that belong to the script; 0 where there is no letter.

    By the characters' Unicode names: it distinguishes Greek from Latin, not German from English.
    """

    def share(text: str) -> float:
        letters = [character for character in text if character.isalpha() and letter_name(character)]
        return sum(_in_script(letter, script) for letter in letters) / len(letters) if letters else 0.0

    return lambda _, completions, __: [share(answer[0]["content"]) for answer in completions]


def _in_script(letter: str, script: str) -> bool:
    return letter_name(letter).startswith(f"{script.upper()} ")


def _is_script(script: Any) -> bool:
    letters = filter(str.isalpha, map(chr, range(0x10000)))
    return isinstance(script, str) and any(_in_script(letter, script) for letter in letters)


def task_score(task: Task, source: str | None, prompts: Sequence[Prompt]) -> RewardFunction:
    """The task's main score against the example's references, for the prompts that the task is about.

    Args:
        source: the prompts of this source; default: those of the embedded corpus that the task asks.

    Raises:
        UserError: there is no such prompt.
    """
    kinds = {example.kind for example in task.examples("train")}
    examples = {
        prompt.text: prompt.example
        for prompt in prompts
        if prompt.example is not None
        and prompt.source == source
        and (source is not None or prompt.example.kind in kinds)
    }
    if not examples:
        found = sorted({prompt.source or "the embedded corpus" for prompt in prompts})
        message = (
            f"reward task {task.name} scores none of the prompts, which are of {', '.join(found)}: name one of the "
            "sources (source: NAME), or leave the reward out"
        )
        raise UserError("no_prompt_scored", message, task=task.name)

    def score(question: str, answer: str) -> float | None:
        example = examples.get(question)
        return None if example is None else next(iter(task.score(answer, example).values()))

    return lambda asked, completions, _: [
        score(prompt[-1]["content"], answer[0]["content"])
        for prompt, answer in zip(asked, completions, strict=True)
    ]


def reward_judge(
    rewards: Sequence[Reward], tokenizer: PreTrainedTokenizerFast
) -> Callable[[Sequence[Prompt], Sequence[Answer]], list[float]]:
    """The weighted sum for each answer, for measuring: what the training would be rewarded by.

    The text is tokenized again, with a stop token where the answer is finished.
    """

    def judge(prompts: Sequence[Prompt], answers: Sequence[Answer]) -> list[float]:
        asked = [prompt.messages for prompt in prompts]
        said = [[{"role": "assistant", "content": answer.text}] for answer in answers]
        token_ids = encode_plain(tokenizer, [answer.text for answer in answers])
        for ids, answer in zip(token_ids, answers, strict=True):
            ids += [tokenizer.eos_token_id] * answer.finished
        totals = [0.0] * len(answers)
        for reward in rewards:
            for index, value in enumerate(reward(asked, said, token_ids)):
                totals[index] += reward.weight * (value or 0.0)
        return totals

    return judge
