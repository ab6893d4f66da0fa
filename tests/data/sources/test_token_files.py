# SPDX-License-Identifier: Apache-2.0
"""Token files of other projects, written here by hand as those projects write them."""

import numpy as np
import pytest

from scratch_gpt.data.shards.arguments import ShardsArguments, TokenizerArguments
from scratch_gpt.data.shards.blocks import PackedBlocks
from scratch_gpt.data.shards.writing import write_shards
from scratch_gpt.data.sources.bad_rows import BadRows
from scratch_gpt.data.sources.files import unread_files
from scratch_gpt.data.sources.source import parse_sources, read_documents
from scratch_gpt.data.sources.token_files import hold_tokens, read_tokens, token_documents
from scratch_gpt.tokenization import END_OF_TEXT, tokenizer_hash
from wording import user_error


END = 9
DOCUMENTS = [[1, 2, 3], [4], [5, 6]]


def header(magic: int, count: int) -> bytes:
    values = np.zeros(256, "<i4")
    values[:3] = magic, 1, count
    return values.tobytes()


def write(folder, kind: str, dtype: str = "<u2"):
    """The documents as a file of this kind: llm.c begins documents with the end-of-text id, the others end with it."""
    after = np.array([token for document in DOCUMENTS for token in (*document, END)], dtype)
    before = np.array([token for document in DOCUMENTS for token in (END, *document)], dtype)
    path = folder / f"x.{kind.split('-')[0]}"
    if kind == "bin-llmc":
        path.write_bytes(header(20240520 if dtype == "<u2" else 20240801, len(before)) + before.tobytes())
    elif kind == "npy-real":
        np.save(path, after)
    elif kind == "ds":
        path.write_bytes(after.tobytes())
        path.with_name("x.ds.index").write_bytes(np.array([4, 6, 9], "<u8").tobytes())
    else:
        path.write_bytes(after.tobytes())
    return path


@pytest.mark.parametrize("kind", ["bin-nanogpt", "bin-llmc", "npy-raw", "npy-real", "ds"])
@pytest.mark.parametrize(("dtype", "vocab_size"), [("<u2", 10), ("<u4", 100_000)])
def test_documents_are_those_that_were_written(tmp_path, kind, dtype, vocab_size) -> None:
    """Whatever the file, in both widths; end-of-text ids are no part of them."""
    found = token_documents(write(tmp_path, kind, dtype), vocab_size, END)
    assert [document.tolist() for document in found] == DOCUMENTS


def test_documents_of_an_index_may_have_no_end_of_text(tmp_path) -> None:
    """As datatrove writes them without an eos token."""
    (tmp_path / "x.ds").write_bytes(np.arange(6, dtype="<u2").tobytes())
    (tmp_path / "x.ds.index").write_bytes(np.array([2, 6], "<u8").tobytes())
    assert [each.tolist() for each in token_documents(tmp_path / "x.ds", 10, END)] == [[0, 1], [2, 3, 4, 5]]


def test_what_is_damaged_or_of_another_tokenizer_is_refused(tmp_path) -> None:
    """In one line that names the file."""
    path = write(tmp_path, "bin-llmc")
    path.write_bytes(path.read_bytes()[:-2])
    with user_error("damaged_file", file=path):
        read_tokens(path, 10)
    path.write_bytes(b"abc")
    with user_error("damaged_file", file=path):
        read_tokens(path, 10)
    with user_error("unknown_token", "tokenizer", token=9):
        list(token_documents(write(tmp_path, "bin-nanogpt"), 6, 3))
    np.save(tmp_path / "x.npy", np.zeros((2, 2)))
    with user_error("unreadable_file", "float64", file=tmp_path / "x.npy"):
        read_tokens(tmp_path / "x.npy", 10)
    path = write(tmp_path, "ds")
    path.with_name("x.ds.index").write_bytes(np.array([4, 6], "<u8").tobytes())
    with user_error("damaged_file", "9", file=tmp_path / "x.ds.index"):
        list(token_documents(path, 10, END))
    path.with_name("x.ds.index").unlink()
    with user_error("file_not_found", file=tmp_path / "x.ds.index"):
        list(token_documents(path, 10, END))


def test_the_shards_stage_keeps_the_ids(tmp_path, trained_tokenizer) -> None:
    """The same blocks, documents and bytes as from the text; the tokenizer stage refuses such files."""
    trained_tokenizer.save_pretrained(tmp_path / "tokenizer")
    texts = [f"{number} little bears met {number * 7} foxes, as ever." for number in range(60)]
    end = trained_tokenizer.convert_tokens_to_ids(END_OF_TEXT)
    ids = [token for text in texts for token in (*trained_tokenizer(text)["input_ids"], end)]
    (tmp_path / "tokens").mkdir()
    np.array(ids, "<u2").tofile(tmp_path / "tokens" / "train.bin")
    (tmp_path / "x.txt").write_text("\n".join(texts))
    declared = {
        "text": {"path": str(tmp_path / "x.txt"), "documents": "line"},
        "ids": {"path": str(tmp_path / "tokens")},
    }
    manifests = []
    for name, source in declared.items():
        write_shards(
            ShardsArguments(
                sources=[{"name": "x", **source}],
                tokenizer=str(tmp_path / "tokenizer"),
                output_dir=str(tmp_path / name),
                sequence_length=64,
                validation_fraction=0.2,
            )
        )
        manifests += [PackedBlocks(tmp_path / name / split).manifest for split in ("train", "validation")]
    assert manifests[0]["tokenizer_hash"] == tokenizer_hash(trained_tokenizer)
    for name in ("documents", "tokens", "bytes", "content_hash"):
        assert [each[name] for each in manifests[:2]] == [each[name] for each in manifests[2:]]
    sources = parse_sources(TokenizerArguments([{"name": "x", **declared["ids"]}], output_dir="o").sources)
    with user_error("unsupported_format", "shards", file=tmp_path / "tokens" / "train.bin"):
        list(read_documents(sources[0], BadRows(), seed=0))


def test_which_files_of_a_folder_hold_tokens(tmp_path) -> None:
    """Text comes first, a README is none; ids and text in one source, and settings that nothing heeds, are refused."""
    (tmp_path / "readme.md").write_text("About these files.")
    path = write(tmp_path, "bin-nanogpt")
    source = {"name": "x", "path": str(tmp_path)}
    assert parse_sources([source])[0].files == [path]
    (tmp_path / "x.ds.index").write_bytes(b"")
    (tmp_path / "y.ds.index").write_bytes(b"")
    unread = unread_files(str(tmp_path), [path, tmp_path / "x.ds"])
    assert [file.name for file in unread] == ["readme.md", "y.ds.index"]
    for setting in ({"documents": "line"}, {"encoding": "cp1252"}):
        with user_error("setting_without_effect", setting=next(iter(setting))):
            parse_sources([source | setting])
    (tmp_path / "x.txt").write_text("A text.")
    assert parse_sources([source])[0].files == [tmp_path / "x.txt"]
    assert not hold_tokens([tmp_path / "x.txt"])
    with user_error("unsupported_format", file=path):
        hold_tokens([path, tmp_path / "x.txt"])
    packed = tmp_path / "y.bin.gz"
    packed.write_bytes(b"")
    with user_error("unsupported_format", "uncompressed", file=packed):
        list(read_documents(parse_sources([source | {"path": str(packed)}])[0], BadRows(), seed=0))
