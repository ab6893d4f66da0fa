# SPDX-License-Identifier: Apache-2.0
"""The command line: what it lists, and that stages get their arguments as typed."""

import dataclasses
import functools
import importlib.util
import inspect
import io
import json
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import get_type_hints

import pytest
import torch
import yaml
from safetensors.torch import load_file
from typer.testing import CliRunner

from scratch_gpt import __version__, cli
from scratch_gpt.errors import UserError
from scratch_gpt.settings.checking import own_settings, takes_structure
from scratch_gpt.settings.parsing import _parser, parse, run_stage, scripts_folder
from wording import shows, user_error


SCRIPTS = sorted(
    path
    for folder in ("train", "eval")
    for path in (scripts_folder() / folder).rglob("*.py")
    if "run_stage(" in path.read_text(encoding="utf-8")
)


@pytest.fixture
def launched(monkeypatch) -> list[tuple]:
    """Calls of the launcher, which starts nothing and answers with exit code 7."""
    calls: list[tuple] = []

    def fake_launch(*arguments) -> int:
        calls.append(arguments)
        return 7

    monkeypatch.setattr(cli, "launch", fake_launch)
    return calls


def test_help_lists_the_commands_in_the_order_of_the_road() -> None:
    """`--help` names every command on one screen, the stages in the order in which they run."""
    lines = CliRunner().invoke(cli.app, ["--help"]).output.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) < 80
    cells = [line[start : start + 39] for line in lines if line.startswith(" ") for start in (0, 39)]
    listed = [cell.split()[0] for cell in cells if cell]
    assert all(cell[14] == " " for cell in cells if cell)
    assert not any("..." in cell for cell in cells)  # a short_help of at most SHORT_WIDTH
    road = [
        "demo",
        "new",
        "tokenizer",
        "shards",
        "pretrain",
        "sft",
        "seq2seq",
        "reward",
        "dpo",
        "kto",
        "distill",
        "rlhf",
        "qa",
        "translation",
        "instructions",
        "generation",
        "contamination",
        "harness",
        "alignment",
        "compare",
    ]
    uses = ["chat", "web", "serve", "publish", "report", "import", "export"]
    assert listed == [*road, "plan", "sizes", *uses]


@pytest.mark.parametrize(
    ("arguments", "status"), [(["--help"], 0), (["--version"], 0), (["chat", "--help"], 0), (["sfft"], 2)]
)
def test_help_and_mistyped_names_wait_for_no_library(arguments: list[str], status: int) -> None:
    """What needs no model imports none of the slow libraries."""
    code = (
        "import atexit, runpy, sys\n"
        "slow = {'torch', 'transformers', 'trl', 'accelerate', 'datasets', 'matplotlib', 'huggingface_hub'}\n"
        "atexit.register(lambda: print('imported:', sorted(slow & set(sys.modules))))\n"
        f"sys.argv = ['scratch-gpt', *{arguments}]\n"
        "from scratch_gpt.cli import main\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert done.stdout.splitlines()[-1] == "imported: []"


@pytest.mark.parametrize("module", ["scratch_gpt", "scratch_gpt.cli"])
def test_the_package_runs_as_a_module(module: str) -> None:
    """`python -m` is the command, here with the versions of what decides what a model computes."""
    done = subprocess.run(
        [sys.executable, "-m", module, "--version"], capture_output=True, text=True, check=True
    )
    versions = {"scratch-gpt": __version__} | {name: version(name) for name in ("transformers", "torch")}
    assert done.stdout == ", ".join(f"{name} {number}" for name, number in versions.items()) + "\n"


def test_commands_know_the_models_of_the_package(base_folder: Path) -> None:
    """A command in this process finds the package's classes by `model_type`, without remote code."""
    code = (
        "import sys; sys.argv = ['scratch-gpt', 'sizes']\n"
        "from scratch_gpt import cli\n"
        "assert 'transformers' not in sys.modules\n"
        "cli.app(standalone_mode=False)\n"
        "from transformers import AutoModelForCausalLM\n"
        f"print(type(AutoModelForCausalLM.from_pretrained({str(base_folder)!r})).__module__)\n"
        "from scratch_gpt import ScratchGPTForCausalLM; print(ScratchGPTForCausalLM.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-2:] == ["scratch_gpt.modeling_scratch_gpt", "ScratchGPTForCausalLM"]


def test_stage_arguments_pass_untouched(launched) -> None:
    """Options that the stage knows and we do not, negative numbers and repeated values arrive as typed, in order."""
    typed = ["--config", "a b.yaml", "--learning_rate", "3e-4", "--x", "-1", "--model", "p", "q", "--help"]
    result = CliRunner().invoke(cli.app, ["sft", *typed])
    assert launched == [("train/sft.py", typed, None)]
    assert result.exit_code == 7


def test_accelerate_config_goes_to_the_launcher(launched) -> None:
    """`--accelerate_config` is the one option that is ours, wherever it stands."""
    CliRunner().invoke(cli.app, ["qa", "--model", "m", "--accelerate_config", "gpu.yaml", "--limit", "3"])
    assert launched == [("eval/qa.py", ["--model", "m", "--limit", "3"], "gpu.yaml")]


def test_users_mistake_is_one_line_and_status_2(monkeypatch, capsys) -> None:
    """A UserError becomes one line on standard error, without a traceback."""

    def fail(**options) -> None:
        raise UserError("no_model", "no model\nin x")

    monkeypatch.setattr(cli, "app", fail)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert exit_.value.code == 2
    assert capsys.readouterr().err == "error: no model in x\n"


@functools.cache
def main_of(script: Path) -> tuple[Callable, type]:
    """The function that the script hands to `run_stage`, and its settings."""
    spec = importlib.util.spec_from_file_location(f"script_{script.stem}", script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main, inspect.signature(module.main).parameters["arguments"].annotation


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_every_list_and_mapping_is_yaml_or_json_on_the_command_line(script: Path) -> None:
    """Of each stage and benchmark, those inherited from TRL and transformers too; lists of words are also words."""
    _, arguments_class = main_of(script)
    parser = _parser(arguments_class, everything=False)
    hints = get_type_hints(arguments_class)
    parser.set_defaults(**{name: "x" for name in parser.required if hints[name] is str})
    parser.required = ()
    for name, hint in hints.items():
        if takes_structure(hint):
            value = [{"name": "b", "path": "x"}] if "list[dict" in str(hint) else {"a": {"b": 1}}
            for text in (json.dumps(value), yaml.safe_dump(value, default_flow_style=True).strip()):
                found, rest = parser.parse_known_args([f"--{name}", text])
                assert (getattr(found, name), rest) == (value, []), name
        elif name in own_settings(arguments_class) and "list[str]" in str(hint):
            for words in (["a", "b c"], ["[a, b c]"], ['["a", "b c"]']):
                assert getattr(parser.parse_known_args([f"--{name}", *words])[0], name) == ["a", "b c"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_every_script_exits_with_2_for_a_users_mistake(script: Path, capsys) -> None:
    """A key, a file and a YAML that are not there: one line, no traceback."""
    main, arguments_class = main_of(script)
    mistakes = (["--colour", "red"], ["--config", "nowhere.yaml"], ["--config", str(script)])
    for mistake, named in zip(mistakes, ("colour", "nowhere.yaml", script.name), strict=True):
        with pytest.raises(SystemExit) as exit_:
            run_stage(main, arguments_class, mistake)
        errors = capsys.readouterr().err
        assert (exit_.value.code, errors.count("\n")) == (2, 1)
        assert shows(errors, "error: ", named)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_every_script_explains_its_options(script: Path, capsys) -> None:
    """`--help-all` of each stage lists the fields of its arguments: help texts are format strings, a lone % breaks them."""
    _, arguments_class = main_of(script)
    with pytest.raises(SystemExit) as exit_:
        parse(arguments_class, ["--help-all"])
    assert exit_.value.code == 0
    printed = capsys.readouterr().out
    assert all(f"--{field.name}" in printed for field in dataclasses.fields(arguments_class) if field.init)


def run(monkeypatch, capsys, *arguments: str) -> tuple[int, str, str]:
    """Exit code, output and errors of `scratch-gpt` with these arguments."""
    monkeypatch.setattr("sys.argv", ["scratch-gpt", *arguments])
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    return int(exit_.value.code or 0), *capsys.readouterr()


def test_export_and_import_are_each_others_inverse(base_folder: Path, monkeypatch, capsys) -> None:
    """A checkpoint goes out to its own dialect and comes back with the same weights."""
    stock, back = base_folder.with_name("stock"), base_folder.with_name("back")
    assert run(monkeypatch, capsys, "export", str(base_folder), str(stock))[:2] == (0, f"wrote {stock}\n")
    assert json.loads((stock / "config.json").read_text())["architectures"] == ["Qwen3ForCausalLM"]
    assert run(monkeypatch, capsys, "import", str(stock), str(back))[:2] == (0, f"wrote {back}\n")
    before, after = (load_file(folder / "model.safetensors") for folder in (base_folder, back))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert (back / "chat_template.jinja").read_text() == (base_folder / "chat_template.jinja").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("export", "nowhere", "out"), "no model in nowhere"),
        (("import", "nowhere", "out"), "no model in nowhere"),
        (("import", "base", "out"), "holds a ScratchGPTForCausalLM"),
        (("export", "base", "out", "--to", "onnx"), "to must be one of qwen3, llama, gpt2, eurobert "),
        (("export", "base", "out", "--to", "lama"), "did you mean llama?"),
        (("sft", "--accelerate_config", "base/config.json"), "`distributed_type` must be"),
        (("export", "base", "out", "--to", "llama"), "llama cannot hold use_qk_norm=True"),
        (("export", "base", "out", "--dtype", "f16"), "--dtype f16 is for --to gguf"),
        (("export", "base", "base"), "name a new folder"),
    ],
)
def test_wrong_conversions_are_one_line(
    arguments: tuple[str, ...], message: str, base_folder: Path, monkeypatch, capsys
) -> None:
    """Exit status 2, one line that names the mistake, nothing written."""
    monkeypatch.chdir(base_folder.parent)
    before = sorted(base_folder.parent.rglob("*"))
    code, output, errors = run(monkeypatch, capsys, *arguments)
    assert (code, output) == (2, "")
    assert message in errors
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert sorted(base_folder.parent.rglob("*")) == before


@pytest.mark.parametrize(
    ("typed", "code", "values"),
    [
        ("serve M --port x", "wrong_value", {"setting": "--port", "value": "x"}),
        ("serve M --port=x", "wrong_value", {"setting": "--port", "value": "x"}),
        ("chat M --temperature hot", "wrong_value", {"setting": "--temperature", "value": "hot"}),
        ("demo --seed -1", "wrong_value", {"setting": "--seed", "value": "-1"}),
        ("chat", "setting_missing", {"setting": "MODEL"}),
        ("export M", "setting_missing", {"setting": "OUT"}),
        ("chat M --sytem x", "invalid_arguments", {}),
        ("chat M --temperature", "invalid_arguments", {}),
        ("demo extra", "invalid_arguments", {}),
        ("--foo", "invalid_arguments", {}),
    ],
)
def test_wrong_usage_is_one_line(typed: str, code: str, values: dict[str, str], monkeypatch, capsys) -> None:
    """No box of typer's: the value and what it must be, the nearest option, or what is missing."""
    with user_error(code, **values):
        cli.app(typed.split())
    status, output, errors = run(monkeypatch, capsys, *typed.split())
    assert (status, output, errors.count("\n")) == (2, "", 1)
    assert errors.startswith("error: ")
    assert shows(errors, *([repr(values["value"])] if "value" in values else []))
    if "--sytem" in typed:
        assert shows(errors, "did you mean --system?")


def test_no_command_at_all_brings_the_help(monkeypatch, capsys) -> None:
    status, output, errors = run(monkeypatch, capsys)
    assert (status, errors) == (2, "")
    assert shows(output, "pretrain", "chat")


@pytest.mark.parametrize(
    ("typed", "shown"), [("pretain", "did you mean pretrain?"), ("sfft", "sft?"), ("xyz", "--help")]
)
def test_an_unknown_command_brings_the_nearest(typed: str, shown: str, monkeypatch, capsys) -> None:
    """One line, exit status 2."""
    with user_error("unknown_command", shown, command=typed):
        cli.app([typed])
    code, output, errors = run(monkeypatch, capsys, typed)
    assert (code, output, errors.count("\n")) == (2, "", 1)
    assert shows(errors, typed, shown)
