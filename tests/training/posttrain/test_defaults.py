# SPDX-License-Identifier: Apache-2.0
"""What a stage fills in by the model's size: harmless for published models, as before for small ones."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from trl import DistillationConfig, DPOConfig, SFTConfig

from scratch_gpt.training.posttrain import defaults
from scratch_gpt.training.posttrain.arguments import (
    DistillArguments,
    DPOArguments,
    RewardArguments,
    SFTArguments,
)
from scratch_gpt.training.posttrain.defaults import rate_by_size, resolve_defaults
from scratch_gpt.training.rl.arguments import RLHFArguments
from wording import shows


GIB = 2**30


def resolved(kind: Any, parameters: float, folder: Path, memory: float = 64 * GIB, **settings: Any) -> Any:
    """The arguments of a stage for a model of this size with Qwen3's vocabulary and context."""
    given = {"model_name_or_path": "base", "output_dir": str(folder), "sources": [{"name": "a", "path": "a"}]}
    arguments = kind(**given, **settings)
    config = SimpleNamespace(vocab_size=151936, max_position_embeddings=40960)
    model = SimpleNamespace(num_parameters=lambda: int(parameters), config=config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(defaults, "device_memory", lambda: memory)
        resolve_defaults(arguments, model)
    return arguments


def test_the_rate_falls_with_the_size() -> None:
    """Ours up to ten million parameters, TRL's from half a billion, a straight line between in logarithms."""
    assert rate_by_size(1e-3, 2e-5, 3_000_000) == rate_by_size(1e-3, 2e-5, 10_000_000) == 1e-3
    assert rate_by_size(1e-3, 2e-5, 600_000_000) == 2e-5
    # 50 times the parameters, a fiftieth of the rate: inversely proportional
    assert rate_by_size(1e-3, 2e-5, 100_000_000) == pytest.approx(1e-4)


def test_a_published_model_gets_what_its_size_bears(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """0.6 billion parameters: TRL's rates, fewer passes, shorter rows than the context; each line has its source."""
    sft = resolved(SFTArguments, 6e8, tmp_path)
    assert (sft.learning_rate, sft.num_train_epochs, sft.max_length) == (SFTConfig.learning_rate, 2, 2048)
    assert sft.use_peft is False
    told = capsys.readouterr().out
    assert shows(told, "learning_rate 2e-05", "600,000,000", "TRL", "max_length 2048", "num_train_epochs 2")
    dpo = resolved(DPOArguments, 6e8, tmp_path)
    assert (dpo.learning_rate, dpo.num_train_epochs) == (DPOConfig.learning_rate, 1)
    assert resolved(RewardArguments, 6e8, tmp_path).learning_rate == 1e-4
    assert resolved(RLHFArguments, 6e8, tmp_path, rewards=[{"name": "finished"}]).learning_rate == 1e-6
    distill = resolved(DistillArguments, 6e8, tmp_path, teacher_model_name_or_path="teacher")
    assert distill.learning_rate == DistillationConfig.learning_rate and not hasattr(distill, "use_peft")


def test_a_step_has_eight_rows_however_few_fit(tmp_path: Path) -> None:
    """Logits of 2048 tokens over 151,936 take 3.5 GiB a row with their gradient: a quarter of 32 GiB holds two."""
    for memory, size in ((32 * GIB, 2), (4 * GIB, 1), (640 * GIB, 8)):
        sft = resolved(SFTArguments, 1e6, tmp_path, memory)
        assert sft.per_device_train_batch_size == size
        assert sft.per_device_train_batch_size * sft.gradient_accumulation_steps == 8
        assert sft.num_train_epochs == 3
    given = resolved(SFTArguments, 1e6, tmp_path, GIB, per_device_train_batch_size=4)
    assert (given.per_device_train_batch_size, given.gradient_accumulation_steps) == (4, 1)


def test_lora_where_all_weights_do_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A billion parameters take 16 GB with gradient and AdamW's moments; adapters learn at ten times the rate."""
    pytest.importorskip("peft", reason="needs the package of scratch-gpt[peft]")
    sft = resolved(SFTArguments, 1e9, tmp_path, 16 * GIB)
    assert sft.use_peft is True and sft.learning_rate == pytest.approx(2e-4)
    assert shows(capsys.readouterr().out, "use_peft True", "14.9 GiB", "16.0 GiB")
    assert resolved(SFTArguments, 1e9, tmp_path, 32 * GIB).use_peft is False
    assert resolved(SFTArguments, 1e6, tmp_path, use_peft=True).learning_rate == 3e-3


def test_what_is_asked_for_stays(tmp_path: Path) -> None:
    """Settings of the user's are not touched."""
    asked = {"learning_rate": 5e-6, "num_train_epochs": 7, "max_length": 100, "use_peft": False}
    sft = resolved(SFTArguments, 1e9, tmp_path, GIB, **asked)
    assert {name: getattr(sft, name) for name in asked} == asked
