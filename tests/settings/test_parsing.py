# SPDX-License-Identifier: Apache-2.0
"""Command line > YAML > default, and one clear line for every mistake."""

import pytest
import yaml

from scratch_gpt.data.shards.arguments import ShardsArguments, TokenizerArguments
from scratch_gpt.errors import UserError
from scratch_gpt.runs.folders import write_run_yaml
from scratch_gpt.settings.parsing import parse, run_stage
from scratch_gpt.training.pretrain.arguments import PretrainArguments


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
    ("values", "extra", "message"),
    [
        ({**FOLDERS, "learning_rat": 1}, [], "learning_rat"),
        ({"shards": "s", "tokenizer": "t"}, [], "output_dir is missing"),
        (
            FOLDERS,
            ["--model_config", "{hidden"],
            r"model_config must be YAML or JSON, got '\{hidden' \(expected",
        ),
        (FOLDERS, ["--model_config", "small"], "model_config must be a mapping or a list, got 'small'"),
        (FOLDERS, ["--model_config", "[64]"], r"model_config must be a mapping such as .*, got \[64\]"),
        ({**FOLDERS, "mixed_precision": "int3"}, [], "int3"),
        ({**FOLDERS, "save_steps": 0}, [], "save_steps"),
        ({**FOLDERS, "push_to_hub": True}, [], "hub_model_id"),
        ({**FOLDERS, "hub_strategy": "never"}, [], "hub_strategy must be end or every_save"),
        ({**FOLDERS, "lr_scheduler_type": "linear"}, [], "lr_scheduler_type must be warmup_stable_decay or"),
        ({**FOLDERS, "save_total_limit": 0}, [], "save_total_limit must be at least 1"),
        (
            {**FOLDERS, "per_device_train_batch_size": -1},
            [],
            "per_device_train_batch_size must be at least 1",
        ),
        ({**FOLDERS, "max_steps": 0}, [], "nothing to train: max_steps is 0"),
        ({**FOLDERS, "max_steps": -2}, [], "nothing to train: max_steps is -2"),
        ({**FOLDERS, "max_grad_norm": 0}, [], "max_grad_norm must be above 0 .inf: no clipping., got 0"),
        ({**FOLDERS, "max_grad_norm": -1}, [], "max_grad_norm must be above 0"),
        ({**FOLDERS, "weight_decay": -0.1}, [], "weight_decay must be at least 0, got -0.1"),
        ({**FOLDERS, "adam_beta1": 1}, [], "adam_beta1 must be at least 0 and below 1, got 1"),
        ({**FOLDERS, "adam_beta2": -0.5}, [], "adam_beta2 must be at least 0 and below 1, got -0.5"),
        ({**FOLDERS, "seed": -1}, [], "seed must be from 0 to 2147483647, got -1"),
        ({**FOLDERS, "seed": 1 << 32}, [], "seed must be from 0 to 2147483647, got 4294967296"),
        ({**FOLDERS, "sample_prompts": ["The", ""]}, [], "sample_prompts must not be empty texts"),
        ({**FOLDERS, "tokens": 9}, ["--num_train_epochs", "2"], "tokens 9 and num_train_epochs 2.0 are both"),
        ({**FOLDERS, "num_train_epochs": -0.5}, [], "num_train_epochs -0.5"),
    ],
)
def test_mistakes_are_user_errors(config, values, extra, message) -> None:
    """The message names the key or value."""
    with pytest.raises(UserError, match=message):
        parse(PretrainArguments, ["--config", config(**values), *extra])


def test_a_negative_seed_of_the_data_is_refused() -> None:
    """numpy's generators take none."""
    with pytest.raises(UserError, match="seed must be from 0 to 2147483647, got -1"):
        ShardsArguments(sources=[{"name": "p", "path": "primer"}], tokenizer="t", output_dir="o", seed=-1)


@pytest.mark.parametrize("name", ["max_characters", "max_document_characters"])
def test_a_tokenizer_needs_text(name) -> None:
    """A budget of nothing is refused before anything is read."""
    with pytest.raises(UserError, match=f"{name} must be at least 1, got 0"):
        TokenizerArguments(sources=[{"name": "p", "path": "primer"}], output_dir="o", **{name: 0})


def test_missing_and_broken_config_files_are_user_errors(tmp_path) -> None:
    """A YAML that is not there, and one that is not YAML."""
    with pytest.raises(UserError, match="not found"):
        parse(PretrainArguments, ["--config", str(tmp_path / "none.yaml")])
    (tmp_path / "broken.yaml").write_text("a: [1,")
    with pytest.raises(UserError, match="not valid YAML"):
        parse(PretrainArguments, ["--config", str(tmp_path / "broken.yaml")])


def test_a_stage_turns_user_errors_into_one_line(monkeypatch, capsys) -> None:
    """Exit status 2, the message on standard error, no traceback."""

    def main(arguments) -> None:
        raise UserError("shards: no folder s;\n give another")

    monkeypatch.setattr("sys.argv", ["pretrain.py", *(f"--{key}={value}" for key, value in FOLDERS.items())])
    with pytest.raises(SystemExit) as stopped:
        run_stage(main, PretrainArguments)
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "error: shards: no folder s; give another\n"


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


def test_run_yaml_holds_every_resolved_argument(tmp_path) -> None:
    """What was used can be read back and used again as a config."""
    arguments = PretrainArguments(**FOLDERS, model_config={"hidden_size": 64})
    write_run_yaml(arguments, tmp_path)
    again = parse(PretrainArguments, ["--config", str(tmp_path / "run.yaml")])
    assert again == arguments


def test_a_cut_off_option_is_no_option(config) -> None:
    """argparse would take --learning_rat for --learning_rate and train with it."""
    with pytest.raises(UserError, match="learning_rat"):
        parse(PretrainArguments, ["--config", config(**FOLDERS), "--learning_rat", "1"])
