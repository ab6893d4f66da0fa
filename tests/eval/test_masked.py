# SPDX-License-Identifier: Apache-2.0
"""`eval/masked.py` as a user runs it, on tiny settings."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from scratch_gpt import ScratchGPTConfig, ScratchGPTForMaskedLM
from scratch_gpt.data.shards.arguments import ShardsArguments
from scratch_gpt.data.shards.writing import write_shards
from scratch_gpt.settings.parsing import parse
from wording import user_error


EVAL = Path(__file__).parents[2] / "eval"


def load_script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"eval_{name}", EVAL / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def shards(trained_tokenizer, tmp_path) -> Path:
    """A little of the primer."""
    trained_tokenizer.save_pretrained(tmp_path / "tokenizer")
    write_shards(
        ShardsArguments(
            sources=[{"name": "primer", "path": "primer"}],
            tokenizer=str(tmp_path / "tokenizer"),
            output_dir=str(tmp_path / "shards"),
            sequence_length=64,
            max_tokens=20_000,
            validation_fraction=0.1,
        )
    )
    return tmp_path / "shards"


@pytest.fixture
def encoder_folder(trained_tokenizer, tmp_path) -> Path:
    """An untrained masked language model."""
    torch.manual_seed(0)
    shape = {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
    }
    ids = {name: getattr(trained_tokenizer, name) for name in ("pad_token_id", "eos_token_id")}
    model = ScratchGPTForMaskedLM(ScratchGPTConfig(vocab_size=512, is_causal=False, **shape, **ids))
    model.save_pretrained(tmp_path / "encoder")
    trained_tokenizer.save_pretrained(tmp_path / "encoder")
    return tmp_path / "encoder"


def rows_of(output: str) -> dict[str, list[str]]:
    """The cells of the printed table."""
    lines = [line.strip("│ \n").split("│") for line in output.splitlines() if "│" in line]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines}


def test_masked_prints_models_beside_ngrams(encoder_folder, shards, capsys) -> None:
    """An untrained model is as good as a uniform guess; five-grams are better than unigrams, and both than that."""
    script = load_script("masked")
    settings = ["--max_blocks", "8", "--pseudo_blocks", "2"]
    script.main(
        parse(script.MaskedArguments, ["--model", str(encoder_folder), "--shards", str(shards), *settings])
    )
    rows = rows_of(capsys.readouterr().out)
    accuracy, perplexity = (
        [float(rows[name][column]) for name in ("unigram", "5-gram")] for column in (0, 1)
    )
    assert accuracy[0] < accuracy[1] < 1
    assert 512 > perplexity[0] > perplexity[1] > 1
    (ours,) = (cells for name, cells in rows.items() if "encoder" in name or name.startswith("/"))
    assert float(ours[0]) < 0.25  # its tied head echoes the input, right at the tenth of the tokens that stay
    assert float(ours[1]) == pytest.approx(512, rel=0.1)


def test_masked_refuses_a_decoder_and_foreign_shards(base_folder, encoder_folder, shards) -> None:
    """One line each."""
    script = load_script("masked")
    with user_error("wrong_model", base_folder, found=["ScratchGPTForCausalLM"]):
        script.main(script.MaskedArguments(model=[str(base_folder)], shards=str(shards)))
    manifest = shards / "validation" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"tokenizer_hash": "', '"tokenizer_hash": "0'))
    with user_error("another_tokenizer", folder=shards / "validation"):
        script.main(script.MaskedArguments(model=[str(encoder_folder)], shards=str(shards)))
    with user_error("setting_missing", "--model", setting="model"):
        script.MaskedArguments(shards=str(shards))
