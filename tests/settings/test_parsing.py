# SPDX-License-Identifier: Apache-2.0
"""Command line > YAML > default, and one clear line for every mistake."""

import io
import os
from dataclasses import dataclass, field, fields

import pytest
import torch
import yaml
from transformers import AutoConfig, TrainingArguments, set_seed

from scratch_gpt.data.shards.arguments import ShardsArguments, TokenizerArguments
from scratch_gpt.errors import UserError
from scratch_gpt.runs.folders import write_run_yaml
from scratch_gpt.settings.parsing import (
    find_config,
    line_of_mistake,
    parse,
    run_stage,
    show_all_characters,
)
from scratch_gpt.training.pretrain.arguments import PretrainArguments
from wording import shows, user_error


FOLDERS = {"shards": "s", "tokenizer": "t", "output_dir": "o"}


@pytest.fixture
def config(tmp_path):
    def write(**values) -> str:
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(values))
        return str(path)

    return write


def test_command_line_wins_over_yaml_wins_over_default(config) -> None:
    """Each of the three levels fills what the one above leaves open."""
    path = config(**FOLDERS, learning_rate="1e-4", max_steps=7, model_config={"hidden_size": 64})
    arguments = parse(PretrainArguments, ["--config", path, "--max_steps", "9"])
    assert (arguments.max_steps, arguments.learning_rate, arguments.save_steps) == (9, 1e-4, 500)
    assert arguments.model_config == {"hidden_size": 64}


@pytest.mark.parametrize(
    "text", ["{hidden_size: 64, rms_norm_eps: 1.0e-5}", '{"hidden_size": 64, "rms_norm_eps": 1e-5}']
)
def test_mappings_on_the_command_line_are_yaml_or_json(config, text) -> None:
    """Both spellings are the same mapping, with numbers as numbers."""
    arguments = parse(PretrainArguments, ["--config", config(**FOLDERS), "--model_config", text])
    assert arguments.model_config == {"hidden_size": 64, "rms_norm_eps": 1e-5}


def test_lists_on_the_command_line_are_json(config) -> None:
    """A list can be given without a YAML file."""
    arguments = parse(
        ShardsArguments,
        ["--sources", '[{"name": "p", "path": "primer"}]', "--tokenizer", "t", "--output_dir", "o"],
    )
    assert arguments.sources == [{"name": "p", "path": "primer"}]


@pytest.mark.parametrize(
    ("values", "extra", "expected"),
    [
        (
            {**FOLDERS, "learning_rat": 1},
            [],
            user_error("invalid_arguments", "learning_rat", "learning_rate?"),
        ),
        ({**FOLDERS}, ["--warmup-step=1"], user_error("invalid_arguments", "warmup-step", "warmup_steps?")),
        ({"shards": "s", "tokenizer": "t"}, [], user_error("setting_missing", setting="output_dir")),
        (FOLDERS, ["--model_config", "{hidden"], user_error("wrong_value", "expected", value="{hidden")),
        (FOLDERS, ["--model_config", "small"], user_error("wrong_value", "mapping", value="small")),
        (FOLDERS, ["--optim", "adam"], user_error("wrong_value", "adamw?", setting="optim", value="adam")),
        (FOLDERS, ["--config", "x.yaml"], user_error("invalid_arguments", "--config")),
        (FOLDERS, ["--model_config", "[64]"], user_error("wrong_value", setting="model_config", value=[64])),
        ({**FOLDERS, "push_to_hub": True}, [], user_error("setting_missing", setting="hub_model_id")),
        ({**FOLDERS, "sample_prompts": ["The", ""]}, [], user_error("empty_text", "sample_prompts")),
        (
            {**FOLDERS, "tokens": 9},
            ["--num_train_epochs", "2"],
            user_error("settings_conflict", 9, 2.0, setting="tokens", other="num_train_epochs"),
        ),
    ],
)
def test_mistakes_are_wording(config, values, extra, expected) -> None:
    """The message names the key or value."""
    with expected:
        parse(PretrainArguments, ["--config", config(**values), *extra])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mixed_precision", "int3"),
        ("save_steps", 0),
        ("hub_strategy", "never"),
        ("lr_scheduler_type", "linear"),
        ("save_total_limit", 0),
        ("per_device_train_batch_size", -1),
        ("max_grad_norm", 0),
        ("max_grad_norm", -1),
        ("weight_decay", -0.1),
        ("adam_beta1", 1),
        ("adam_beta2", -0.5),
        ("seed", -1),
        ("seed", 1 << 32),
        ("max_steps", 0),
        ("max_steps", -2),
        ("num_train_epochs", -0.5),
        ("max_steps", 7.5),
        ("max_steps", True),
        ("learning_rate", "fast"),
        ("weight_decay", float("nan")),
        ("push_to_hub", "perhaps"),
        ("hub_model_id", 2024),
    ],
)
def test_values_that_cannot_be_are_refused(config, name, value) -> None:
    """Each by its name and value."""
    with user_error("wrong_value", setting=name, value=value):
        parse(PretrainArguments, ["--config", config(**FOLDERS, **{name: value})])


@pytest.mark.parametrize(
    ("name", "text", "value", "typed"),
    [
        ("max_steps", "1e3", "1_000", 1000),
        ("learning_rate", "1", 1, 1.0),
        ("torch_compile", "yes", True, True),
        ("mixed_precision", "no", False, "no"),  # a bare no of a YAML file
        ("report_to", "wandb", "wandb", ["wandb"]),
        ("max_grad_norm", "inf", float("inf"), float("inf")),
        ("model_config", "{hidden_size: 8}", {"hidden_size": 8}, {"hidden_size": 8}),
        ("model_config", "{rms_norm_eps: 1e-6}", {"rms_norm_eps": 1e-6}, {"rms_norm_eps": 1e-6}),
        (
            "shards",
            "[{path: 'C:\\data', weight: 2}]",
            [{"path": "C:\\data", "weight": 2}],
            [{"path": "C:\\data", "weight": 2}],
        ),
        ("sample_prompts", "[One, 'two, three']", ["One", "two, three"], ["One", "two, three"]),
        ("sample_prompts", "[INST] Hi", ["[INST] Hi"], ["[INST] Hi"]),
    ],
)
def test_one_check_for_command_line_yaml_and_python(config, name, text, value, typed) -> None:
    """Each way gives the same value."""
    found = (
        parse(PretrainArguments, ["--config", config(**FOLDERS), f"--{name}", text]),
        parse(PretrainArguments, ["--config", config(**{**FOLDERS, name: value})]),
        PretrainArguments(**{**FOLDERS, name: value}),
    )
    assert [getattr(arguments, name) for arguments in found] == [typed] * 3


@pytest.mark.parametrize(
    ("name", "text"), [("optim", "sgd"), ("save_steps", "0"), ("max_steps", "many"), ("push_to_hub", "maybe")]
)
def test_the_command_line_is_refused_in_the_same_words(config, name, text) -> None:
    """Not in argparse's, which are of another form and several lines."""
    with user_error("wrong_value", setting=name) as of_yaml:
        parse(PretrainArguments, ["--config", config(**FOLDERS, **{name: yaml.safe_load(text)})])
    with user_error("wrong_value", setting=name) as of_words:
        parse(PretrainArguments, ["--config", config(**FOLDERS), f"--{name}", text])
    assert str(of_yaml.value) == str(of_words.value)


def test_what_was_given_and_where_is_remembered(config) -> None:
    """The command line before the file, also where the value is the default."""
    arguments = parse(
        PretrainArguments, ["--config", config(**FOLDERS, seed=3), "--seed=0", "--max-steps", "4"]
    )
    assert arguments.given == {**dict.fromkeys(FOLDERS, "config"), "seed": "user", "max_steps": "user"}


def test_a_negative_seed_of_the_data_is_refused() -> None:
    """numpy's generators take none."""
    with user_error("wrong_value", 2147483647, setting="seed", value=-1):
        ShardsArguments(sources=[{"name": "p", "path": "primer"}], tokenizer="t", output_dir="o", seed=-1)


@pytest.mark.parametrize("name", ["max_characters", "max_document_characters"])
def test_a_tokenizer_needs_text(name) -> None:
    """A budget of nothing is refused before anything is read."""
    with user_error("wrong_value", setting=name, value=0):
        TokenizerArguments(sources=[{"name": "p", "path": "primer"}], output_dir="o", **{name: 0})


@pytest.mark.parametrize("content", [b"a: [1,", b"- a", b"", "# gr\u00fcn".encode("cp1252")])
def test_broken_config_files_are_wording(tmp_path, content) -> None:
    """Not YAML, no mapping, empty, another encoding than UTF-8: the file is named."""
    (tmp_path / "broken.yaml").write_bytes(content)
    with user_error("invalid_yaml", tmp_path / "broken.yaml"):
        parse(PretrainArguments, ["--config", str(tmp_path / "broken.yaml")])


def test_config_files_are_utf8_also_with_a_byte_order_mark(tmp_path) -> None:
    """As Windows' editor writes them."""
    values = {**FOLDERS, "sample_prompts": ["\u011fece"]}
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8-sig")
    assert parse(PretrainArguments, [f"--config={tmp_path / 'a.yaml'}"]).sample_prompts == ["\u011fece"]


@pytest.mark.parametrize("name", ["train/configs/small/pretrain.yaml", "small/pretrain.yaml"])
def test_the_packages_configs_are_found_from_anywhere(name, tmp_path, monkeypatch) -> None:
    """By their path or a shorter one; a file of the user's with the same name is taken first."""
    monkeypatch.chdir(tmp_path)
    arguments = parse(PretrainArguments, ["--config", name])
    assert arguments.output_dir == "runs/small/base"
    assert arguments.config_file.endswith("small/pretrain.yaml")
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_text(yaml.safe_dump(FOLDERS))
    arguments = parse(PretrainArguments, ["--config", name])
    assert (arguments.output_dir, arguments.config_file) == ("o", name)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("smal/pretrain.yaml", "small/pretrain.yaml"),
        ("train/configs/demo/pretrian.yaml", "train/configs/demo/pretrain.yaml"),
        ("eval/configs/qas.yaml", "eval/configs/qa.yaml"),
        ("mine.yml", "mine.yaml"),
    ],
)
def test_a_missing_config_names_the_nearest(name, nearest, tmp_path, monkeypatch) -> None:
    """Among the package's own files and those in the folder that was named."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").touch()
    with user_error("file_not_found", f"{nearest}?", file=name):
        find_config(name)


def test_a_config_sets_environment_variables(config, monkeypatch) -> None:
    """The key `env` of TRL's parser."""
    monkeypatch.setenv("NAMES_TEST", "before")
    parse(PretrainArguments, ["--config", config(**FOLDERS, env={"NAMES_TEST": 3})])
    assert os.environ["NAMES_TEST"] == "3"
    with user_error("wrong_value", setting="env", value="A=1"):
        parse(PretrainArguments, ["--config", config(**FOLDERS, env="A=1")])


def test_any_terminal_can_show_any_text(monkeypatch) -> None:
    """A pipe on Windows has the characters of cp1252; others become "?" there."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr("sys.stdout", stream)
    show_all_characters()
    print("\u2501 \u00fc", file=stream, flush=True)
    assert stream.buffer.getvalue().decode("cp1252").split() == ["?", "\u00fc"]


def test_what_lies_outside_the_configs_is_not_found(tmp_path, monkeypatch) -> None:
    """A name leads out of the package's folders by no "..", and an absolute path is only itself."""
    monkeypatch.chdir(tmp_path)
    for name in ("../pyproject.toml", "train/../pyproject.toml", "/small/pretrain.yaml"):
        with user_error("file_not_found", file=name):
            find_config(name)


def test_a_stage_turns_wording_into_one_line(monkeypatch, capsys) -> None:
    """Exit status 2, the message on standard error, no traceback."""

    def main(arguments) -> None:
        raise UserError("no_shards", "shards: no folder s;\n give another")

    monkeypatch.setattr("sys.argv", ["pretrain.py", *(f"--{key}={value}" for key, value in FOLDERS.items())])
    with pytest.raises(SystemExit) as stopped:
        run_stage(main, PretrainArguments)
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "error: shards: no folder s; give another\n"


def test_what_a_library_refuses_is_one_line(monkeypatch, capsys) -> None:
    """transformers' own ValueError is a line that names its place; one of ours, or a fault below a line of theirs, keeps its traceback."""
    monkeypatch.setattr("sys.argv", ["pretrain.py", *(f"--{key}={value}" for key, value in FOLDERS.items())])
    with pytest.raises(SystemExit) as stopped:
        run_stage(lambda _: AutoConfig.for_model("no_such"), PretrainArguments)
    assert stopped.value.code == 2
    line = capsys.readouterr().err
    assert line.startswith("error: Unrecognized model identifier: no_such")
    assert "(raised in transformers.models.auto.configuration_auto:" in line
    for fails in (lambda _: int("three"), lambda _: set_seed(-1)):  # numpy takes no such seed
        with pytest.raises(ValueError, match=r"three|Seed"):
            run_stage(fails, PretrainArguments)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, monkeypatch, capsys) -> None:
    """A file stands where the output folder should be; an error that the user cannot cure keeps its traceback."""

    def main(arguments) -> None:
        if arguments.output_dir == "broken":
            raise OSError("unknown")
        (tmp_path / "file").write_text("")
        (tmp_path / "file" / "folder").mkdir(parents=True)

    monkeypatch.setattr("sys.argv", ["pretrain.py", *(f"--{key}={value}" for key, value in FOLDERS.items())])
    with pytest.raises(SystemExit) as stopped:
        run_stage(main, PretrainArguments)
    assert stopped.value.code == 2
    assert capsys.readouterr().err == f"error: Not a directory: {tmp_path / 'file' / 'folder'}\n"
    monkeypatch.setattr("sys.argv", ["pretrain.py", "--shards=s", "--tokenizer=t", "--output_dir=broken"])
    with pytest.raises(OSError, match="unknown"):
        run_stage(main, PretrainArguments)


def test_an_operation_that_apple_gpus_lack_is_one_line(monkeypatch, capsys) -> None:
    """torch's words (2.13), with the variable that lets the CPU do it; another thing not implemented is a fault of ours."""
    told = "The operator 'aten::_linalg_det.result' is not currently implemented for the MPS device."

    def main(arguments) -> None:
        raise NotImplementedError(told if arguments.seed else "something else")

    monkeypatch.setattr(
        "sys.argv", ["x.py", "--seed=1", *(f"--{key}={value}" for key, value in FOLDERS.items())]
    )
    with pytest.raises(SystemExit) as stopped:
        run_stage(main, PretrainArguments)
    assert stopped.value.code == 2
    assert shows(capsys.readouterr().err, "aten::_linalg_det.result", "PYTORCH_ENABLE_MPS_FALLBACK=1")
    monkeypatch.setattr("sys.argv", ["x.py", *(f"--{key}={value}" for key, value in FOLDERS.items())])
    with pytest.raises(NotImplementedError):
        run_stage(main, PretrainArguments)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total\ncapacity"
        ),
        RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB). Tried to allocate 20.00 MiB on"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 20.00 MiB"),
    ],
    ids=["cuda", "mps", "cpu"],
)
def test_memory_that_runs_out_is_one_line_with_the_keys_that_help(monkeypatch, capsys, error) -> None:
    """torch's words (2.13); another RuntimeError is a fault of ours."""

    def main(arguments) -> None:
        raise error

    monkeypatch.setattr("sys.argv", ["x.py", *(f"--{key}={value}" for key, value in FOLDERS.items())])
    with pytest.raises(SystemExit) as stopped:
        run_stage(main, PretrainArguments)
    assert stopped.value.code == 2
    line = capsys.readouterr().err
    assert shows(line, "per_device_train_batch_size", "activation_checkpointing", "20.00 MiB")
    assert line.count("\n") == 1
    assert line_of_mistake(RuntimeError("shapes do not match")) is None


def test_run_yaml_holds_every_resolved_argument(tmp_path) -> None:
    """What was used can be read back and used again as a config."""
    arguments = PretrainArguments(**FOLDERS, model_config={"hidden_size": 64})
    write_run_yaml(arguments, tmp_path)
    again = parse(PretrainArguments, ["--config", str(tmp_path / "run.yaml")])
    assert again == arguments


def test_a_cut_off_option_is_no_option(config) -> None:
    """argparse would take --learning_rat for --learning_rate and train with it."""
    with user_error("invalid_arguments", "learning_rat"):
        parse(PretrainArguments, ["--config", config(**FOLDERS), "--learning_rat", "1"])


@dataclass
class OwnArguments(TrainingArguments):
    """Settings over those of transformers: one more, and one with a default of our own."""

    sources: str = field(default="", metadata={"help": "What is read."})
    learning_rate: float = field(default=1.0, metadata={"help": "Ours."})


def test_mappings_of_transformers_are_yaml_too(config) -> None:
    """Which itself reads JSON alone."""
    for text in ("{num_cycles: 2}", '{"num_cycles": 2}'):
        assert parse(OwnArguments, ["--lr_scheduler_kwargs", text]).lr_scheduler_kwargs == {"num_cycles": 2}


def test_a_mistyped_optimizer_of_transformers_brings_the_nearest(config) -> None:
    """On the command line and in YAML; transformers itself lists fifty."""
    expected = user_error("wrong_value", "adamw_torch?", setting="optim", value="adamw_troch")
    with expected:
        parse(OwnArguments, ["--optim", "adamw_troch"])
    with expected:
        parse(OwnArguments, ["--config", config(optim="adamw_troch")])


@pytest.mark.parametrize("asked", ["--help", "--help-all"])
def test_help_is_of_our_settings_unless_all_are_asked_for(asked: str, capsys) -> None:
    """What is declared here comes first; what is inherited as it was, only with `--help-all`."""
    with pytest.raises(SystemExit) as stopped:
        parse(OwnArguments, [asked])
    assert stopped.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    listed = [line.split()[0].rstrip(",") for line in lines if line.startswith("  -")]
    assert listed[:4] == ["-h", "--learning_rate", "--sources", "--help-all"]
    if asked == "--help":
        assert listed[4:] == []
    else:
        inherited = {f"--{setting.name}" for setting in fields(TrainingArguments) if setting.init}
        assert inherited - {"--learning_rate"} <= set(listed[4:])
