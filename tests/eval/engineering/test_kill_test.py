# SPDX-License-Identifier: Apache-2.0
"""The proof of resuming, which must be able to fail."""

import json
from pathlib import Path
from types import ModuleType

import kill_test as module
import pytest

from scratch_gpt.settings.parsing import parse
from wording import shows


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, whose runs write two rows and weights at once; given a time, they are killed after the first row."""
    module.resumed = {"loss": 2.0, "weights": "w", "rows": 2}

    def run(command: list[str], seconds: float | None = None) -> bool:
        folder = Path(command[command.index("--output_dir") + 1])
        begun = (folder / "log.jsonl").exists()
        folder.mkdir(parents=True, exist_ok=True)
        made = module.resumed if begun else {"loss": 2.0, "weights": "w", "rows": 2}
        count = 1 if seconds is not None else made["rows"]
        rows = [{"step": 1, "loss": 3.0}, {"step": 2, "loss": made["loss"]}][:count]
        for number, row in enumerate(rows):
            row["elapsed_seconds"] = 100.0 * begun + number
        (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        if seconds is None:
            (folder / "model.safetensors").write_text(made["weights"])
            (folder / "run.yaml").write_text("")
        return seconds is None

    monkeypatch.setattr(module, "run", run)
    return module


@pytest.mark.parametrize(
    ("resumed", "differences"),
    [
        ({}, 0),
        ({"loss": 2.1}, 1),
        ({"weights": "v"}, 1),
        ({"rows": 1}, 1),
        ({"loss": 2.1, "weights": "v"}, 2),
    ],
)
def test_every_difference_is_counted(script, resumed, differences, tmp_path, capsys) -> None:
    """A number, the weights, a row too few: exit status 1; clocks do not count."""
    script.resumed |= resumed
    with pytest.raises(SystemExit) as ended:
        words = ["--pretrain_config", "p.yaml", "--kills", "3", "--output_dir", str(tmp_path / "o")]
        script.main(parse(script.KillTestArguments, words))
    assert ended.value.code == (differences > 0)
    assert shows(capsys.readouterr().out, "3 kills", "1 process", "1 rounds", f"{differences} differences")
