# SPDX-License-Identifier: Apache-2.0
"""Packing: what best fit means, how little it wastes, and that it goes on where it stopped."""

import numpy as np

from scratch_gpt.data.shards.packing import Packer, SourceCounts, pack
from wording import user_error


def test_packing_is_best_fit_decreasing():
    """Lengths 7 6 5 3 2 2 in rows of 10 become 7+3, 6+2+2, 5: worked out by hand."""
    rows = pack([np.full(length, length) for length in (3, 2, 7, 2, 5, 6)], 10)
    assert [[len(piece) for piece in row] for row in rows] == [[7, 3], [6, 2, 2], [5]]


def test_packing_wastes_little_on_short_documents():
    """Ten thousand documents of 1 to 100 tokens fill rows of 128 to more than 99.5%."""
    generator = np.random.default_rng(0)
    pieces = [np.zeros(length) for length in generator.integers(1, 101, size=10_000)]
    rows = pack(pieces, 128)
    assert sum(map(len, rows)) == 10_000
    assert max(sum(map(len, row)) for row in rows) <= 128
    assert sum(map(len, pieces)) / (128 * len(rows)) > 0.995


def packer(folder):
    """A packer into rows of 8 tokens."""
    random = np.random.default_rng(3)
    return Packer(folder / "tokens.bin", 8, "uint16", 0, random, {"s": SourceCounts()})


def documents():
    """Twenty documents of 1 to 19 tokens."""
    generator = np.random.default_rng(0)
    return [generator.integers(1, 99, size=length).astype(np.uint16) for length in range(1, 20)]


def test_restored_packer_writes_the_same_bytes(tmp_path):
    """Stopped with pieces waiting, after rows that were written and again after others: the file is the same."""
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    whole, stopped = packer(tmp_path / "whole"), packer(tmp_path / "stopped")
    for number, document in enumerate(documents()):
        whole.add("s", 10, document)
        if number in (5, 6):
            whole.flush()
    for number, document in enumerate(documents()[:12]):
        stopped.add("s", 10, document)
        if number in (5, 6):
            stopped.flush()
    state = stopped.state()
    stopped.add("s", 10, documents()[0])
    stopped.flush()
    again = packer(tmp_path / "stopped")
    again.restore(*state)
    for document in documents()[12:]:
        again.add("s", 10, document)
    for each in (whole, again):
        each.flush()
    assert again.file.read_bytes() == whole.file.read_bytes()
    assert again.hash.hexdigest() == whole.hash.hexdigest()
    assert (again.blocks, again.padding, again.counts) == (whole.blocks, whole.padding, whole.counts)


def test_rows_damaged_since_are_noticed(tmp_path):
    """Going on from a file whose bytes changed is refused."""
    first = packer(tmp_path)
    first.add("s", 10, documents()[9])
    first.flush()
    state = first.state()
    data = bytearray(first.file.read_bytes())
    data[3] ^= 1
    first.file.write_bytes(data)
    with user_error("damaged_file", file=first.file):
        packer(tmp_path).restore(*state)
