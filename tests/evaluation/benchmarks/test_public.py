# SPDX-License-Identifier: Apache-2.0
"""Public benchmarks: the exact texts that models are given, by hand and by lm-eval, their scores, and wrong input."""

import csv
import json
import math
import re
from pathlib import Path

import pytest
from layout_rows import ROWS, ask, entry_of, task_of, write_rows

from scratch_gpt.evaluation.benchmarks import public, qa
from scratch_gpt.evaluation.benchmarks.layouts import BLIMP, GROUPS, LAYOUTS
from scratch_gpt.evaluation.benchmarks.public import public_tasks
from scratch_gpt.inference.generation import Answer
from scratch_gpt.inference.likelihood import Likelihood
from scratch_gpt.inference.loading import load_model
from scratch_gpt.tasks.example import Example
from scratch_gpt.tasks.task import Task, score_answer
from wording import user_error


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """What the models are given: (prompts, continuations); continuations are equally likely, written answers empty."""
    calls: list[tuple] = []

    def weigh(model, tokenizer, prompts, continuations, **settings) -> list[Likelihood]:
        calls.append((list(prompts), list(continuations)))
        return [Likelihood(-1.0, 1, 1, False) for _ in prompts]

    def write(model, tokenizer, prompts, **settings) -> list[Answer]:
        calls.append((list(prompts), settings["stop"]))
        return [Answer("", True) for _ in prompts]

    monkeypatch.setattr(qa, "loglikelihoods", weigh)
    monkeypatch.setattr(qa, "generate_answers", write)
    return calls


QA = "Question: {}\nAnswer:"
# Of the second row of each layout: contexts and continuations, by hand from lm-eval's definitions (BabyLM's).
TEXTS = {
    "hellaswag": (
        ["Game 1: A man. has a ball. The man"] * 4,
        [" throws it away.", " eats it.", " is a red ball of Lily now.", " naïf"],
    ),
    "arc_easy": (
        [QA.format("Which of these are 1 animals?")] * 4,
        [" dogs", " red", " a long hat in the sun", " café"],
    ),
    "arc_challenge": (
        [QA.format("Which of these are 1 animals?")] * 4,
        [" dogs", " red", " a long hat in the sun", " café"],
    ),
    "piqa": ([QA.format("Open jar 1 ")] * 2, [" turn the lid.", " sleep on it for a day."]),
    "openbookqa": (["The sun on day 1 is"] * 3, [" warm", " a small dog", " cold and far away"]),
    "boolq": (["Tom has 1 hats.\n" + QA.format("does Tom have 2 hats?")] * 2, [" no", " yes"]),
    "copa": (["The 1 men ran therefore"] * 2, ["  a dog came.", "  they were red hats."]),
    "winogrande": (
        [
            "The ball 1 did not fit the bag as the ball",
            "The ball 1 did not fit the bag as the little old bag",
        ],
        [" was too big."] * 2,
    ),
    "mmlu": (
        [
            "The following are multiple choice questions (with answers) about college biology.\n\n"
            "How many hearts have 1 dogs?\nA. 1\nB. 2\nC. none\nD. four hearts\nAnswer:"
        ]
        * 4,
        [" A", " B", " C", " D"],
    ),
    "truthfulqa_mc1": (
        [LAYOUTS["truthfulqa_mc1"].prompt.replace("{{question}}", "Can 1 dogs talk?")] * 3,
        [" No, they bark.", " Yes.", " On Sundays only."],
    ),
    "truthfulqa_mc2": (
        [LAYOUTS["truthfulqa_mc1"].prompt.replace("{{question}}", "Can 1 dogs talk?")] * 4,
        [" A.", " B.", " C.", " D."],
    ),
    "blimp": (["", ""], [" The 1 dogs sleep.", " Dogs the 1 sleep."]),
    "lambada": (["Lily has a red ball and 1 dogs. She likes her"], [" ball"]),
    "gsm8k": (
        [QA.format("Tom has 1 hats and buys 1. How many has he?")],
        ("Question:", "</s>", "<|im_end|>"),
    ),
    "ewok": (["Ali sees 1 balls."] * 2, [" Ali looks at balls.", " Ali looks at nothing."]),
    "entity_tracking": (
        ["Box 0 contains the hat. Move the hat to Box 1. Box 1 contains"] * 3,
        [" the hat", " nothing", " the ball"],
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_models_are_given_lm_evals_texts(
    name, tiny_model, tiny_tokenizer, tmp_path, base_folder, asked
) -> None:
    """Context and continuations, letter for letter; a chat model too is given them."""
    contexts, continuations = TEXTS[name]
    ask(tiny_model, tiny_tokenizer, task_of(name, tmp_path), base_folder)
    ((found, after),) = asked
    own = slice(len(contexts), 2 * len(contexts))
    assert found[own] == contexts
    assert (after if name == "gsm8k" else after[own]) == continuations


# Of one example before the question of the first row: what stands before it.
SHOTS = {
    "arc_easy": QA.format("Which of these are 13 animals?") + " red\n\n",
    "copa": "The 13 men ran therefore  they were red hats.\n\n",
    "winogrande": "The ball 13 did not fit the bag as the little old bag was too big.\n\n",
    "lambada": "Lily has a red ball and 13 dogs. She likes her  ball\n\n",
    "mmlu": "The following are multiple choice questions (with answers) about college biology.\n\n"
    "How many hearts have 10 dogs?\nA. 10\nB. 20\nC. none\nD. four hearts\nAnswer: C\n\n",
    "gsm8k": QA.format("Tom has 13 hats and buys 1. How many has he?") + " He has 13 + 1 = 14.\n#### 14\n\n",
}


@pytest.mark.parametrize("name", SHOTS)
def test_shots_stand_before_the_question(
    name, tiny_model, tiny_tokenizer, tmp_path, base_folder, asked
) -> None:
    """With their answers, two line breaks apart; through a chat template they are turns of a conversation."""
    task = task_of(name, tmp_path, 1)
    ask(tiny_model, tiny_tokenizer, task, base_folder)
    (plain,) = asked[0][0][:1]
    question = task.continuation(task.examples("test")[0]) if name != "winogrande" else TEXTS[name][0][0]
    assert plain.startswith(SHOTS[name]) and plain.endswith(question.replace(" 1 ", " 0 "))
    if name == "mmlu":
        return
    assert plain == SHOTS[name] + question.replace(" 1 ", " 0 ")
    ask(tiny_model, tiny_tokenizer, task, base_folder, apply_chat_template=True)
    user, assistant, last = asked[1][0][0]
    assert [user["role"], assistant["role"], last["role"]] == ["user", "assistant", "user"]
    delimiter = " "
    assert f"{user['content']}{delimiter}{assistant['content']}\n\n{last['content']}" == plain


def test_a_chat_template_is_applied_where_asked(chat_folder, base_folder, tmp_path, asked) -> None:
    """By default public benchmarks are text, also for chat models; answers follow a template without a blank."""
    model, tokenizer = load_model(chat_folder)
    task = task_of("arc_easy", tmp_path)
    for settings in ({}, {"apply_chat_template": True}, {"apply_chat_template": False}):
        ask(model, tokenizer, task, chat_folder, **settings)
    plain, chat, text = (continuations[1] for _, continuations in asked)
    assert (plain, chat, text) == (" red", "red", " red")
    tokenizer.chat_template = None
    with user_error("chat_template_missing", folder=tokenizer.name_or_path):
        ask(model, tokenizer, task, chat_folder, apply_chat_template=True)


def test_encoder_decoders_read_shots_as_text(encoder_decoder_folder, tmp_path, asked) -> None:
    """The same texts as other models; without examples they are asked the question of a task itself."""
    model, tokenizer = load_model(encoder_decoder_folder, allow_encoder_decoder=True)
    ask(model, tokenizer, task_of("arc_easy", tmp_path, 1), encoder_decoder_folder)
    prompts, continuations = asked.pop()
    assert prompts[0].startswith(SHOTS["arc_easy"]) and continuations[1] == " red"
    rows = [Example(f"Q{number}?", ("A",), "k", "k") for number in range(3)]
    task = Task("own", lambda split: rows, score_answer)
    for count, prompt in ((0, "Q0?"), (1, "Q1?\nA\n\nQ0?\n")):
        ask(model, tokenizer, task, encoder_decoder_folder, num_fewshot=count)
        assert asked.pop()[0][0] == prompt


def test_scores_are_by_hand() -> None:
    """Whole, per character, per byte; the probability of all right answers; chance levels."""
    example = Example("Q", ("é",), "k", "Q", ("éé", "aaa", "b"), 0)
    names = ("acc", "acc_norm", "acc_bytes")
    # per character -1.5, -1.6, -2; per byte -0.75, -1.6, -2
    assert public.rate_choices(names, [-3.0, -4.8, -2.0], example) == {
        "acc": 0.0,
        "acc_norm": 1.0,
        "acc_bytes": 1.0,
    }
    # per character -2.5, -1.6, -2; per byte -1.25, -1.6, -2
    assert public.rate_choices(names, [-5.0, -4.8, -2.0], example)["acc_norm"] == 0.0
    assert public.rate_choices(names, [-5.0, -4.8, -2.0], example)["acc_bytes"] == 1.0
    several = Example("Q", ("a", "b"), "k", "Q", ("a", "b", "c", "d"), 0)
    mass = public.probability_mass([math.log(0.1), math.log(0.2), math.log(0.3), -2000.0], several)
    assert mass == {"acc": pytest.approx(0.5)}
    assert public.share_of_right(None, [several]) == {"acc": 0.5}


# Prediction -> right by "####", right by the last number, of 1,234.
GSM8K = [
    ("#### 1234", 1, 1),
    ("So it is 7.\n#### 1,234. Then 5", 1, 0),
    ("It is $1,234.", 0, 1),
    ("#### -1234", 0, 0),
    ("#### 12", 0, 0),
    ("nothing", 0, 0),
]


@pytest.mark.parametrize(("text", "strict", "flexible"), GSM8K)
def test_numbers_of_gsm8k(text: str, strict: int, flexible: int) -> None:
    """lm-eval's two filters; commas, dollars and a final period do not count."""
    example = Example("Q", ("1000 + 234 = 1234\n#### 1,234",), "k", "Q")
    assert public.score_gsm8k(text, example) == {"strict_match": strict, "flexible_extract": flexible}


def test_tables_hold_lists_as_text(tmp_path: Path) -> None:
    """In a cell of .csv a list is JSON, and a number is text; the examples are those of .jsonl."""
    for name in ("arc_easy", "hellaswag", "truthfulqa_mc2", "piqa", "boolq", "winogrande"):
        cells = [
            {
                key: json.dumps(value) if isinstance(value, list | dict) else str(value)
                for key, value in row.items()
            }
            for row in ROWS[name]
        ]
        path = tmp_path / f"{name}.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, cells[0])
            writer.writeheader()
            writer.writerows(cells)
        with path.open(newline="", encoding="utf-8") as file:
            parse = public._parser(LAYOUTS[name], f"my_{name}")
            examples = [parse(row) for row in csv.DictReader(file)]
        assert examples == task_of(name, tmp_path).examples("test")


def test_groups_are_several_tasks(tmp_path: Path) -> None:
    """TruthfulQA's two ways of scoring; every name of the table of layouts is known, every paradigm of BLiMP once."""
    entry = {**entry_of("truthfulqa_mc1", tmp_path), "layout": "truthfulqa", "name": "mine"}
    assert list(public_tasks([], [entry], "fail", None)) == ["mine_mc1", "mine_mc2"]
    assert {member for members in GROUPS.values() for member in members} <= set(LAYOUTS)
    assert len(set(BLIMP.split())) == len(BLIMP.split()) == 67


def test_what_a_result_needs_is_noted(tmp_path: Path) -> None:
    """Layout, place, number of shots and where they come from."""
    entry = entry_of("piqa", tmp_path, 2)
    ((_, settings),) = public_tasks([], [entry], "fail", None).values()
    assert settings == {
        "layout": "piqa",
        "path": entry["path"],
        "subset": None,
        "split": None,
        "revision": None,
        "num_fewshot": 2,
        "fewshot_path": entry["fewshot_path"],
        "fewshot_split": None,
    }


def test_the_hub_is_asked_for_subsets_and_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    """All paradigms of BLiMP, MMLU's shots from its dev split, one subset where it is named; the commit is noted."""
    read: list[tuple] = []

    def rows(source, bad_rows, parse):
        read.append((source.path, source.subset, source.split))
        source.commit = "c0ffee"
        return [("place", Example("Q", ("A",), "k", source.split))]

    monkeypatch.setattr(public, "read_rows", rows)
    (_, settings) = public_tasks(["blimp"], [], "fail", None)["blimp"]
    assert [subset for _, subset, _ in read] == settings["subset"] == list(LAYOUTS["blimp"].subsets)
    assert (settings["split"], settings["revision"]) == ("train", "c0ffee")
    read.clear()
    declared = [{"name": "anatomy", "layout": "mmlu", "subset": "anatomy"}]
    (task, settings) = public_tasks(["mmlu"], declared, "fail", 5)["anatomy"]
    place = "cais/mmlu"
    assert read == [(place, subset, split) for subset in ("all", "anatomy") for split in ("test", "dev")]
    assert (settings["subset"], settings["fewshot_split"], task.num_fewshot) == ("anatomy", "dev", 5)
    assert task.shots()[0].key == "dev"
    read.clear()
    declared = [{"name": "lambada", "layout": "lambada", "fewshot_split": "test"}]
    (task, _) = public_tasks([], declared, "fail", 1)["lambada"]
    assert read == [("EleutherAI/lambada_openai", "default", "test")] and task.shots() is task.examples(
        "test"
    )


def test_own_rows_are_the_shots_of_a_file(tmp_path: Path) -> None:
    """Without fewshot_path; the layout's number of shots is the default, the entry's comes before the run's."""
    path = write_rows(tmp_path / "rows.jsonl", ROWS["gsm8k"])
    declared = [{"name": "a", "path": path, "layout": "gsm8k"}]
    ((task, _),) = public_tasks([], declared, "fail", None).values()
    assert task.num_fewshot == 5 and task.shots() == task.examples("test")
    assert public_tasks([], declared, "fail", 2)["a"][0].num_fewshot == 2
    declared[0]["num_fewshot"] = 1
    assert public_tasks([], declared, "fail", 2)["a"][0].num_fewshot == 1


def bad(**changes) -> dict:
    return {"name": "mine", "layout": "arc_easy", "path": "rows.jsonl", **changes}


ARC = ROWS["arc_easy"]
WRONG = [
    (bad(layout="helaswag"), ARC, user_error("unknown_layout", name="helaswag")),
    (bad(layout="hellaswag"), ARC, user_error("too_many_bad_rows")),
    (
        bad(layout="blimp", num_fewshot=2),
        ROWS["blimp"],
        user_error("no_shots", layout="blimp", num_fewshot=2),
    ),
    (
        bad(layout="lambada", path="EleutherAI/lambada_openai", num_fewshot=1),
        ARC,
        user_error("no_shots", layout="lambada"),
    ),
    (bad(layout="entity_tracking", path=None), ARC, user_error("setting_missing", setting="path")),
    (
        bad(fewshot_split="train", num_fewshot=1),
        ARC,
        user_error("setting_without_effect", setting="fewshot_split"),
    ),
    (bad(columns={"question": "q"}), ARC, user_error("setting_without_effect", setting="columns")),
    (bad(num_fewshot=-1), ARC, user_error("wrong_value", setting="num_fewshot", value=-1)),
    (bad(fewshot_path=7), ARC, user_error("wrong_value", setting="fewshot_path", value=7)),
    (bad(num_fewshots=1), ARC, user_error("unknown_key", key="num_fewshots")),
    (bad(), [{**ARC[0], "answerKey": "E"}], user_error("too_many_bad_rows")),
    (bad(layout="mmlu"), [{**ROWS["mmlu"][0], "answer": -1}], user_error("too_many_bad_rows")),
    (bad(layout="piqa"), [{**ROWS["piqa"][0], "sol2": ""}], user_error("too_many_bad_rows")),
    (bad(), [{**ARC[0], "choices": "dogs, cats"}], user_error("too_many_bad_rows")),
    (bad(layout="lambada"), [{"text": " "}], user_error("too_many_bad_rows")),
]


@pytest.mark.parametrize(("entry", "rows", "expected"), WRONG)
def test_wrong_input_is_one_line(entry, rows, expected, tmp_path, monkeypatch) -> None:
    """The name, key, row or number that is wrong."""
    monkeypatch.chdir(tmp_path)
    write_rows(Path("rows.jsonl"), rows)
    with expected:
        public_tasks([], [entry], "skip", None)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    """And the columns that are there."""
    path = write_rows(tmp_path / "rows.jsonl", [{"goal": "Cut it", "sol1": "a", "label": 0}])
    with user_error("too_many_bad_rows", "'sol2'", "goal, sol1, label"):
        public_tasks([], [{"name": "x", "layout": "piqa", "path": path}], "skip", None)


def test_the_guide_lists_all_layouts() -> None:
    """The table of docs/how-to/public-benchmarks.md: name, Hub dataset, split, scores, shots."""
    page = (Path(public.__file__).parents[3] / "docs" / "how-to" / "public-benchmarks.md").read_text(
        encoding="utf-8"
    )
    section = page.partition("# Public benchmarks")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", section, re.M))
    assert set(rows) == set(LAYOUTS)
    for name, layout in LAYOUTS.items():
        dataset, split, scores, shots = (cell.strip() for cell in rows[name].split(" | "))
        assert dataset == (f"`{layout.path}`" if layout.path else "your file")
        assert split == (layout.split if layout.path else "")
        example = Example("Q", ("a",), "k", "k", ("a", "b"), 0)
        task = Task("t", lambda split: [], **public.task_settings(layout))
        found = task.rate([-1.0, -2.0], example) if task.rate else task.score("", example)
        assert scores == ", ".join([*found, *(["perplexity"] if layout.form == "cloze" else [])])
        takes = layout.shots_split or ("name one" if layout.path else "own rows")
        takes = takes if layout.takes_shots else "none"
        default = f"{layout.num_fewshot} from {takes}" if layout.num_fewshot else takes
        assert shots == default
