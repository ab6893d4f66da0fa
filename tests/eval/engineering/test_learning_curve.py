# SPDX-License-Identifier: Apache-2.0
"""The learning curve trains what is not yet trained, and collects what the runs measured."""

import json
from pathlib import Path
from types import ModuleType

import learning_curve as module
import pytest
from learning_curve import keep_settings, read_curve

from scratch_gpt.settings.parsing import parse
from wording import shows, user_error


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, whose launches write a result that grows with the number of pairs, of 450, instead of training."""
    module.started = []

    def train(script: str, words: list[str]) -> int:
        options = dict(zip(words[::2], words[1::2], strict=True))
        folder, size = Path(options["--output_dir"]), int(options["--max_train_samples"])
        module.started.append((script, size, int(options["--seed"])))
        value, pairs = 0.5 + size / 1000, min(size, 450)
        metric = {"value": value, "ci95": [value - 0.05, value + 0.05], "chance": 0.5}
        (folder / "results").mkdir(parents=True)
        result = {"metrics": {"accuracy": metric}, "settings": {"training_pairs": pairs}}
        (folder / "results" / "dpo.json").write_text(json.dumps(result))
        (folder / "run.yaml").write_text("{}")
        return 2 if size == 400 else 0

    monkeypatch.setattr(module, "launch", train)
    return module


def test_runs_are_collected_and_not_repeated(script: ModuleType, tmp_path: Path) -> None:
    """Each size with each seed is trained once; a second call with one more size trains that alone."""
    config = tmp_path / "dpo.yaml"
    config.write_text("{}")
    words = ["--stage", "dpo", "--stage_config", str(config), "--output_dir", str(tmp_path / "curve")]
    for sizes in (["100"], ["200", "100"]):
        script.main(parse(script.LearningCurveArguments, [*words, "--sizes", *sizes, "--seeds", "0", "1"]))
    assert script.started == [("train/dpo.py", size, seed) for size in (100, 200) for seed in (0, 1)]
    result = json.loads((tmp_path / "curve" / "results" / "learning_curve.json").read_text())
    assert {name: metric["value"] for name, metric in result["metrics"].items()} == {
        "100 pairs": 0.6,
        "200 pairs": 0.7,
    }
    assert (tmp_path / "curve" / "results" / "learning_curve.png").is_file()
    config.write_text("beta: 0.3")
    with user_error("settings_changed", tmp_path / "curve", settings=["beta"]):
        script.main(parse(script.LearningCurveArguments, [*words, "--sizes", "100"]))


def test_the_curve_ends_where_the_pairs_end(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A number that is not there stands as what was trained on, and no larger one is tried."""
    config = tmp_path / "dpo.yaml"
    config.write_text("{}")
    folder = tmp_path / "curve"
    script.main(
        script.LearningCurveArguments(
            stage="dpo", stage_config=str(config), output_dir=str(folder), sizes=[200, 800, 1600]
        )
    )
    assert [size for _, size, _ in script.started] == [200, 800]
    result = json.loads((folder / "results" / "learning_curve.json").read_text())
    assert list(result["metrics"]) == ["200 pairs", "450 pairs"]
    assert shows(capsys.readouterr().out, "450 pairs")


def test_a_failed_run_stops_the_curve(script: ModuleType, tmp_path: Path) -> None:
    """Its exit status is passed on, and no result is written; wrong settings are named."""
    config = tmp_path / "dpo.yaml"
    config.write_text("{}")
    arguments = {"stage": "dpo", "stage_config": str(config), "output_dir": str(tmp_path / "curve")}
    with pytest.raises(SystemExit) as stopped:
        script.main(script.LearningCurveArguments(**arguments, sizes=[400]))
    assert stopped.value.code == 2
    assert not (tmp_path / "curve" / "results").exists()
    with user_error("wrong_value", "reward", "dpo", setting="stage", value="sft"):
        script.LearningCurveArguments(**{**arguments, "stage": "sft"})
    with user_error("file_not_found", "--stage_config", file="gone.yaml"):
        script.LearningCurveArguments(**{**arguments, "stage_config": "gone.yaml"})


def result(path: Path, value: float, rows: int) -> Path:
    metric = {"value": value, "ci95": [value - 0.1, value + 0.1], "chance": 0.5}
    path.write_text(json.dumps({"metrics": {"accuracy": metric}, "settings": {"training_pairs": rows}}))
    return path


def test_curve_is_the_mean_over_seeds(tmp_path: Path) -> None:
    """The interval holds every seed's value and is no narrower than the seeds' own; the rows are the results'."""
    files = [
        [result(tmp_path / "a.json", 0.5, rows=49), result(tmp_path / "b.json", 0.9, rows=51)],
        [result(tmp_path / "c.json", 0.8, rows=200)],
    ]
    curve = read_curve(files)
    assert curve[50].value == pytest.approx(0.7) and curve[50].ci95 == pytest.approx((0.5, 0.9))
    assert curve[200].value == 0.8 and curve[200].ci95 == pytest.approx((0.7, 0.9))
    with user_error("unknown_metric", "a.json", "accuracy", metric="bleu"):
        read_curve(files, "bleu")


def test_a_folder_is_of_one_curve(tmp_path: Path) -> None:
    """The settings may come again; changed, new and left out ones are named, and so is a folder of unknown runs."""
    config, folder = tmp_path / "config.yaml", tmp_path / "curve"

    def keep(text: str, stage: str = "reward") -> None:
        config.write_text(text)
        keep_settings(stage, config, folder)

    keep("learnin_rate: 0.1\n")  # refused by the stage, so no run is made of it
    keep("learning_rate: 0.1\nsources: [{name: a, path: a.jsonl}]\noutput_dir: x\n")
    (folder / "50-seed0").mkdir()
    keep("# the same\nsources: [{path: a.jsonl, name: a}]\nlearning_rate: 0.1\noutput_dir: y\n")
    with user_error("settings_changed", folder, config, settings=["learning_rate", "sources"]):
        keep("learning_rate: 0.2\nsources: [{name: a, path: b.jsonl}]\n")
    with user_error("settings_changed", settings=["optim", "sources"]):
        keep("learning_rate: 0.1\noptim: adamw\n")
    with user_error("unknown_runs", "dpo.yaml", "--output_dir", folder=folder):
        keep("learning_rate: 0.1\n", stage="dpo")
    with user_error("unreadable_file", file=config):
        keep("a: [\n")
