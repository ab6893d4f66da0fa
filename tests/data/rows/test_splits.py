# SPDX-License-Identifier: Apache-2.0
"""Train, dev and test rows of all sources, and what is left out for its length."""

import json
from pathlib import Path
from typing import Any

import pytest

from scratch_gpt import primer
from scratch_gpt.data.rows.conversations import instruction_rows
from scratch_gpt.data.rows.preferences import feedback_rows
from scratch_gpt.data.rows.splits import check_held_out, drop_long_rows, read_splits, report_repeats
from scratch_gpt.runs.folders import write_run_yaml
from scratch_gpt.training.posttrain.arguments import SFTArguments
from wording import shows, user_error


def arguments(sources: list[dict[str, Any]], **settings: Any) -> SFTArguments:
    return SFTArguments(model_name_or_path="base", output_dir="out", sources=sources, **settings)


def questions(path: Path, count: int) -> dict[str, str]:
    rows = [{"question": f"What is {n} plus one?", "answer": f"It is {n + 1}."} for n in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return {"name": "sums", "path": str(path)}


def asked(rows: list[dict[str, Any]]) -> set[str]:
    return {row["messages"][0]["content"] for row in rows}


def test_file_rows_are_divided_by_question(tmp_path: Path) -> None:
    """Each row comes to one split, dev and test have the asked share, and a question stands on one side alone."""
    source = questions(tmp_path / "a.jsonl", 2000)
    splits = read_splits(instruction_rows, arguments([source], held_out_fraction=0.1))
    sizes = {split: len(rows) for split, rows in splits.items()}
    assert sum(sizes.values()) == 2000
    assert 150 < sizes["dev"] < 250 and 150 < sizes["test"] < 250
    assert not asked(splits["train"]) & asked(splits["dev"])
    assert not asked(splits["test"]) & (asked(splits["train"]) | asked(splits["dev"]))


def test_both_answers_of_a_pair_are_held_out(tmp_path: Path) -> None:
    """They have one place and are two rows; a weight's second copy is no row of the held-out splits."""
    path = tmp_path / "pairs.jsonl"
    pairs = [{"prompt": f"What is {n}?", "chosen": "A number.", "rejected": "No."} for n in range(100)]
    path.write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")
    splits = read_splits(feedback_rows, arguments([{"name": "p", "path": str(path), "weight": 2}]))
    for split, copies in (("train", 2), ("dev", 1), ("test", 1)):
        answers = [(row["place"], row["label"]) for row in splits[split]]
        assert len(answers) == copies * len(set(answers)) > 0
        assert sum(label for _, label in answers) == len(answers) / 2


def test_tools_are_a_column_of_all_rows_or_of_none(tmp_path: Path) -> None:
    """`Dataset.from_list` takes the columns of the first row alone: definitions of later rows would be lost."""
    source = questions(tmp_path / "a.jsonl", 100)
    path = tmp_path / "b.jsonl"
    chat = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
    path.write_text(json.dumps({"messages": chat, "tools": [{"name": "f"}]}) + "\n", encoding="utf-8")
    plain = read_splits(instruction_rows, arguments([source]))
    assert not any("tools" in row for rows in plain.values() for row in rows)
    mixed = read_splits(instruction_rows, arguments([source, {"name": "b", "path": str(path)}]))
    rows = [row for split in mixed.values() for row in split]
    assert [row["tools"] is not None for row in rows].count(True) == 1 and len(rows) == 101


def test_held_out_is_held_out_in_every_stage(tmp_path: Path) -> None:
    """With the same seed, another file with the same questions puts each of them on the same side."""
    one = read_splits(instruction_rows, arguments([questions(tmp_path / "a.jsonl", 300)]))
    other = read_splits(instruction_rows, arguments([questions(tmp_path / "b.jsonl", 200)]))
    assert asked(other["test"]) <= asked(one["test"])
    assert asked(other["dev"]) <= asked(one["dev"])


def test_dev_of_one_seed_is_not_test_of_another(tmp_path: Path) -> None:
    """What settings are chosen on under one seed is no more of another seed's test split than chance puts there."""
    source = questions(tmp_path / "a.jsonl", 1000)
    splits = [
        read_splits(instruction_rows, arguments([source], seed=seed, held_out_fraction=0.1))
        for seed in (0, 1)
    ]
    dev, test = asked(splits[0]["dev"]), asked(splits[1]["test"])
    assert len(dev & test) < 0.3 * len(dev)
    assert len(asked(splits[0]["train"]) & test) > 0.6 * len(test)


def test_a_model_is_not_asked_what_it_learned(tmp_path: Path) -> None:
    """Of a file that it was trained on, only rows that were held out then; of the primer, other files and splits any."""
    mine = questions(tmp_path / "a.jsonl", 10)
    other = {**questions(tmp_path / "b.jsonl", 10), "name": "other"}
    embedded = {"name": "primer", "path": "primer"}
    hub = {"name": "hub", "path": "user/questions"}
    write_run_yaml(arguments([mine, embedded, hub], seed=3, held_out_fraction=0.1), tmp_path)
    check_held_out(tmp_path, [{**hub, "split": "test"}], 0, 0.2)
    with user_error("trained_on_rows", "user/questions", setting="seed", value=3):
        check_held_out(tmp_path, [{**hub, "split": "train"}], 0, 0.1)
    check_held_out(tmp_path, [other, mine], 3, 0.1)
    check_held_out(tmp_path, [mine], 3, 0.05)
    check_held_out(tmp_path, [other, embedded], 0, 0.2)
    check_held_out(tmp_path / "of nobody knows", [mine], 0, 0.2)
    with user_error("trained_on_rows", "a.jsonl", "--seed 3", setting="seed", value=3):
        check_held_out(tmp_path, [other, mine], 0, 0.1)
    with user_error("trained_on_rows", "--held_out_fraction 0.1", setting="held_out_fraction", value=0.1):
        check_held_out(tmp_path, [mine], 3, 0.2)
    rows = {
        fraction: asked(
            read_splits(
                instruction_rows,
                arguments([questions(tmp_path / "c.jsonl", 500)], held_out_fraction=fraction),
            )["test"]
        )
        for fraction in (0.05, 0.1)
    }
    assert rows[0.05] < rows[0.1]


def test_the_primer_brings_its_own_splits(tmp_path: Path) -> None:
    """A mixture has the primer's rows of each split, and a file's share beside them."""
    source = questions(tmp_path / "a.jsonl", 100)
    splits = read_splits(instruction_rows, arguments([{"name": "primer", "path": "primer"}, source]))
    for split, rows in splits.items():
        expected = {row["messages"][0]["content"] for row in primer.instructions(split)}
        assert asked([row for row in rows if row["source"] == "primer"]) == expected
        assert any(row["source"] == "sums" for row in rows)


def test_too_few_rows_for_a_split(tmp_path: Path) -> None:
    """A file from which nothing can be held out is refused with the cure."""
    settings = arguments([questions(tmp_path / "a.jsonl", 2)])
    with user_error("split_empty", "held_out_fraction", split="test"):
        read_splits(instruction_rows, settings)
    with user_error("split_empty", "0 trains", split="test"):
        read_splits(instruction_rows, settings, allow_no_held_out=True)


def test_all_rows_train_where_the_user_says_so(tmp_path: Path) -> None:
    """With a fraction of 0 and where a stage can; the primer's own splits stay, and a benchmark asks for rows."""
    nothing = arguments([questions(tmp_path / "a.jsonl", 12)], held_out_fraction=0, eval_strategy="epoch")
    assert nothing.eval_strategy == "no"
    splits = read_splits(instruction_rows, nothing, allow_no_held_out=True)
    assert {split: len(rows) for split, rows in splits.items()} == {"train": 12, "dev": 0, "test": 0}
    assert drop_long_rows(splits, lambda row: {**row, "length": 1}, 1, nothing) | {"train": 0} == {
        "train": 0,
        "dev": [],
        "test": [],
    }
    with user_error("split_empty", split="dev"):
        read_splits(instruction_rows, nothing)
    embedded = arguments([{"name": "p", "path": "primer"}], held_out_fraction=0, eval_strategy="epoch")
    assert embedded.eval_strategy == "epoch"
    assert all(read_splits(instruction_rows, embedded, allow_no_held_out=True).values())
    with user_error("wrong_value", setting="held_out_fraction", value=0.5):
        arguments([{"name": "p", "path": "primer"}], held_out_fraction=0.5)


def test_long_rows_are_left_out_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A row of exactly the allowed length stays; a longer one goes, and the first is named; `fail` stops there."""
    rows = [{"text": "a" * length, "place": f"f:{length}"} for length in (1, 40, 80, 90)]

    def measure(row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "length": len(row["text"])}

    settings = arguments([questions(tmp_path / "a.jsonl", 2)])
    kept = drop_long_rows({"train": rows}, measure, 40, settings)
    assert kept == {"train": [measure(row) for row in rows[:2]]}
    assert shows(capsys.readouterr().out, "train: 2 rows", "2 over 40 tokens", "f:80 has 80")
    with user_error("rows_too_long", "4 dev", limit=0):
        drop_long_rows({"dev": rows}, measure, 0, settings)
    with user_error("too_long", "f:80", "on_bad_row", length=80, limit=40):
        drop_long_rows({"train": rows}, measure, 40, arguments(settings.sources, on_bad_row="fail"))


def test_fewer_rows_to_train_on_are_among_more(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A learning curve adds rows and takes none away, of those that fit; what is held out stays as it is."""
    source = questions(tmp_path / "a.jsonl", 300)

    def measure(row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "length": len(row["messages"][0]["content"])}  # of 100 questions at most 20

    splits = {}
    for count in (20, 50, None):
        settings = arguments([source], max_train_samples=count)
        splits[count] = drop_long_rows(read_splits(instruction_rows, settings), measure, 20, settings)
    fitting = len(splits[None]["train"])
    assert 80 < fitting <= 100
    assert f"train: 50 of {fitting} rows (" in capsys.readouterr().out
    assert len(splits[20]["train"]) == 20 and len(splits[50]["train"]) == 50
    assert asked(splits[20]["train"]) < asked(splits[50]["train"]) < asked(splits[None]["train"])
    assert splits[20]["test"] == splits[None]["test"] and splits[20]["dev"] == splits[None]["dev"]


def test_a_weight_repeats_training_rows_alone(tmp_path: Path) -> None:
    """Held-out rows stand once whatever the weight, also where two sources read one file; training rows repeat."""
    source = {**questions(tmp_path / "a.jsonl", 300), "weight": 2.5}
    plain = {**source, "name": "plain", "weight": 1}
    once = read_splits(instruction_rows, arguments([plain]))
    splits = read_splits(
        instruction_rows, arguments([source, plain, {"name": "primer", "path": "primer", "weight": 2}])
    )
    for split in ("dev", "test"):
        mine, others, primers = (
            [row["messages"] for row in splits[split] if row["source"] == name]
            for name in ("sums", "plain", "primer")
        )
        assert mine == others == [row["messages"] for row in once[split]]
        assert primers == [row["messages"] for row in primer.instructions(split)]
    of_file = [row for row in splits["train"] if row["source"] == "sums"]
    assert len(of_file) > 2.3 * len(once["train"])


def test_repeated_rows_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file with the same rows twice is used, and that is said."""
    source = questions(tmp_path / "a.jsonl", 200)
    path = Path(source["path"])
    path.write_text(path.read_text() * 2)
    read_splits(instruction_rows, arguments([source]))
    assert shows(capsys.readouterr().out, "sums: duplicate", ": 200,")


def conversation(place, question, answer, source="s"):
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": messages, "source": source, "kind": "k", "place": f"f:{place}"}


def pair(place, question, chosen, rejected):
    sides = {"chosen": chosen, "rejected": rejected}
    answers = {side: [{"role": "assistant", "content": text}] for side, text in sides.items()}
    prompt = [{"role": "user", "content": question}]
    return {"prompt": prompt, **answers, "source": "s", "kind": "k", "place": f"f:{place}"}


def test_repeated_and_contradictory_conversations():
    """Equal rows, and equal questions with another answer, are counted apart, each with its first case."""
    rows = [
        conversation(1, "Q", "A"),
        conversation(2, "P", "A"),
        conversation(3, "Q", "A"),
        conversation(4, "Q", "B"),
        conversation(5, "Q", "A"),
    ]
    duplicates, contradictions = report_repeats(rows)
    assert shows(duplicates, "s: duplicate", ": 2,", "f:3 and f:1")
    assert shows(contradictions, "s: same question", ": 1,", "f:4 and f:1")


def test_a_row_that_a_weight_repeats_is_one_row():
    """So is the same row in two sources: a mixture may want it."""
    row = conversation(1, "Q", "A")
    assert report_repeats([row, row, conversation(1, "Q", "A", source="other")]) == []


def test_repeated_and_contradictory_pairs():
    """A pair with its sides swapped contradicts; another rejected answer does not."""
    rows = [pair(1, "Q", "a", "b"), pair(2, "Q", "b", "a"), pair(3, "Q", "a", "c"), pair(4, "Q", "a", "b")]
    contradictions, duplicates = report_repeats(rows)
    assert shows(contradictions, "s: prefers", ": 1,", "f:2 and f:1")
    assert shows(duplicates, "s: duplicate", ": 1,", "f:4 and f:1")
