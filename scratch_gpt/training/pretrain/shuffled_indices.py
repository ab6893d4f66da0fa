# SPDX-License-Identifier: Apache-2.0
"""Which block is trained on when: a function of the seed and the position alone."""

import hashlib

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


def block_hash(step: int, block: np.ndarray) -> int:
    """64 bits of a block in a step. Their sum over a run tells which blocks it was fed in which steps, each how often.

    A sum, so that it does not matter which process or micro-batch had a block.
    """
    digest = hashlib.blake2b(step.to_bytes(8, "little") + block.tobytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little")
