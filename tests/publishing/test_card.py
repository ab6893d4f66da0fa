# SPDX-License-Identifier: Apache-2.0
"""The model card: what the run's files say, nothing else."""

import json
from pathlib import Path
from typing import Any

import jinja2.meta
import pytest
import yaml
from huggingface_hub import ModelCard

from scratch_gpt import ScratchGPTForMaskedLM
from scratch_gpt.configuration_scratch_gpt import REQUIRED
from scratch_gpt.export.folders import export_folder
from scratch_gpt.publishing import card as publishing
from scratch_gpt.settings.parsing import scripts_folder
from wording import shows, user_error


RESULT = {
    "task": "qa",
    "model": "chat",
    "n": 200,
    "metrics": {
        "facts/exact_match": {"value": 0.96, "ci95": [0.93, 0.99], "chance": 0.02},
        "facts/capital/exact_match": {"value": 0.9, "ci95": [0.8, 1.0], "chance": 0.02},
    },
    "settings": {},
    "seed": 0,
    "versions": {"torch": "2.13.0"},
}


@pytest.fixture
def chat(chat_folder: Path) -> Path:
    """A chat model with a base model before it, logs, a result and the manifest of the shards."""
    base = chat_folder.parent / "base"
    base.mkdir()
    manifest = {
        "sources": [
            {"name": "primer", "path": "primer", "weight_asked": 1.0, "weight_consumed": 1.0}
            | {
                "documents": 1234,
                "tokens": 56789,
                "bytes": 200000,
                "epochs": 1,
                "bad_rows": 3,
                "left_out": {"duplicate": 4},
            }
        ],
        "tokens": 56789,
        "bytes": 200000,
        "sequence_length": 128,
        "content_hash": "0123456789abcdef",
    }
    shards = chat_folder.parent / "shards" / "train"
    shards.mkdir(parents=True)
    (shards / "manifest.json").write_text(json.dumps(manifest))
    (base / "run.yaml").write_text(
        yaml.safe_dump({"shards": "elsewhere/shards", "learning_rate": 0.5, "seed": 1})
    )
    (base / "log.jsonl").write_text(
        json.dumps({"step": 77, "loss": 1.25, "tokens": 9999, "elapsed_seconds": 90}) + "\n"
    )
    (chat_folder / "run.yaml").write_text(
        yaml.safe_dump({"model_name_or_path": "elsewhere/base", "seed": 42})
    )
    (chat_folder / "results").mkdir()
    (chat_folder / "results" / "qa.json").write_text(json.dumps(RESULT))
    return chat_folder


def test_card_holds_the_numbers_of_the_files(chat: Path) -> None:
    """Results, logs and the manifest all appear, found beside the model even if run.yaml names another place."""
    text = publishing.write_card(chat).read_text()
    assert "| qa | facts/exact_match | 0.02 | - | 0.96 [0.93, 0.99] |" in text
    base, tuned = (line for line in text.splitlines() if line.startswith(("1. **", "2. **")))
    assert shows(base, "**base**", "77 steps", "9,999 tokens", "loss 1.25", "1.5 minutes")
    assert shows(tuned, "**chat**", "`base`")
    assert "learning_rate: 0.5" in text
    assert "| primer | primer | apache-2.0 | 1 | 1 | 1,234 | 56,789 | 1 | 3 | 4 |" in text
    assert "- seed: 42" in text
    assert "- software: torch 2.13.0" in text
    manifest_path = chat.parent / "shards" / "train" / "manifest.json"
    manifest = json.loads(manifest_path.read_text())
    del manifest["sources"][0]["left_out"]  # shards of an older version
    manifest_path.write_text(json.dumps(manifest))
    assert "| 56,789 | 1 | 3 | not known |" in publishing.write_card(chat).read_text()


def test_use_says_what_it_needs(chat: Path, tmp_path: Path) -> None:
    """The version of transformers and the trust that the model's code needs; a class of transformers' own needs neither."""
    text = publishing.write_card(chat).read_text()
    assert f"It needs `{REQUIRED}`" in text
    assert text.count("trust_remote_code=True)") == 2
    export_folder(chat, tmp_path / "stock")
    text = publishing.write_card(tmp_path / "stock").read_text()
    assert "It needs" not in text
    assert "trust_remote_code" not in text


def test_metadata_is_what_the_hub_reads(chat: Path) -> None:
    """The head parses as a model card: library, task, license, and the headline results without those of kinds."""
    publishing.write_card(chat, "apache-2.0")
    data = ModelCard.load(chat / "README.md").data
    assert (data.library_name, data.pipeline_tag, data.license) == (
        "transformers",
        "text-generation",
        "apache-2.0",
    )
    assert [(result.metric_type, result.metric_value) for result in data.eval_results] == [
        ("facts/exact_match", 0.96)
    ]
    assert "conversational" in data.tags


def test_parameters_are_counted_once(chat: Path, tiny_model) -> None:
    """The number of parameters is that of the model, tied embeddings counted once."""
    assert publishing.count_parameters(chat) == tiny_model.num_parameters()


def test_alignment_is_shown_before_and_after(chat: Path) -> None:
    """The result of the alignment stage becomes one row a measure, one column a model."""
    values = {"sft/greedy/gold": 0.4, "aligned/greedy/gold": 0.5, "sft/length": 12.0, "aligned/length": 14.0}
    metrics = {
        name: {"value": value, "ci95": [value, value], "chance": None} for name, value in values.items()
    }
    settings = {"verdict": "Gold score: no gain at this size"}
    result = {**RESULT, "task": "rlhf", "metrics": metrics, "settings": settings}
    (chat / "results" / "rlhf.json").write_text(json.dumps(result))
    text = publishing.write_card(chat).read_text()
    assert (
        "| measure | sft | aligned |\n|---|---|---|\n| greedy/gold | 0.4 [0.4, 0.4] | 0.5 [0.5, 0.5] |"
        in text
    )
    assert "| length | 12 [12, 12] | 14 [14, 14] |" in text
    assert f"**{settings['verdict']}**" in text


def test_what_tuning_changed_is_shown(chat: Path) -> None:
    """Before, after and change of the stage's own result; a text that became less likely is a known failure."""
    values = {"before": [1.6, 1.5, 1.7], "after": [1.8, 1.7, 1.9], "change": [0.2, 0.1, 0.3]}
    metrics = {
        f"{when}/general_text/bits_per_byte": {"value": value, "ci95": ci95, "chance": None}
        for when, (value, *ci95) in values.items()
    } | {"accuracy": {"value": 0.75, "ci95": [0.5, 1.0], "chance": 0.5}}
    result = chat / "results" / "dpo.json"
    result.write_text(json.dumps({**RESULT, "task": "dpo", "metrics": metrics}))
    text = publishing.write_card(chat).read_text()
    row = "| general_text/bits_per_byte | 1.6 [1.5, 1.7] | 1.8 [1.7, 1.9] | 0.2 [0.1, 0.3] |"
    assert row in text and "| accuracy | - | 0.75 [0.5, 1] | - |" in text
    assert "- general_text/bits_per_byte: 1.8 [1.7, 1.9]" in text
    for unclear in ({"n": 1}, {"n": 9, "ci95": [-0.1, 0.3]}):
        metrics["change/general_text/bits_per_byte"] |= unclear
        result.write_text(json.dumps({**RESULT, "task": "dpo", "metrics": metrics}))
        assert "forgotten" not in publishing.write_card(chat).read_text()


def test_what_is_not_known_is_said(base_folder: Path) -> None:
    """A model without any file of its run gets a card that says so and makes nothing up."""
    text = publishing.write_card(base_folder).read_text()
    lines = [line for line in text.splitlines() if "not known" in line.lower()]
    for subject in ("benchmark", "manifest", "license:", "seed:"):
        assert any(subject in line for line in lines), subject
    assert "{{" not in text
    assert "model-index" not in text


def test_template_asks_for_nothing_that_is_not_given(chat: Path, monkeypatch) -> None:
    """Jinja prints an unknown name as nothing, so every name of the template must be one that the code passes."""
    given: dict[str, Any] = {}
    monkeypatch.setattr(ModelCard, "from_template", lambda data, **arguments: given.update(arguments))
    publishing.make_card(chat)
    template = (scripts_folder() / "model_card.md").read_text()
    asked = jinja2.meta.find_undeclared_variables(jinja2.Environment().parse(template))
    assert asked == set(given) - {"template_path"} | {"card_data"}


def test_example_in_the_card_runs(chat: Path) -> None:
    """The code that the card shows is Python."""
    text = publishing.write_card(chat).read_text()
    code = text.split("```python\n")[1].split("```")[0]
    compile(code, "README.md", "exec")
    assert "pip install scratch-gpt" not in text
    (chat / "run.yaml").write_text("sample_prompts: ['Who \"is\" that?']\n")
    assert r'"content": "Who \"is\" that?"' in publishing.write_card(chat).read_text()
    assert chat.as_posix() in code


def test_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    """There is no card for nothing."""
    with user_error("no_model", folder=tmp_path):
        publishing.write_card(tmp_path)


def record(folder: str, **changes: Any) -> dict[str, Any]:
    """A stage's record of provenance."""
    hardware = {"device": "AMD EPYC", "gpu": False, "processes": 1, "cpus": 4, "threads": 2}
    data = {"sources": [{"name": "own", "path": "own.jsonl", "license": "cc0-1.0"}]}
    known = {"stage": folder, "folder": folder, "seed": 5, "steps": 10, "tokens": 2000, "flops": 3_000_000}
    known |= {
        "seconds": 900.0,
        "hardware": hardware,
        "data": data,
        "git_commit": "abc123",
        "finished": "2026-01-01",
    }
    return known | {"versions": {"torch": "2"}} | changes


def test_a_folder_alone_knows_its_road(chat_folder: Path) -> None:
    """From provenance.json: stages, licenses, hashes, cost with the sum, code; nothing of the folders before is needed."""
    source = {
        "name": "wiki",
        "path": "w.txt",
        "license": "cc-by-sa-4.0",
        "weight_asked": 1.0,
        "weight_consumed": 0.9,
    }
    source |= {"documents": 7, "tokens": 4000, "epochs": 1.5, "bad_rows": 0, "left_out": {}}
    data = {
        "sources": [source],
        "tokens": 4000,
        "bytes": 16000,
        "sequence_length": 64,
        "content_hash": "c" * 64,
    }
    stages = [record("base", data=data), record("chat")]
    (chat_folder / "provenance.json").write_text(json.dumps({"stages": stages}))
    text = publishing.write_card(chat_folder).read_text()
    assert shows(text, "2 stages", "base -> chat")
    assert "| wiki | w.txt | cc-by-sa-4.0 | 1 | 0.9 | 7 | 4,000 | 1.5 | 0 | 0 |" in text
    assert shows(text, "c" * 64)
    assert "| chat | own | own.jsonl | cc0-1.0 |" in text
    assert "| base | 10 | 2,000 | 3.00e+06 | 15.0 minutes | 1 x AMD EPYC, 2 of 4 cores | 4 Wh |" in text
    assert "| together |  | 4,000 | 6.00e+06 | 30.0 minutes |  | 8 Wh |" in text
    assert shows(text, "8 W", "abc123")
    assert "- seed: 5" in text


def test_model_index_has_interval_and_chance(chat: Path) -> None:
    """As arguments of the metric, for programs, and in its name, for the Hub's page."""
    publishing.write_card(chat)
    (result,) = ModelCard.load(chat / "README.md").data.eval_results
    assert result.metric_args == {"ci95": [0.93, 0.99], "chance": 0.02}
    assert shows(result.metric_name, "facts/exact_match", "95%", 0.93, 0.99, "chance 0.02")
    assert result.dataset_split == "test"


def test_known_failures_are_named(chat: Path) -> None:
    """No better than guessing; worse than the model before; the weakest kinds."""

    def metric(value: float, chance: float | None = None) -> dict[str, Any]:
        return {"value": value, "ci95": [value - 0.05, value + 0.05], "chance": chance}

    own = {"a/accuracy": metric(0.27, 0.25), "b/exact_match": metric(0.6), "b/hard/exact_match": metric(0.1)}
    before = {"b/exact_match": metric(0.9)}
    for folder, metrics, right in ((chat, own, 12), (chat.with_name("base"), before, 18)):
        (folder / "results").mkdir(exist_ok=True)
        line = {"metric": "b/exact_match", "examples": "same", "statistic": "mean"}
        line["rows"] = [[1.0]] * right + [[0.0]] * (20 - right)
        (folder / "results" / "qa.items.jsonl").write_text(json.dumps(line) + "\n")
        (folder / "results" / "qa.json").write_text(json.dumps({**RESULT, "metrics": metrics}))
    text = publishing.write_card(chat).read_text()
    failures = text[text.index("Known failures") : text.index("## Provenance")].splitlines()[2:-1]
    worse, guessing, weakest = (line for line in failures if line)
    assert shows(worse, "- b/exact_match: 0.6 [0.55, 0.65]", "`base`", "0.9 [0.85, 0.95]", "-0.3")
    assert shows(guessing, "- a/accuracy: 0.27 [0.22, 0.32]", "(0.25)")
    assert weakest == "- b/hard/exact_match: 0.1 [0.05, 0.15]"


def test_a_kind_of_a_users_rows_is_no_markup(chat: Path) -> None:
    """It opens no heading, cell or tag."""
    (chat / "results").mkdir(exist_ok=True)
    value = {"value": 0.1, "ci95": [0.0, 0.2], "chance": None}
    metrics = {"a/<img src=x> | b\n## Injected/exact_match": value, "a/exact_match": value}
    (chat / "results" / "qa.json").write_text(json.dumps({**RESULT, "metrics": metrics}))
    text = publishing.write_card(chat).read_text()
    assert r"- a/&lt;img src=x&gt; \| b ## Injected/exact_match: 0.1 [0, 0.2]" in text.splitlines()


def test_nothing_is_said_of_a_model_that_was_not_measured(chat: Path) -> None:
    """That the model before it has scores clears it of nothing."""
    (chat / "results" / "qa.json").unlink()
    base = chat.with_name("base") / "results"
    base.mkdir(exist_ok=True)
    metrics = {"a/accuracy": {"value": 0.9, "ci95": [0.8, 1.0], "chance": 0.25}}
    (base / "qa.json").write_text(json.dumps({**RESULT, "metrics": metrics}))
    assert "found no task" not in publishing.write_card(chat).read_text()


def test_every_benchmark_can_show_a_failure(chat: Path) -> None:
    """Also one that has no row in the table of scores: a loss that rose."""
    for folder, loss in ((chat, 3.0), (chat.with_name("base"), 1.0)):
        (folder / "results").mkdir(exist_ok=True)
        value = {"value": loss, "ci95": [loss, loss], "chance": None}
        result = {**RESULT, "name": "instructions", "metrics": {"mine/loss": value}}
        (folder / "results" / "instructions.json").write_text(json.dumps(result))
        line = {"metric": "mine/loss", "examples": "same", "statistic": "mean", "rows": [[loss]] * 20}
        (folder / "results" / "instructions.items.jsonl").write_text(json.dumps(line) + "\n")
    assert "- mine/loss: 3 [3, 3], worse than `base`" in publishing.write_card(chat).read_text()


def test_samples_are_shown_as_text(chat: Path) -> None:
    """Markup that a model wrote does not become markup of the card."""
    answer = "<script>x</script> | **bold** [a](b)\n\n# head `code`"
    (chat / "samples.json").write_text(json.dumps([{"prompt": "Why?", "answers": {"chat": answer}}]))
    text = publishing.write_card(chat).read_text()
    assert (
        r"> chat: &lt;script&gt;x&lt;/script&gt; \| \*\*bold\*\* \[a\](b) / \# head \`code\`"
        in text.splitlines()
    )


def test_damaged_weights_are_one_line(chat: Path) -> None:
    """A file that is no safetensors is named."""
    (chat / "model.safetensors").write_bytes(b"half")
    with user_error("unreadable_file", file=chat / "model.safetensors"):
        publishing.write_card(chat)


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("results/qa.json", '{"task": "qa", "met', user_error("unreadable_file")),
        ("results/figures.json", '{"results": {}}', user_error("not_a_result")),
        ("samples.json", "[{", user_error("unreadable_file")),
        ("run.yaml", "seed: [1", user_error("unreadable_file")),
    ],
)
def test_a_damaged_file_of_the_run_is_one_line(
    chat: Path, file: str, content: str, expected: user_error
) -> None:
    """It is named, and the card of before stays."""
    (chat / "README.md").write_text("before")
    (chat / file).write_text(content)
    with expected as caught:
        publishing.write_card(chat)
    assert caught.value.values["file"] == chat / file
    assert (chat / "README.md").read_text() == "before"


def test_the_folder_one_stands_in_has_its_name(chat: Path, monkeypatch) -> None:
    """`publish .` writes the card that the folder's name would."""
    monkeypatch.chdir(chat)
    text = publishing.write_card(".").read_text()
    assert "| qa | facts/exact_match | 0.02 | - | 0.96 [0.93, 0.99] |" in text
    assert "2. **chat**" in text
    assert str(chat.parent) not in text


@pytest.mark.parametrize("kind", ["AutoModelForMaskedLM", "AutoModelForSeq2SeqLM"])
def test_the_example_uses_the_class_of_the_model(
    kind: str, encoder_decoder_folder: Path, small_model, tmp_path: Path
) -> None:
    """Neither an encoder nor an encoder-decoder opens with AutoModelForCausalLM."""
    folder = encoder_decoder_folder
    if kind == "AutoModelForMaskedLM":
        folder = tmp_path / "encoder"
        small_model(ScratchGPTForMaskedLM, is_causal=False).save_pretrained(folder)
    text = publishing.write_card(folder).read_text()
    assert f"model = {kind}.from_pretrained(" in text
    assert "AutoModelForCausalLM" not in text
