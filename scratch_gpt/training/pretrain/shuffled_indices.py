# SPDX-License-Identifier: Apache-2.0
"""Which block is trained on when: a function of the seed and the position alone, also where several sources are mixed."""

import bisect
import hashlib
from collections.abc import Sequence

import numpy as np


class ShuffledIndices:
    """An endless sequence of block numbers: one seeded permutation of all blocks after the other.

    What stands at a position is a function of the seed and the position alone. So resuming is going on at a position,
    and no state of a loader, its workers or its random generator has to be saved.
    """

    def __init__(self, num_blocks: int, seed: int) -> None:
        self.num_blocks, self.seed = num_blocks, seed
        self._epoch, self._permutation = -1, np.empty(0, dtype=np.int64)

    def __getitem__(self, position: int) -> int:
        epoch, place = divmod(position, self.num_blocks)
        if epoch != self._epoch:
            self._epoch = epoch
            self._permutation = np.random.default_rng([self.seed, epoch]).permutation(self.num_blocks)
        return int(self._permutation[place])


class PhasedIndices:
    """Which source, and which block of it, stands at each position of a run whose mixture changes from phase to phase.

    Within a phase the sources are interleaved evenly, so their shares hold at any point within one block. Each source is
    read in the order of its `ShuffledIndices`, through all phases. So what stands at a position is a function of the
    arguments and the position alone. It takes 5 bytes of memory a position of the current phase.

    Args:
        num_blocks: of each source.
        phases: where each ends (the first position after it), and the shares of the sources in it, which add up to 1.
        seed: of the order within each source.
    """

    def __init__(
        self, num_blocks: Sequence[int], phases: Sequence[tuple[int, Sequence[float]]], seed: int
    ) -> None:
        self.orders = [ShuffledIndices(count, seed) for count in num_blocks]
        self._starts = [0, *(stop for stop, _ in phases)]
        lengths = np.diff(self._starts).tolist()
        # blocks of each source in each phase, shape (phases, sources)
        self.counts = np.array([_apportion(length, shares) for length, (_, shares) in zip(lengths, phases)])
        self._phase = -1

    def __getitem__(self, position: int) -> tuple[int, int]:
        phase = bisect.bisect_right(self._starts, position) - 1
        if phase >= len(self.counts):
            raise IndexError(f"position {position} is behind the last phase")
        if phase != self._phase:
            self._enter(phase)
        place = position - self._starts[phase]
        source = int(self._sources[place])
        return source, self.orders[source][int(self._before[source] + self._ranks[place])]

    def used(self, position: int) -> np.ndarray:
        """Blocks of each source in front of a position."""
        if position == 0:
            return np.zeros(len(self.orders), dtype=int)
        self[position - 1]  # enters its phase
        place = position - self._starts[self._phase]
        return self._before + np.bincount(self._sources[:place], minlength=len(self.orders))

    def _enter(self, phase: int) -> None:
        self._phase, counts = phase, self.counts[phase]
        self._before = self.counts[:phase].sum(0)  # blocks of each source in earlier phases
        # Block k of n stands at (k + 1/2) / n of the phase.
        ranks = np.concatenate([np.arange(count) for count in counts]).astype(np.int32)
        times = np.concatenate([(np.arange(count) + 0.5) / max(count, 1) for count in counts])
        order = np.argsort(times, kind="stable")
        self._ranks = ranks[order]
        self._sources = np.repeat(np.arange(len(counts), dtype=np.uint8), counts)[order]


def _apportion(total: int, shares: Sequence[float]) -> list[int]:
    """Whole numbers that add up to `total`, as near to the shares as can be (largest remainders)."""
    exact = np.array(shares) * total
    whole = np.floor(exact).astype(int)
    for index in np.argsort(whole - exact, kind="stable")[: total - whole.sum()]:
        whole[index] += 1
    return [int(count) for count in whole]


def block_hash(step: int, block: np.ndarray) -> int:
    """64 bits of a block in a step. Their sum over a run tells which blocks it was fed in which steps, each how often.

    A sum, so that it does not matter which process or micro-batch had a block.
    """
    digest = hashlib.blake2b(step.to_bytes(8, "little") + block.tobytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little")
