# SPDX-License-Identifier: Apache-2.0
"""`shards` as a list: what is refused, which folder is used when, and all folders as one."""

import json
from pathlib import Path

import numpy as np
import pytest

from scratch_gpt.data.shards.mixed_blocks import MixedBlocks, ShardsEntry, parse_shards, phases_of
from scratch_gpt.tokenization import tokenizer_hash
from wording import user_error


def test_a_folder_is_one_entry_and_a_list_is_checked() -> None:
    """With defaults: equal weights, the whole run."""
    assert parse_shards("a") == [ShardsEntry("a", 1.0, 0.0, 1.0)]
    assert parse_shards([{"path": "a"}, {"path": "b", "weight": 0.5, "from": 0.8}]) == [
        ShardsEntry("a"),
        ShardsEntry("b", 0.5, 0.8),
    ]


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([{"path": "a", "wieght": 1}], user_error("unknown_key", "weight", key="wieght")),
        ([{"weight": 1}], user_error("setting_missing", setting="path")),
        (["a"], user_error("wrong_value", value="a")),
        ([{"path": "a", "weight": 0}], user_error("wrong_value", setting="weight", value=0)),
        (
            [{"path": "a", "weight": -0.5}, {"path": "b"}],
            user_error("wrong_value", setting="weight", value=-0.5),
        ),
        ([{"path": "a", "weight": float("nan")}], user_error("wrong_value", setting="weight")),
        ([{"path": "a", "from": "80%"}], user_error("wrong_value", setting="from", value="80%")),
        ([{"path": "a", "from": 0.5, "until": 0.5}], user_error("wrong_value", 0.5)),
        ([{"path": "a", "until": 1.5}], user_error("wrong_value", 1.5)),
        ([{"path": "a", "from": True}], user_error("wrong_value", setting="from")),
        (
            [{"path": "a", "until": 0.3}, {"path": "b", "from": 0.5}],
            user_error("phase_without_shards", start=0.3, stop=0.5),
        ),
    ],
)
def test_what_cannot_work_is_refused(entries, expected) -> None:
    """In one line that names the value."""
    with expected:
        parse_shards(entries)


def test_phases_begin_between_steps() -> None:
    """By hand: 10 steps of 4 blocks; weights are relative to those in use; a folder may come twice."""
    entries = parse_shards(
        [{"path": "a", "weight": 3, "until": 0.75}, {"path": "b"}, {"path": "a", "weight": 1, "from": 0.75}]
    )
    assert phases_of(entries, ["a", "b"], 10, 4) == [(32, [0.75, 0.25]), (40, [0.5, 0.5])]


def write(folder: Path, first: int, blocks: int, sequence_length: int = 4, **manifest) -> dict[str, str]:
    """Held-out blocks of one source, of the ids from `first` on, as an entry of `shards`."""
    (folder / "validation").mkdir(parents=True)
    ids = np.arange(first, first + blocks * sequence_length, dtype="<u2")
    ids.tofile(folder / "validation" / "tokens.bin")
    source = {"name": "web", "block_range": [0, blocks]}
    sums = {"blocks": blocks, "tokens": len(ids), "bytes": 2 * len(ids), "documents": 1, "padding_tokens": 0}
    known = {
        "dtype": "uint16",
        "sequence_length": sequence_length,
        "tokenizer_hash": "x",
        "sources": [source],
    }
    content = {**sums, **known, "content_hash": folder.name, **manifest}
    (folder / "validation" / "manifest.json").write_text(json.dumps(content))
    return {"path": str(folder)}


def test_folders_are_one_after_the_other(tmp_path) -> None:
    """Blocks, sums and ranges; a name of two sources gets its folder; one folder alone keeps its manifest."""
    entries = [write(tmp_path / "a", 0, 2), write(tmp_path / "b", 50, 3), {"path": f"{tmp_path}/a/"}]
    blocks = MixedBlocks(parse_shards(entries), "validation")
    assert [blocks[index][0] for index in range(len(blocks))] == [0, 4, 50, 54, 58]
    assert blocks.evenly_spaced_indices(2) == [0, 2]
    manifest = blocks.manifest
    assert [manifest[name] for name in ("blocks", "tokens", "bytes", "documents")] == [5, 20, 40, 2]
    assert manifest["sources"] == [
        {"name": f"{tmp_path}/a/web", "block_range": [0, 2]},
        {"name": f"{tmp_path}/b/web", "block_range": [2, 5]},
    ]
    assert manifest["content_hashes"] == {f"{tmp_path}/a": "a", f"{tmp_path}/b": "b"}
    alone = MixedBlocks(parse_shards(str(tmp_path / "a")), "validation").manifest
    assert alone == json.loads((tmp_path / "a" / "validation" / "manifest.json").read_text())
    others = [MixedBlocks(parse_shards(order), "validation").manifest for order in (entries[1:], entries[:1])]
    assert len({each["content_hash"] for each in (manifest, *others)}) == 3


def test_folders_that_do_not_fit_together_are_refused(tmp_path, trained_tokenizer) -> None:
    """Blocks of another length, or of another tokenizer."""
    own = tokenizer_hash(trained_tokenizer)
    entries = [
        write(tmp_path / "a", 0, 2, tokenizer_hash=own),
        write(tmp_path / "b", 0, 2, 8, tokenizer_hash=own),
        write(tmp_path / "c", 0, 2),
    ]
    with user_error("block_lengths_differ", lengths=[4, 8]):
        MixedBlocks(parse_shards(entries[:2]), "validation", trained_tokenizer)
    with user_error("another_tokenizer", folder=tmp_path / "c" / "validation"):
        MixedBlocks(parse_shards(entries[::2]), "validation", trained_tokenizer)
