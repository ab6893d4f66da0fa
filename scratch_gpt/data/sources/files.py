# SPDX-License-Identifier: Apache-2.0
"""Which files a source's path means: those of a folder that hold data, of a saved dataset, of a Hub dataset's folder."""

import glob
import os
import re
from pathlib import Path

import datasets
import yaml

from scratch_gpt.data.sources.formats import ROW_SUFFIXES, TEXT_SUFFIXES, data_suffix
from scratch_gpt.data.sources.token_files import INDEX_SUFFIX, TOKEN_SUFFIXES
from scratch_gpt.errors import UserError
from scratch_gpt.runs.folders import read_json


DATA_SUFFIXES = TEXT_SUFFIXES + ROW_SUFFIXES
# Beginnings of names: hidden on Linux and the Mac, a Mac's archives, Word's and Excel's locks, Windows' deleted files.
HIDDEN = (".", "__MACOSX", "~$", "$RECYCLE.BIN")
# At the top of a folder these speak of the data.
ABOUT = ("readme", "license", "licence")
# Names of splits in names of files, as `datasets` reads them too.
_HELD_OUT, _TRAINING = (
    re.compile(rf"(?:\A|[-_. ])(?:{names})(?:[-_. ]|\Z)", re.I)
    for names in ("test|testing|dev|val|valid|validation|eval", "train|training")
)
# `Dataset.save_to_disk` and `DatasetDict.save_to_disk` write these.
SAVED_DATASET, SAVED_SPLITS = "state.json", "dataset_dict.json"


def data_files(path: str, split: str, subset: str | None) -> list[Path]:
    """The files of a file, a folder or a glob, sorted; empty where nothing is.

    Hidden files are never read. Of a folder that is a dataset of the Hub's (with a card) or of `datasets`, the files of
    the split.

    Raises:
        UserError: a dataset has no such split, or cannot be read.
    """
    root = Path(path).expanduser()
    if root.is_file():
        return [root]
    if not root.is_dir():
        return sorted(file for file in map(Path, glob.glob(str(root), recursive=True)) if file.is_file())
    if (root / SAVED_SPLITS).is_file():
        splits = read_json(root / SAVED_SPLITS)["splits"]
        _check_split(root, split, splits)
        root = root / split
    if (root / SAVED_DATASET).is_file():
        return [root / file["filename"] for file in read_json(root / SAVED_DATASET)["_data_files"]]
    if _has_card(root):
        return _files_of_card(root, split, subset)
    found = [file for file in _visible(root) if data_suffix(file) in DATA_SUFFIXES]
    text = [file for file in found if not _is_about(root, file)]
    return text or [file for file in _visible(root) if file.suffix.lower() in TOKEN_SUFFIXES] or found


def looks_held_out(file: Path, files: list[Path]) -> bool:
    """Whether a file is called like a test split beside one that is called like a training split."""
    return bool(_HELD_OUT.search(file.name)) and any(_TRAINING.search(other.name) for other in files)


def settings_without_effect(path: str) -> list[str]:
    """Which of split, subset and revision say nothing of a local path: only datasets have splits, or subsets."""
    root = Path(path).expanduser()
    if (root / SAVED_SPLITS).is_file():
        return ["subset", "revision"]
    has_card = root.is_dir() and not (root / SAVED_DATASET).is_file() and _has_card(root)
    return ["revision"] if has_card else ["split", "subset", "revision"]


def unread_files(path: str, files: list[Path]) -> list[Path]:
    """The visible files of a folder that are not among `files`, nor read with one of them."""
    root = Path(path).expanduser()
    read = {
        *files,
        *(file.with_name(file.name + INDEX_SUFFIX) for file in files if file.suffix.lower() == ".ds"),
    }
    return [file for file in _visible(root) if file not in read] if root.is_dir() else []


def _visible(root: Path) -> list[Path]:
    """All files of a folder and of those inside it, linked ones included, but for hidden ones."""
    found, seen = [], set()
    for folder, folders, names in os.walk(root, followlinks=True):
        if (place := os.path.realpath(folder)) in seen:  # links in a circle
            folders.clear()
            continue
        seen.add(place)
        folders[:] = sorted(name for name in folders if not name.startswith(HIDDEN))
        files = (Path(folder, name) for name in names if not name.startswith(HIDDEN))
        found += [file for file in files if file.is_file()]
    return sorted(found)


def _is_about(root: Path, file: Path) -> bool:
    return file.parent == root and file.name.lower().startswith(ABOUT)


def _has_card(root: Path) -> bool:
    """Whether a folder holds rows and a card with metadata, as downloaded datasets of the Hub do."""
    card = root / "README.md"
    return (
        card.is_file()
        and card.read_bytes()[:3] == b"---"
        and any(data_suffix(file) in ROW_SUFFIXES for file in _visible(root))
    )


def _files_of_card(root: Path, split: str, subset: str | None) -> list[Path]:
    try:
        builder = datasets.load_dataset_builder(str(root), subset)
    except (OSError, ValueError, yaml.YAMLError) as error:
        message = f"folder {root} has a dataset card and cannot be read as a dataset ({error}): set subset, or name its files"
        raise UserError("dataset_unreachable", message, path=str(root)) from None
    by_split = builder.config.data_files
    _check_split(root, split, list(map(str, by_split)))
    return [Path(file) for file in by_split[split]]


def _check_split(root: Path, split: str, splits: list[str]) -> None:
    if split not in splits:
        message = f"folder {root} has no split {split}: set split to one of {', '.join(splits)}"
        raise UserError("no_files", message, path=str(root))
