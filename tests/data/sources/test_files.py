# SPDX-License-Identifier: Apache-2.0
"""Which files a path means: hidden ones never, those of a split, not those that speak of the data."""

import datasets
import pytest

from scratch_gpt.data.sources.files import data_files, unread_files
from wording import user_error


def write(root, *names, text="text"):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def names(root, split="train", subset=None):
    return [str(file.relative_to(root)) for file in data_files(str(root), split, subset)]


def test_hidden_files_and_what_speaks_of_the_data_are_not_read(tmp_path):
    """What a Mac, Jupyter and the Hub's cache leave behind, and the README; files left unread are known by name."""
    write(tmp_path, "b.txt", "a.jsonl", "sub/README.md", "README.md", "LICENSE.txt", "scan.pdf")
    write(tmp_path, "._b.txt", ".DS_Store", ".ipynb_checkpoints/b.txt", ".cache/notes.md", "__MACOSX/b.txt")
    write(tmp_path, "~$b.txt", "$RECYCLE.BIN/b.txt")
    assert names(tmp_path) == ["a.jsonl", "b.txt", "sub/README.md"]
    unread = unread_files(str(tmp_path), data_files(str(tmp_path), "train", None))
    assert [file.name for file in unread] == ["LICENSE.txt", "README.md", "scan.pdf"]
    assert names(tmp_path / ".cache") == ["notes.md"], "a folder that is named is not hidden"


def test_linked_folders_are_read(tmp_path):
    """Also one that leads back to where it lies, once."""
    write(tmp_path / "elsewhere", "ru.txt")
    write(tmp_path / "data", "en.txt")
    (tmp_path / "data" / "ru").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "data")
    assert names(tmp_path / "data") == ["en.txt", "ru/ru.txt"]


def test_a_readme_alone_is_read(tmp_path):
    """Where nothing else is, it is what was meant."""
    write(tmp_path, "README.md")
    assert names(tmp_path) == ["README.md"]


def test_folders_of_save_to_disk(tmp_path):
    """The files of a saved dataset in their order, without its .json files and caches; of several splits the one asked for."""
    train = datasets.Dataset.from_dict({"text": list("abcdef")})
    datasets.DatasetDict({"train": train, "test": train}).save_to_disk(
        tmp_path / "all", num_shards={"train": 2, "test": 1}
    )
    write(tmp_path / "all" / "train", "cache-1f2e.arrow")
    parts = [f"data-0000{index}-of-00002.arrow" for index in range(2)]
    assert names(tmp_path / "all") == [f"train/{part}" for part in parts]
    assert names(tmp_path / "all" / "train") == parts
    assert names(tmp_path / "all", "test") == ["test/data-00000-of-00001.arrow"]
    with user_error("no_files", "dev", "train, test", path=tmp_path / "all"):
        names(tmp_path / "all", "dev")


@pytest.mark.parametrize("folder", ["data/", ""])
def test_a_downloaded_dataset_of_the_hub(tmp_path, folder):
    """A card makes a folder of rows a dataset, whose files belong to splits by their names."""
    write(tmp_path, "README.md", text="---\nlicense: mit\n---\n# Rows\n")
    write(
        tmp_path, f"{folder}train.jsonl", f"{folder}test.jsonl", ".cache/train.jsonl", text='{"text": "a"}\n'
    )
    assert names(tmp_path) == [f"{folder}train.jsonl"]
    assert names(tmp_path, "test") == [f"{folder}test.jsonl"]
    with user_error("no_files", "dev", "train, test", path=tmp_path):
        names(tmp_path, "dev")


def test_the_card_names_subsets(tmp_path):
    """As the Hub reads them; without a subset the error of `datasets` says which there are."""
    subsets = "".join(f"- config_name: {name}\n  data_files: {name}/*.jsonl\n" for name in ("en", "de"))
    write(tmp_path, "README.md", text=f"---\nconfigs:\n{subsets}---\n")
    write(tmp_path, "en/a.jsonl", "de/a.jsonl", text='{"text": "a"}\n')
    assert names(tmp_path, subset="de") == ["de/a.jsonl"]
    with user_error("dataset_unreachable", "subset", "'en', 'de'", path=tmp_path):
        names(tmp_path)


def test_a_card_without_rows_is_a_page_with_a_head(tmp_path):
    """Notes and web pages begin with such lines too."""
    write(tmp_path, "README.md", text="---\ntitle: Notes\n---\n")
    write(tmp_path, "a.md", "b/c.txt")
    assert names(tmp_path) == ["a.md", "b/c.txt"]
