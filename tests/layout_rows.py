# SPDX-License-Identifier: Apache-2.0
"""Rows of our own in the layouts of public benchmarks: by layout, those to ask and those to show before them."""

import json
from pathlib import Path
from typing import Any

from scratch_gpt.evaluation.benchmarks import qa
from scratch_gpt.evaluation.benchmarks.layouts import LAYOUTS
from scratch_gpt.evaluation.benchmarks.public import public_tasks
from scratch_gpt.evaluation.harness import EvalArguments
from scratch_gpt.tasks.task import Task


Row = dict[str, Any]
COUNT, SHOTS = 6, 5


def _arc(n: int) -> Row:
    return {
        "id": f"a{n}",
        "question": f"Which of these are {n} animals?",
        "choices": {"text": ["dogs", "red", "a long hat in the sun", "café"], "label": list("ABCD")},
        "answerKey": "ABCD"[n % 4],
    }


def _truthful(n: int) -> Row:
    return {
        "question": f"Can {n} dogs talk?",
        "mc1_targets": {"choices": ["No, they bark.", "Yes.", "On Sundays only."], "labels": [1, 0, 0]},
        "mc2_targets": {
            "choices": ["A.", "B.", "C.", "D."],
            "labels": [1, 1, 0, 0],
        },
    }


MAKERS = {
    "hellaswag": lambda n: {
        "activity_label": f"Game {n}",
        "ctx_a": "A man [title] has a ball.",
        "ctx_b": "the man",
        "endings": ["throws it away.", "eats it.", "is a red ball of Lily [step] now.", "naïf"],
        "label": str(n % 4),
    },
    "arc_easy": _arc,
    "arc_challenge": _arc,
    "piqa": lambda n: {
        "goal": f"Open jar {n} ",
        "sol1": "turn the lid.",
        "sol2": "sleep on it for a day.",
        "label": n % 2,
    },
    "openbookqa": lambda n: {
        "id": str(n),
        "question_stem": f"The sun on day {n} is",
        "choices": {"text": ["warm", "a small dog", "cold and far away"], "label": list("ABC")},
        "answerKey": "ABC"[n % 3],
    },
    "boolq": lambda n: {
        "passage": f"Tom has {n} hats.",
        "question": f"does Tom have {n + n % 2} hats",
        "idx": n,
        "label": 1 - n % 2,
    },
    "copa": lambda n: {
        "premise": f"The {n} men ran. ",
        "choice1": "A dog came.",
        "choice2": "They were red hats.",
        "question": ("cause", "effect")[n % 2],
        "idx": n,
        "label": n % 2,
    },
    "winogrande": lambda n: {
        "sentence": f"The ball {n} did not fit the bag as the _ was too big.",
        "option1": "ball",
        "option2": "little old bag",
        "answer": "12"[n % 2],
    },
    "mmlu": lambda n: {
        "question": f" How many hearts have {n} dogs? ",
        "subject": "college_biology",
        "choices": [str(n), str(2 * n), "none", "four hearts"],
        "answer": n % 4,
    },
    "truthfulqa_mc1": _truthful,
    "truthfulqa_mc2": _truthful,
    "blimp": lambda n: {
        "sentence_good": f"The {n} dogs sleep.",
        "sentence_bad": f"Dogs the {n} sleep.",
        "UID": ("island", "number")[n % 2],
    },
    "lambada": lambda n: {"text": f"Lily has a red ball and {n} dogs. She likes her ball"},
    "gsm8k": lambda n: {
        "question": f"Tom has {n} hats and buys 1. How many has he?",
        "answer": f"He has {n} + 1 = {n + 1}.\n#### {n + 1}",
    },
    "ewok": lambda n: {
        "Domain": ("agents", "space")[n % 2],
        "Context1": f"Ali sees {n} balls.",
        "Context2": f"Ali sees no {n} balls.",
        "Target1": "Ali looks at balls.",
        "Target2": "Ali looks at nothing.",
    },
    "entity_tracking": lambda n: {
        "input_prefix": f"Box 0 contains the hat. Move the hat to Box {n}. Box {n} contains",
        "options": [" the hat", " nothing", " the ball"],
        "numops": n % 2,
    },
}
ROWS: dict[str, list[Row]] = {name: [make(n) for n in range(COUNT)] for name, make in MAKERS.items()}
SHOWN: dict[str, list[Row]] = {name: [make(n + 10) for n in range(SHOTS)] for name, make in MAKERS.items()}


def write_rows(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def entry_of(name: str, folder: Path, num_fewshot: int = 0) -> dict:
    return {
        "name": f"my_{name}",
        "layout": name,
        "path": write_rows(folder / f"{name}.test.jsonl", ROWS[name]),
        "fewshot_path": write_rows(folder / f"{name}.train.jsonl", SHOWN[name]),
        "num_fewshot": num_fewshot if LAYOUTS[name].takes_shots else 0,
    }


def task_of(name: str, folder: Path, num_fewshot: int = 0) -> Task:
    ((task, _),) = public_tasks([], [entry_of(name, folder, num_fewshot)], "fail", None).values()
    return task


def ask(model, tokenizer, task: Task, folder, **settings) -> dict:
    arguments = EvalArguments(model=[str(folder)], max_new_tokens=256, seed=1234)
    return qa.evaluate_questions(model, tokenizer, task, task.examples("test"), arguments, **settings)
