# SPDX-License-Identifier: Apache-2.0
"""The benchmark scripts, run as a user runs them, on a tiny untrained model."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
import yaml
from layout_rows import ROWS
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

import scratch_gpt
from scratch_gpt.data.shards.arguments import ShardsArguments
from scratch_gpt.data.shards.writing import write_shards
from scratch_gpt.evaluation import harness
from scratch_gpt.evaluation.benchmarks import contamination, qa
from scratch_gpt.settings.parsing import parse, run_stage
from scratch_gpt.tokenization import train_tokenizer
from wording import user_error


ROOT = Path(scratch_gpt.__file__).parents[1]
ARGUMENTS = {
    "qa": "QAArguments",
    "translation": "TranslationArguments",
    "generation": "GenerationArguments",
    "contamination": "ContaminationArguments",
    "alignment": "AlignmentArguments",
    "instructions": "InstructionArguments",
    "baselines": "BaselineArguments",
}


def load_script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"eval_{name}", ROOT / "eval" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    # dataclasses look their module up
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def run(name: str, *args: str) -> None:
    script = load_script(name)
    script.main(parse(getattr(script, ARGUMENTS[name]), list(args)))


def read(folder: Path, name: str) -> dict:
    return json.loads((folder / "results" / f"{name}.json").read_text())


def test_qa_answers_all_tasks(chat_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The config's tasks are asked; every metric has a value, an interval around it and a chance level or none."""
    config = str(ROOT / "eval/configs/qa.yaml")
    run("qa", "--config", config, "--model", str(chat_folder), "--limit", "4", "--max_new_tokens", "4")
    result = read(chat_folder, "qa")
    assert result["task"] == "qa"
    assert result["n"] == 20
    names = {
        "facts/exact_match",
        "facts/continues_with_question",
        "choices/accuracy",
        "sums/last_number",
        "reading/f1",
    }
    assert names <= set(result["metrics"])
    for metric in result["metrics"].values():
        required = {"value", "ci95", "chance", "n"}
        assert required <= set(metric) <= required | {"baselines", "clusters"}
        assert metric["ci95"][0] <= metric["value"] <= metric["ci95"][1]
    output = capsys.readouterr().out
    assert all(name in output for name in names)


def test_the_same_seed_gives_the_same_result(base_folder: Path, tmp_path: Path) -> None:
    """Two runs at temperature 1 write the same file."""
    files = []
    for name in ("one.json", "two.json"):
        settings = ["--tasks", "facts", "--limit", "4", "--temperature", "1", "--max_new_tokens", "8"]
        run("qa", "--model", str(base_folder), "--output", str(tmp_path / name), *settings)
        files.append((tmp_path / name).read_text())
    assert files[0] == files[1]


def test_qa_takes_a_users_file(base_folder: Path, tmp_path: Path) -> None:
    """A file of sums is scored by the last number; its tasks are not mixed with those of the embedded corpus."""
    file = tmp_path / "sums.jsonl"
    file.write_text(
        '{"question": "1 + 1?", "answer": "So #### 2"}\n{"question": "1 + 2?", "answer": "#### 3"}\n'
    )
    sources = json.dumps([{"name": "gsm", "path": str(file)}])
    settings = ["--sources", sources, "--score", "number", "--max_new_tokens", "4"]
    run("qa", "--model", str(base_folder), *settings)
    result = read(base_folder, "qa")
    assert set(result["metrics"]) == {"gsm/last_number", "gsm/continues_with_question"}
    assert result["metrics"]["gsm/last_number"]["chance"] == 0.5
    assert result["settings"]["examples"] == {"gsm": 2}


def test_qa_shows_examples_and_notes_them(chat_folder: Path, tmp_path: Path, monkeypatch) -> None:
    """Tasks of the corpus, own rows and a layout with shots; what is wrong is said before any model is loaded."""
    (tmp_path / "piqa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS["piqa"]))
    sums = [{"question": f"1 + {number}?", "answer": str(1 + number)} for number in range(4)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in sums))
    sources = [
        {"name": "jars", "path": str(tmp_path / "piqa.jsonl"), "layout": "piqa", "num_fewshot": 1},
        {"name": "sums_of_mine", "path": str(tmp_path / "sums.jsonl")},
    ]
    asked = [
        "--model",
        str(chat_folder),
        "--sources",
        json.dumps(sources),
        "--tasks",
        "facts",
        "--limit",
        "2",
    ]
    run("qa", *asked, "--num_fewshot", "3", "--apply_chat_template", "true", "--max_new_tokens", "2")
    result = read(chat_folder, "qa")
    assert result["settings"]["num_fewshot"] == 3 and result["settings"]["apply_chat_template"] is True
    noted = result["settings"]["benchmarks"]["jars"]
    assert (noted["num_fewshot"], noted["apply_chat_template"], noted["revision"]) == (1, True, None)
    assert result["metrics"]["jars/acc_norm"]["chance"] == 0.5
    assert {"facts/f1", "sums_of_mine/f1"} <= set(result["metrics"])
    monkeypatch.setattr(harness, "load_model", lambda *folder, **kind: pytest.fail("a model was loaded"))
    twice, parted = (json.dumps([{**sources[0], "name": name}]) for name in ("facts", "a/b"))
    for wrong, expected in (
        (["--num_fewshot", "4"], user_error("too_few_shots", task="sums_of_mine", num_fewshot=4, found=3)),
        (["--num_fewshot", "-1"], user_error("wrong_value", setting="num_fewshot", value=-1)),
        (["--sources", twice], user_error("duplicate_name", name="facts")),
        (["--sources", parted], user_error("wrong_name", name="a/b")),
        (["--tasks", "hellaswags"], user_error("unknown_layout", "hellaswag?", name="hellaswags")),
    ):
        with expected:
            run("qa", *asked, *wrong)


def test_translation_of_the_corpus_and_of_a_users_file(
    chat_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user's sentences are put in the instruction, and copying them is the baseline."""
    file = tmp_path / "pairs.jsonl"
    file.write_text(
        '{"en": "the small hat", "de": "the small hat"}\n{"en": "a dog sleeps here", "de": "ein Hund schläft hier"}\n'
    )
    words = {
        "the": "the",
        "small": "small",
        "hat": "hat",
        "a": "ein",
        "dog": "Hund",
        "sleeps": "schläft",
        "here": "hier",
    }
    rows = [json.dumps({"en": english, "de": german}) for english, german in words.items()]
    (tmp_path / "words.jsonl").write_text("\n".join(rows))
    sources = json.dumps([{"name": "mine", "path": str(file), "columns": {"source": "en", "target": "de"}}])
    asked: list[str] = []
    real = qa.generate_answers

    def generate(model, tokenizer, prompts, **settings):
        asked.extend(prompts)
        return real(model, tokenizer, prompts, **settings)

    monkeypatch.setattr(qa, "generate_answers", generate)
    settings = [
        "--sources",
        sources,
        "--instruction",
        "In {target_language}: {source}",
        "--training_pairs",
        sources.replace("pairs.jsonl", "words.jsonl"),
        "--tasks",
        "translation",
        "--limit",
        "2",
    ]
    run("translation", "--model", str(chat_folder), "--max_new_tokens", "4", *settings)
    result = read(chat_folder, "translation")
    assert asked[2:] == ["In German: the small hat", "In German: a dog sleeps here"]
    assert result["metrics"]["mine/exact_match"]["chance"] == 0.5
    assert result["metrics"]["mine/bleu"]["baselines"]["word_by_word"] == pytest.approx(100)
    assert {"translation/bleu", "translation/chrf", "mine/bleu"} <= set(result["metrics"])
    assert result["settings"]["signatures"]["mine/bleu"].startswith("nrefs:1|")


def test_generation_measures_text_and_stories(base_folder: Path, tmp_path: Path) -> None:
    """Bits per byte of a user's text, and endings of stories where they are asked for."""
    (tmp_path / "book.txt").write_text("The dog sleeps.\n\nThe cat drinks milk.\n")
    sources = json.dumps([{"name": "book", "path": str(tmp_path / "book.txt")}])
    run("generation", "--model", str(base_folder), "--sources", sources)
    assert set(read(base_folder, "generation")["metrics"]) == {"book/bits_per_byte"}
    run(
        "generation",
        "--model",
        str(base_folder),
        "--tasks",
        "stories",
        "--limit",
        "3",
        "--max_new_tokens",
        "4",
    )
    assert {"stories/greedy_coherence", "stories/sampled_distinct_2"} <= set(
        read(base_folder, "generation")["metrics"]
    )


HAND_WRITTEN = {
    "pairs": [{"sentence_good": "The dog sleeps.", "sentence_bad": "The dog sleep.", "UID": "number"}],
    "last": [{"text": "Tom has a red ball"}, {"text": "Lily has a hat"}],
    "choice": [{"question": "Hot?", "choices": ["ice", "fire"], "answer": 1}],
    "summary": [{"document": "A dog slept. It rained.", "summary": "A dog slept."}],
}


def test_qa_takes_files_of_every_layout(chat_folder: Path, tmp_path: Path) -> None:
    """Four files in one run: each is scored as its columns say."""
    sources = []
    for name, rows in HAND_WRITTEN.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        sources.append({"name": name, "path": str(tmp_path / f"{name}.jsonl")})
    run("qa", "--model", str(chat_folder), "--sources", json.dumps(sources), "--max_new_tokens", "4")
    metrics = read(chat_folder, "qa")["metrics"]
    names = {"pairs/accuracy", "last/accuracy", "last/perplexity", "choice/accuracy", "summary/rouge_l"}
    assert names <= set(metrics)
    assert metrics["pairs/accuracy"]["chance"] == metrics["choice/accuracy"]["chance"] == 0.5
    assert metrics["summary/rouge_l"]["baselines"]["lead"] > 0.5
    items = [
        json.loads(line) for line in (chat_folder / "results" / "qa.items.jsonl").read_text().splitlines()
    ]
    assert names <= {item["metric"] for item in items}


def test_contamination_finds_what_the_training_text_holds(
    base_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shards of a text that holds one of two questions: half of the items, the worst one shown; mistakes cost no pass."""
    seen = "where does the small old dog of Lily sleep when it rains on the hill? in the house"
    others = "".join(f"Other text number {number} here.\n\n" for number in range(40))
    (tmp_path / "text.txt").write_text(f"A cat. She asked {seen} of Tom.\n\n{others}")
    sources = json.dumps([{"name": "t", "path": str(tmp_path / "text.txt"), "filters": False}])
    shards = ["--tokenizer", str(base_folder), "--output_dir", str(tmp_path / "shards"), "--sources", sources]
    shards += ["--sequence_length", "64", "--validation_fraction", "0.3"]
    write_shards(parse(ShardsArguments, shards))
    question, answer = seen.split("? ")
    rows = [
        {"question": question + "?", "answer": answer},
        {"question": question[::-1] + "?", "answer": answer},
    ]
    (tmp_path / "qa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sources = json.dumps([{"name": "mine", "path": str(tmp_path / "qa.jsonl")}])
    place = ["--shards", str(tmp_path / "shards" / "train"), "--tokenizer", str(base_folder)]
    capsys.readouterr()
    run("contamination", *place, "--sources", sources, "--output", str(tmp_path / "c.json"))
    result = json.loads((tmp_path / "c.json").read_text())
    assert result["metrics"]["mine/contaminated"]["value"] == 0.5
    assert result["metrics"]["mine/overlap"]["value"] == 0.5
    assert [item["item"] for item in result["settings"]["worst"]] == [f"{question}? {answer}"]
    assert "100% of mine" in capsys.readouterr().out
    monkeypatch.setattr(contamination, "shard_documents", lambda *read: pytest.fail("the text was read"))
    (tmp_path / "short.jsonl").write_text('{"question": "Who?", "answer": "Tom"}\n')
    short = json.dumps([{"name": "short", "path": str(tmp_path / "short.jsonl")}])
    for wrong, expected in (
        (["--sources", short], user_error("items_too_short", 8, task="short")),
        (["--model", "x"], user_error("trained_on_other_shards", folder="x")),
    ):
        with expected:
            run("contamination", *place, "--sources", sources, *wrong)


@pytest.mark.parametrize(
    "config",
    [
        "qa",
        "qa_file",
        "qa_public",
        "translation",
        "translation_file",
        "generation",
        "generation_file",
    ],
)
def test_the_shipped_configs_are_understood(config: str, base_folder: Path) -> None:
    """Every key of a benchmark's configs is known, and every task in them exists."""
    name = config.removesuffix("_file").removesuffix("_public")
    script = load_script(name)
    for path in [ROOT / "eval" / "configs" / f"{config}.yaml"]:
        arguments = parse(
            getattr(script, ARGUMENTS[name]), ["--config", str(path), "--model", str(base_folder)]
        )
        declared = yaml.safe_load(path.read_text())
        assert {key: getattr(arguments, key) for key in declared} == declared


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("qa", ["--model", "gone"], "no model in gone"),
        ("qa", ["--tasks", "riddles"], "'riddles'"),
        ("qa", ["--score", "points"], "score must be answer or number, got 'points'"),
        ("qa", ["--sources", '[{"name": "x", "path": "gone.jsonl"}]'], "no file gone.jsonl"),
        ("translation", ["--instruction", "Translate:"], "instruction must hold {source}"),
        ("generation", ["--shards", "gone"], "no complete shards in gone"),
        ("generation", ["--prompt_words", "0"], "prompt_words must be at least 1, got 0"),
        ("alignment", ["--num_beams", "2"], "num_beams"),
    ],
)
def test_a_users_mistake_is_one_line(
    name: str,
    args: list[str],
    message: str,
    base_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit status 2, one line on standard error, no traceback, no result file."""
    script = load_script(name)
    model = [] if "--model" in args else ["--model", str(base_folder)]
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *model, *args])
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        run_stage(script.main, getattr(script, ARGUMENTS[name]))
    assert stopped.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert message in lines[-1]
    assert lines[-1].startswith("error: ")
    assert not (base_folder / "results").exists()


def test_baselines_are_those_of_an_evaluation(tmp_path: Path) -> None:
    """A folder of another stage has none: its log knows no bits per byte."""
    (tmp_path / "log.jsonl").write_text('{"step": 1, "eval_loss": 2.0}\n')
    with user_error("evaluation_missing", folder=tmp_path):
        run("baselines", "--shards", "shards", "--model", str(tmp_path))


def test_alignment_compares_models_and_best_of_n(
    chat_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each folder gets its result, the first is compared with itself, and best of n stands beside it."""
    reward, other = tmp_path / "reward", tmp_path / "other"
    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_pretrained(chat_folder, num_labels=1)
    torch.nn.init.normal_(model.score.weight, std=1.0)
    model.save_pretrained(reward)
    AutoTokenizer.from_pretrained(chat_folder).save_pretrained(reward)
    shutil.copytree(chat_folder, other)
    args = ["--model", str(chat_folder), str(other), "--reward_model", str(reward), "--best_of_n", "4"]
    run("alignment", *args, "--limit", "8", "--max_new_tokens", "6")
    first, second = read(chat_folder, "alignment"), read(other, "alignment")
    best = read(chat_folder, "alignment_best_of_4")
    assert first["n"] == second["n"] == best["n"] == 8
    for name, metric in first["metrics"].items():
        assert second["metrics"][name] == metric  # the same weights
    assert first["metrics"]["temperature_1/kl"]["value"] == 0.0
    assert first["metrics"]["greedy/reward_win_rate"]["value"] == 0.5
    assert {"default/gold", "greedy/gold", "temperature_1/distinct_2", "temperature_1/loops"} <= set(
        first["metrics"]
    )
    of_best = best["metrics"]
    assert of_best["temperature_1/reward"]["value"] > first["metrics"]["temperature_1/reward"]["value"]
    assert of_best["temperature_1/reward_win_rate"]["value"] > 0.5
    assert of_best["default/reward"]["value"] > first["metrics"]["default/reward"]["value"]
    assert not any(name.startswith("greedy/") for name in of_best)
    assert "best of 4" in capsys.readouterr().out


def test_alignment_of_several_seeds(
    chat_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each seed's folder gets its own result, on the prompts that its seed holds out; the table has means and spreads."""
    for seed in (0, 1):
        shutil.copytree(chat_folder, tmp_path / f"seed{seed}" / "chat")
    folder = str(tmp_path / "seed{seed}" / "chat")
    run("alignment", "--model", folder, "--seeds", "0", "1", "--limit", "4", "--max_new_tokens", "4")
    results = [read(tmp_path / f"seed{seed}" / "chat", "alignment") for seed in (0, 1)]
    assert [result["seed"] for result in results] == [0, 1]
    entropies = [result["metrics"]["temperature_1/entropy"]["value"] for result in results]
    assert entropies[0] != entropies[1]
    shown = next(line for line in capsys.readouterr().out.splitlines() if "temperature_1/entropy" in line)
    assert f"{sum(entropies) / 2:.3f} ± " in shown


def test_instructions_of_a_base_and_a_chat_model(
    base_folder: Path, chat_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both have a loss, of the rows that each seed holds out; what is written is known of the chat model alone."""
    rows = [{"prompt": f"What is {number}?", "completion": f"It is {number}."} for number in range(60)]
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sources = json.dumps([{"name": "rows", "path": str(source)}])
    args = ["--model", str(base_folder), str(chat_folder), "--sources", sources, "--held_out_fraction", "0.3"]
    run("instructions", *args, "--seeds", "0", "1", "--limit", "4", "--max_new_tokens", "4")
    base, chat = read(base_folder, "instructions"), read(chat_folder, "instructions")
    assert set(base["metrics"]) == {"loss"}
    assert set(chat["metrics"]) == {"loss", "finished", "f1", "length", "repetition", "distinct_2"}
    seeds = chat["metrics"]["loss"]["seeds"]
    assert seeds["0"] != seeds["1"]  # other rows are held out
    assert chat["metrics"]["length"]["baselines"] == {"references": 3.0}
    assert "finished" in capsys.readouterr().out
    (chat_folder / "run.yaml").write_text(f"sources: {sources}\nseed: 0\nheld_out_fraction: 0.3\n")
    for script in ("instructions", "alignment"):
        with user_error("trained_on_rows", chat_folder, source, "--seed 0", setting="seed", value=0):
            run(script, *args, "--seed", "1")
    with user_error("trained_on_rows", "--seed 0", setting="seed", value=0):
        run("instructions", *args, "--seeds", "0", "1")


def test_alignment_compares_models_of_one_road(chat_folder: Path, tmp_path: Path) -> None:
    """A model with another tokenizer answers in other tokens: no KL, no reward could be told."""
    other = tmp_path / "other"
    shutil.copytree(chat_folder, other)
    tokenizer = train_tokenizer(["some other text " * 5], vocab_size=320)
    tokenizer.eos_token = "<|im_end|>"
    tokenizer.save_pretrained(other)
    with user_error("another_tokenizer", chat_folder, folder=other):
        run("alignment", "--model", str(chat_folder), str(other), "--limit", "2", "--max_new_tokens", "2")
