# SPDX-License-Identifier: Apache-2.0
"""Which block is trained on when: a function of the seed and the position alone, also where several sources are mixed."""

import bisect
import hashlib
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from scratch_gpt.data.shards.mixed_blocks import MixedBlocks, phases_of


class ShuffledIndices:
    """An endless sequence of block numbers: one seeded permutation of all blocks after the other, or all in their order.

    What is at a position is a function of the seed and the position alone. So resuming is continuing at a position,
    and no state of a loader, its workers or its random generator has to be saved.

    Args:
        seed: of the permutations; None: the blocks in their order, in every pass.
    """

    def __init__(self, num_blocks: int, seed: int | None) -> None:
        self.num_blocks, self.seed = num_blocks, seed
        self._epoch, self._permutation = -1, np.empty(0, dtype=np.int64)

    def __getitem__(self, position: int) -> int:
        epoch, place = divmod(position, self.num_blocks)
        if self.seed is None:
            return place
        if epoch != self._epoch:
            self._epoch = epoch
            self._permutation = np.random.default_rng([self.seed, epoch]).permutation(self.num_blocks)
        return int(self._permutation[place])


class PhasedIndices:
    """An endless sequence of blocks of several sources, in shares that change from phase to phase; the last phase has no end.

    Within a phase, block k of the n of a source is at (k + 1/2) / n of it, so the shares hold at any point within
    one block. Each source is read in its own order, through all phases. So what is at a position is a function of the
    arguments and the position alone.

    Args:
        orders: of each source.
        phases: where each ends (the first position after it), and the shares of the sources in it, which add up to 1.
    """

    def __init__(
        self, orders: Sequence[ShuffledIndices], phases: Sequence[tuple[int, Sequence[float]]]
    ) -> None:
        self.orders = orders
        # first position of each phase that is not empty, and its blocks of each source
        self._starts: list[int] = []
        self._counts: list[list[int]] = []
        start = 0
        for stop, shares in phases:
            if stop > start:
                self._starts.append(start)
                self._counts.append(_apportion(stop - start, shares))
                start = stop

    def __getitem__(self, position: int) -> tuple[int, int]:
        """The source at a position, and the number of the block in it."""
        before, after = self.used(position), self.used(position + 1)
        source = next(index for index, count in enumerate(after) if count > before[index])
        return source, self.orders[source][before[source]]

    def used(self, position: int) -> list[int]:
        """Blocks of each source in front of a position."""
        phase = max(bisect.bisect_left(self._starts, position) - 1, 0)
        finished = self._counts[:phase]
        begun = _first(self._counts[phase], position - self._starts[phase])
        return [sum(counts) for counts in zip(*finished, begun)]


def block_order(blocks: MixedBlocks, max_steps: int, blocks_per_step: int, seed: int) -> PhasedIndices:
    """The order of a run over these blocks: of each folder of `blocks.parts` in its turn, shuffled unless it is ordered."""
    phases = phases_of(blocks.entries, list(blocks.parts), max_steps, blocks_per_step)
    orders = [
        ShuffledIndices(len(part), seed if part.manifest.get("shuffle", True) else None)
        for part in blocks.parts.values()
    ]
    return PhasedIndices(orders, phases)


def _first(counts: Sequence[int], length: int) -> list[int]:
    """How many of each source are among the first `length` blocks of a phase that has `counts`."""
    total, sources = sum(counts), len(counts)
    # Those before (length - sources/2) / total of the phase, which are at most `length` and lack at most `sources`;
    # whole numbers, as floats would round.
    first = [
        max(0, -((total - count * (2 * length - sources)) // (2 * total))) if count else 0 for count in counts
    ]
    while sum(first) < length:
        used = [index for index, count in enumerate(counts) if count]
        first[min(used, key=lambda index: Fraction(2 * first[index] + 1, counts[index]))] += 1
    return first


def _apportion(total: int, shares: Sequence[float]) -> list[int]:
    """Whole numbers that add up to `total`, as near to the shares as can be (largest remainders)."""
    exact = np.array(shares) * total
    whole = np.floor(exact).astype(int)
    for index in np.argsort(whole - exact, kind="stable")[: total - whole.sum()]:
        whole[index] += 1
    return [int(count) for count in whole]


def block_hash(step: int, block: np.ndarray) -> int:
    """64 bits of a block in a step. Their sum over a run shows which blocks it was fed in which steps, each how often.

    A sum, so that it does not matter which process or micro-batch had a block.
    """
    digest = hashlib.blake2b(step.to_bytes(8, "little") + block.tobytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little")
