# SPDX-License-Identifier: Apache-2.0
"""Several processes under transformers' Trainer: no row twice in an epoch's last step, and an end that does not hang."""

import gc
from collections.abc import Iterator
from itertools import cycle, islice
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.data_loader import BatchSamplerShard
from torch.utils.data import BatchSampler, DataLoader
from transformers import Trainer


class WholeRounds(BatchSampler):
    """The batches of one process, and as many more as make each of `num_processes` have one in the last round.

    These repeat batches of that round: with two processes both take the same one, whose mean is that of one process.
    """

    def __init__(self, batches: BatchSampler, num_processes: int) -> None:
        super().__init__(batches.sampler, batches.batch_size, batches.drop_last)
        self.num_processes = num_processes

    def __iter__(self) -> Iterator[list[int]]:
        last_round: list[list[int]] = []
        for batch in super().__iter__():
            last_round = [*last_round, batch] if len(last_round) < self.num_processes else [batch]
            yield batch
        yield from islice(cycle(last_round), self.num_processes - len(last_round))

    def __len__(self) -> int:
        return -(-super().__len__() // self.num_processes) * self.num_processes


def share_batches(trainer: Trainer) -> None:
    """Give the processes of a trainer the batches that one process would take in turn, the last and smaller one included.

    Accelerate would fill up the last round with rows from the beginning of the epoch, in training and in evaluation.
    """
    get_dataloader = trainer._get_dataloader

    def get_shared(*args: Any, **kwargs: Any) -> DataLoader:
        loader = get_dataloader(*args, **kwargs)
        shard = loader.batch_sampler
        if isinstance(shard, BatchSamplerShard) and shard.num_processes > 1 and not shard.drop_last:
            shard.batch_sampler = WholeRounds(shard.batch_sampler, shard.num_processes)
            shard.even_batches = False
        return loader

    trainer._get_dataloader = get_shared
    if trainer.accelerator.num_processes > 1:
        _gather_uneven(trainer.accelerator)


def _gather_uneven(accelerator: Accelerator) -> None:
    """Let `gather` take as many rows of each process as it has.

    TRL 1.16 gathers the rewards of a batch's rows, which are not as many in each process in an epoch's last step, nor
    with `train_sampling_strategy: batch_rebalance`: gloo ends the process.
    """
    gather = accelerator.gather

    def gather_rows(values: Any) -> Any:
        if not isinstance(values, torch.Tensor) or not values.ndim:
            return gather(values)
        sizes = gather(torch.tensor([len(values)], device=values.device)).tolist()
        if len(set(sizes)) == 1:
            return gather(values)
        padded = gather(accelerator.pad_across_processes(values)).split(max(sizes))
        return torch.cat([part[:size] for part, size in zip(padded, sizes, strict=True)])

    accelerator.gather = gather_rows


def end(trainer: Trainer) -> None:
    """Leave the process group, the last thing that is done with a trainer.

    The model goes first. Where DDP's reducer is the last to hold the group, its destructor waits for a thread that
    waits for the interpreter: now and then a process would never end.
    """
    trainer.accelerator.free_memory()
    trainer.model_wrapped = trainer.model
    gc.collect()
    trainer.end()
