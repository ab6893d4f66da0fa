# SPDX-License-Identifier: Apache-2.0
"""`eval/engineering/architectures.py` as a user runs it, on tiny settings."""

import json

import architectures as script

from scratch_gpt.settings.parsing import parse
from wording import user_error


def test_architectures_prints_a_table_and_writes_all_figures(tmp_path, capsys) -> None:
    """On the primer, for a moment: trivial translators, both models with every seed, a summary."""
    shape = {"hidden_size": 32, "num_attention_heads": 2, "max_position_embeddings": 64}
    settings = {
        "decoder": {**shape, "num_hidden_layers": 2, "intermediate_size": 104},
        "encoder_decoder": {**shape, "num_hidden_layers": 1, "intermediate_size": 84},
        "vocab_size": 512,
        "seconds": 0.3,
        "max_new_tokens": 4,
        "num_threads": 1,
        "output": str(tmp_path / "out" / "race.json"),
    }
    words = [
        word
        for name, value in settings.items()
        for word in (f"--{name}", value if isinstance(value, str) else json.dumps(value))
    ]
    script.main(parse(script.ArchitecturesArguments, [*words, "--seeds", "0", "1"]))
    output = capsys.readouterr().out
    for what in ("copy the source", "word by word", "decoder", "encoder-decoder"):
        assert f"| primer | {what} |" in output
    assert " wins by " in output
    assert "primer/bleu: nrefs:1|case:mixed|" in output
    written = json.loads((tmp_path / "out" / "race.json").read_text())
    assert {kind: len(rows) for kind, rows in written["results"]["primer"].items()} == {
        "decoder": 2,
        "encoder-decoder": 2,
    }
    with user_error("setting_missing", setting="decoder"):
        script.ArchitecturesArguments()
    with user_error("wrong_value", "wall", "processor", setting="clock", value="cpu"):
        script.ArchitecturesArguments(decoder=shape, encoder_decoder=shape, clock="cpu")
