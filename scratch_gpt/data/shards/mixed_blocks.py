# SPDX-License-Identifier: Apache-2.0
"""Several shards folders as one set of blocks: which folders, with which weight, in which part of a run."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerFast

from scratch_gpt.data.shards.blocks import Blocks, PackedBlocks
from scratch_gpt.errors import UserError, did_you_mean, wrong_value
from scratch_gpt.runs.manifests import combine_manifests


KEYS = {"path": str, "weight": int | float, "from": int | float, "until": int | float}


@dataclass(frozen=True)
class ShardsEntry:
    """One entry of `shards`.

    Attributes:
        path: folder of the shards stage.
        weight: share of the blocks, relative to the other entries in use at the same time.
        start: share of the run's steps after which it is used (`from`).
        stop: share of the run's steps until which it is used (`until`).
    """

    path: str
    weight: float = 1.0
    start: float = 0.0
    stop: float = 1.0


def parse_shards(declared: str | Sequence[Mapping[str, Any]]) -> list[ShardsEntry]:
    """One folder, or the entries `{path, weight, from, until}`, checked.

    Raises:
        UserError: an unknown or missing key, a wrong value, a part of the run without shards.
    """
    if isinstance(declared, str):
        return [ShardsEntry(declared)]
    entries = []
    for number, entry in enumerate(declared, start=1):
        where = f"shards: entry {number}: "
        if not isinstance(entry, Mapping):
            raise wrong_value(
                f"entry {number}", entry, "a mapping such as {path: DIR, weight: 0.3}", where="shards: "
            )
        for key, value in entry.items():
            if key not in KEYS:
                message = f"{where}unknown key {key!r}{did_you_mean(key, KEYS)} (keys: {', '.join(KEYS)})"
                raise UserError("unknown_key", message, key=key)
            if not isinstance(value, KEYS[key]) or isinstance(value, bool):
                raise wrong_value(key, value, "text" if key == "path" else "a number", where=where)
        if not entry.get("path"):
            raise UserError("setting_missing", f"{where}path is missing", setting="path")
        weight, start, stop = entry.get("weight", 1.0), entry.get("from", 0.0), entry.get("until", 1.0)
        if not 0 < weight < math.inf:
            raise wrong_value("weight", weight, "a number above 0", where=where)
        if not 0 <= start < stop <= 1:
            wanted = "shares of the run, 0 <= from < until <= 1"
            raise wrong_value("from and until", f"{start:g} and {stop:g}", wanted, where=where)
        entries.append(ShardsEntry(str(Path(entry["path"])), float(weight), float(start), float(stop)))
    bounds = sorted({0.0, 1.0, *(entry.start for entry in entries), *(entry.stop for entry in entries)})
    for start, stop in itertools.pairwise(bounds):
        if not any(entry.start <= start and entry.stop >= stop for entry in entries):
            message = f"shards: no entry is used from {start:g} to {stop:g} of the run"
            raise UserError("phase_without_shards", message, start=start, stop=stop)
    return entries


def phases_of(
    entries: Sequence[ShardsEntry], paths: Sequence[str], max_steps: int, blocks_per_step: int
) -> list[tuple[int, list[float]]]:
    """The phases of a run: the position at which each ends, and the share of each of the folders `paths` in it.

    They begin and end between steps, so that each step is of one mixture.
    """
    phases: list[tuple[int, list[float]]] = []
    bounds = sorted({1.0, *(entry.start for entry in entries), *(entry.stop for entry in entries)} - {0.0})
    for stop in bounds:
        active = [entry for entry in entries if entry.start < stop <= entry.stop]
        total = sum(entry.weight for entry in active)
        shares = [sum(entry.weight for entry in active if entry.path == path) / total for path in paths]
        phases.append((round(stop * max_steps) * blocks_per_step, shares))
    return phases


class MixedBlocks(Blocks):
    """The blocks of one split of one or several folders, one after the other.

    Attributes:
        entries: as declared.
        parts: by path, each folder once.
        manifest: of the only folder, else what they hold together.

    Raises:
        UserError: as for `PackedBlocks`; folders of other lengths of blocks.
    """

    def __init__(
        self,
        entries: Sequence[ShardsEntry],
        split: str,
        tokenizer: PreTrainedTokenizerFast | None = None,
        *,
        may_be_empty: bool = False,
    ) -> None:
        self.entries = list(entries)
        self.parts = {
            entry.path: PackedBlocks(Path(entry.path) / split, tokenizer, may_be_empty=may_be_empty)
            for entry in entries
        }
        lengths = {path: blocks.manifest["sequence_length"] for path, blocks in self.parts.items()}
        if len(set(lengths.values())) > 1:
            found = ", ".join(f"{length} in {path}" for path, length in lengths.items())
            message = f"shards: blocks of different lengths: {found}; write them with one sequence_length"
            raise UserError("block_lengths_differ", message, lengths=list(lengths.values()))
        self.manifest = combine_manifests({path: blocks.manifest for path, blocks in self.parts.items()})

    def __len__(self) -> int:
        return sum(map(len, self.parts.values()))

    def __getitem__(self, index: int) -> np.ndarray:
        for blocks in self.parts.values():
            if index < len(blocks):
                return blocks[index]
            index -= len(blocks)
        raise IndexError(index)
