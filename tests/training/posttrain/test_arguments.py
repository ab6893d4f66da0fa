# SPDX-License-Identifier: Apache-2.0
"""Settings of the stages on top of TRL: the shipped YAML files, `run.yaml`, what is missing."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from scratch_gpt.runs.folders import write_run_yaml
from scratch_gpt.settings.parsing import parse
from scratch_gpt.training.posttrain import arguments, lora
from scratch_gpt.training.posttrain.arguments import (
    DistillArguments,
    DPOArguments,
    KTOArguments,
    RewardArguments,
    SFTArguments,
)
from scratch_gpt.training.posttrain.seq2seq import Seq2SeqArguments
from scratch_gpt.training.rl.arguments import RLHFArguments
from wording import user_error


CONFIGS = Path(__file__).parents[3] / "train" / "configs"
CONFIG_FILES = {
    "demo/sft.yaml": SFTArguments,
    "demo/reward.yaml": RewardArguments,
    "demo/dpo.yaml": DPOArguments,
    "demo/kto.yaml": KTOArguments,
    "demo/distill.yaml": DistillArguments,
    "demo/rlhf.yaml": RLHFArguments,
    "demo/seq2seq.yaml": Seq2SeqArguments,
    "real/sft_dolly.yaml": SFTArguments,
    "real/sft_mixture.yaml": SFTArguments,
    "real/reward_polite.yaml": RewardArguments,
    "real/rlhf_polite.yaml": RLHFArguments,
    "real/dpo_polite.yaml": DPOArguments,
}


def sft_arguments(folder: Path, **settings: Any) -> SFTArguments:
    sources = [{"name": "primer", "path": "primer"}]
    given = {"model_name_or_path": "base", "sources": sources, "output_dir": str(folder), **settings}
    return SFTArguments(**given)


@pytest.mark.parametrize("name", CONFIG_FILES)
def test_shipped_configs_parse_and_run_yaml_repeats_them(name: str, tmp_path: Path) -> None:
    """Every shipped YAML is understood, and the run.yaml that a run leaves is a config with the same settings."""
    arguments = parse(CONFIG_FILES[name], ["--config", str(CONFIGS / name)])
    for key, value in yaml.safe_load((CONFIGS / name).read_text(encoding="utf-8")).items():
        assert getattr(arguments, key) == value
    write_run_yaml(arguments, tmp_path)
    again = parse(CONFIG_FILES[name], ["--config", str(tmp_path / "run.yaml")])
    assert again.to_dict() == arguments.to_dict()


def test_an_unknown_key_is_an_error(tmp_path: Path) -> None:
    """A misspelt setting in the YAML is named, not ignored."""
    config = {"model_name_or_path": "b", "output_dir": "o", "sources": [{"name": "p", "path": "primer"}]}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({**config, "lerning_rate": 1.0}), encoding="utf-8")
    with user_error("invalid_arguments", "lerning_rate"):
        parse(SFTArguments, ["--config", str(tmp_path / "c.yaml")])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"replay_fraction": 1.0}, user_error("wrong_value", setting="replay_fraction", value=1.0)),
        (
            {"replay_fraction": 0.2},
            user_error("setting_without_effect", 0.2, "replay_shards", setting="replay_fraction"),
        ),
        ({"lora_r": 4}, user_error("setting_without_effect", 4, "use_peft", setting="lora_r")),
        (
            {"load_in_4bit": True},
            user_error("setting_without_effect", "use_peft", setting="load_in_4bit"),
        ),
        ({"max_eval_prompts": -1}, user_error("wrong_value", setting="max_eval_prompts", value=-1)),
        ({"output_dir": "./base"}, user_error("output_is_input", folder="./base")),
        ({"max_train_samples": 0}, user_error("wrong_value", setting="max_train_samples", value=0)),
        *(
            ({name: value}, user_error("setting_without_effect", value, setting=name))
            for name, value in {
                "chat_template_path": "other.jinja",
                "eos_token": "</s>",
                "pad_token": "</s>",
                "truncation_mode": "keep_end",
                "dataset_text_field": "body",
                "dataset_kwargs": {"skip_prepare_dataset": True},
                "completion_only_loss": True,
                "model_init_kwargs": {"dtype": "bfloat16"},
            }.items()
        ),
    ],
)
def test_impossible_settings_are_named(
    settings: dict[str, Any], expected: user_error, tmp_path: Path
) -> None:
    """Before anything is loaded."""
    with expected:
        sft_arguments(tmp_path, **settings)


def test_lora_is_a_switch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Off, TRL's trainers get no PEFT config; on, TRL's names reach it; without the package, the cure is named."""
    assert sft_arguments(tmp_path).peft_config("CAUSAL_LM") is None
    arguments = sft_arguments(tmp_path, use_peft=True, lora_r=4, lora_alpha=9, lora_target_modules=["q_proj"])
    config = arguments.peft_config("SEQ_CLS")
    assert (config.r, config.lora_alpha, config.target_modules) == (4, 9, {"q_proj"})
    assert config.task_type == "SEQ_CLS"
    monkeypatch.setattr(lora, "find_spec", lambda name: None)
    with user_error("missing_package", 'pip install "scratch-gpt[peft]"', package="scratch-gpt[peft]"):
        arguments.peft_config("CAUSAL_LM")
    four_bits = sft_arguments(tmp_path, use_peft=True, load_in_4bit=True)
    assert arguments.quantization_config() is None
    with user_error("missing_package", "pip install bitsandbytes", package="bitsandbytes"):
        four_bits.quantization_config()


@pytest.mark.parametrize(
    ("stage", "settings"),
    [
        (RewardArguments, {"chat_template_path": "other.jinja"}),
        (RewardArguments, {"eos_token": "</s>"}),
        (DPOArguments, {"truncation_mode": "keep_end"}),
        (DPOArguments, {"padding_free": True}),
        (DistillArguments, {"teacher_model_init_kwargs": {"dtype": "bfloat16"}}),
        (DistillArguments, {"vllm_mode": "server"}),
        (RLHFArguments, {"load_in_4bit": True, "use_peft": True}),
    ],
)
def test_other_stages_refuse_what_has_no_effect(
    stage: type, settings: dict[str, Any], tmp_path: Path
) -> None:
    """Settings of TRL's that their trainers would take and the stage does not use."""
    name = next(iter(settings))
    settings |= {
        DistillArguments: {"teacher_model_name_or_path": "t"},
        RLHFArguments: {"reward_model": "r"},
    }.get(stage, {})
    sources = [{"name": "primer", "path": "primer"}]
    with user_error("setting_without_effect", setting=name):
        stage(model_name_or_path="chat", sources=sources, output_dir=str(tmp_path), **settings)


@pytest.mark.parametrize(
    ("stage", "settings"),
    [
        (SFTArguments, {"per_device_train_batch_size": 0}),
        (SFTArguments, {"gradient_accumulation_steps": 0}),
        (SFTArguments, {"adam_beta1": 2.0}),
        (SFTArguments, {"num_train_epochs": -1.0}),
        (SFTArguments, {"max_length": -5}),
        (DPOArguments, {"label_smoothing": 0.7}),
        (DPOArguments, {"ld_alpha": 3.0}),
        (RLHFArguments, {"top_p": 3.0}),
        (RLHFArguments, {"temperature": -1.0}),
        (RLHFArguments, {"max_completion_length": 0}),
    ],
)
def test_numbers_that_make_no_sense_are_refused(
    stage: type, settings: dict[str, Any], tmp_path: Path
) -> None:
    """Of TRL's and transformers' settings, which would end in torch or be used as they are."""
    ((name, value),) = settings.items()
    given = {
        "model_name_or_path": "m",
        "sources": [{"name": "p", "path": "primer"}],
        "output_dir": str(tmp_path),
    }
    with user_error("wrong_value", setting=name, value=value):
        stage(**given, **({"reward_model": "r"} if stage is RLHFArguments else {}), **settings)


def test_options_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    """Of the learning rate's schedule, of `generate`; and what needs a GPU."""
    assert sft_arguments(tmp_path, lr_scheduler_type="cosine", lr_scheduler_kwargs={"num_cycles": 1})
    with user_error("unknown_key", "linear", key="num_cycles"):
        sft_arguments(tmp_path, lr_scheduler_kwargs={"num_cycles": 1})
    given = {
        "model_name_or_path": "m",
        "sources": [{"name": "p", "path": "primer"}],
        "output_dir": str(tmp_path),
    }
    with user_error("unknown_key", "generation_kwargs", key="foo"):
        RLHFArguments(**given, reward_model="r", generation_kwargs={"foo": 1})
    if not torch.accelerator.is_available():
        with user_error("setting_without_effect", "GPU", setting="activation_offloading"):
            sft_arguments(tmp_path, activation_offloading=True)


@pytest.mark.parametrize("multiplies", [True, False])
def test_a_cpu_computes_in_bfloat16_where_it_multiplies_it(
    multiplies: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in pretraining; what is asked for is kept."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": multiplies}, raising=False)
    assert sft_arguments(tmp_path, use_cpu=True).bf16 is multiplies
    assert sft_arguments(tmp_path, use_cpu=True, bf16=not multiplies).bf16 is not multiplies


def test_the_older_name_of_activation_checkpointing_has_its_effect(tmp_path: Path) -> None:
    """gradient_checkpointing true switches it on; run.yaml has the one name, so that it can be switched off again."""
    arguments = sft_arguments(tmp_path, gradient_checkpointing=True)
    assert arguments.activation_checkpointing is True
    assert not sft_arguments(tmp_path).activation_checkpointing
    write_run_yaml(arguments, tmp_path)
    again = parse(
        SFTArguments, ["--config", str(tmp_path / "run.yaml"), "--activation_checkpointing", "false"]
    )
    assert again.activation_checkpointing is False


@pytest.mark.parametrize(
    ("settings", "precision"),
    [({"bf16": False}, "no"), ({"bf16": True}, "bf16"), ({"fp16": True, "bf16": False}, "fp16")],
)
@pytest.mark.parametrize("launcher", ["no", "bf16", "fp16"])
def test_the_launchers_precision_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, launcher: str, settings: dict[str, Any], precision: str
) -> None:
    """What transformers hands to Accelerate is what the settings say."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", launcher)
    assert sft_arguments(tmp_path, **settings).mixed_precision == precision


def test_bfloat16_is_not_chosen_beside_float16(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the machine is made for it: transformers refuses both together."""
    monkeypatch.setattr(arguments, "cpu_precision", lambda: "bf16")
    assert sft_arguments(tmp_path).bf16
    assert sft_arguments(tmp_path, fp16=True).mixed_precision == "fp16"


@pytest.mark.parametrize("kind", ["FSDP", "DEEPSPEED", "MEGATRON_LM"])
def test_weights_divided_among_processes_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """By the variable that the launcher sets, before anything is loaded."""
    monkeypatch.setenv(f"ACCELERATE_USE_{kind}", "true")
    with user_error("unsupported_parallelism", "multi_gpu.yaml", kind=kind):
        sft_arguments(tmp_path)


def test_sharding_by_a_setting_is_refused(tmp_path: Path) -> None:
    """Transformers' own switch."""
    with user_error("unsupported_parallelism", kind="FSDP"):
        sft_arguments(tmp_path, fsdp="full_shard")
