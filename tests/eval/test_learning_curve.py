# SPDX-License-Identifier: Apache-2.0
"""The learning curve trains what is not yet trained, and collects what the runs measured."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from scratch_gpt.training.arguments import parse
from wording import shows, user_error


SCRIPT = Path(__file__).parents[2] / "eval" / "learning_curve.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, whose launches write a result that grows with the number of pairs, of 450, instead of training."""
    spec = importlib.util.spec_from_file_location("eval_learning_curve", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    # dataclasses look their module up
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
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
