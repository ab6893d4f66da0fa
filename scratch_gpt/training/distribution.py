# SPDX-License-Identifier: Apache-2.0
"""Several processes: that they are as many as asked for, and that what runs on them is right there."""

import os

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType

from scratch_gpt.errors import UserError


def refuse_lost_processes() -> None:
    """Refuse to run as one process where `accelerate launch` was asked for more.

    Accelerate 1.15 starts one process for `--cpu --num_processes 2` (and for a YAML that says so), without a word. The
    trace that it leaves is the address of a main process that nobody will call.

    Raises:
        UserError: such a launch.
    """
    launched_on_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true"
    if launched_on_cpu and "MASTER_ADDR" in os.environ and "WORLD_SIZE" not in os.environ:
        raise UserError(
            "accelerate launch was asked for several processes and started one, as it does on a CPU: "
            "use torchrun --nproc_per_node N train/pretrain.py ..."
        )


def check_distribution(accelerator: Accelerator, optimizer: torch.optim.Optimizer) -> None:
    """Refuse the combinations of launcher settings and optimizer that would train something else than one process does.

    Raises:
        UserError: FSDP in its first version; DeepSpeed; Megatron.
    """
    kind = accelerator.distributed_type
    if kind in (DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM):
        raise UserError(f"{kind.value} is not supported: use train/accelerate/fsdp2.yaml to shard a model")
    if kind == DistributedType.FSDP and not accelerator.is_fsdp2:
        raise UserError(
            "FSDP of version 1 is not supported: set fsdp_version: 2, as train/accelerate/fsdp2.yaml does"
        )


def data_share(accelerator: Accelerator) -> tuple[int, int]:
    """Which share of each batch this process reads, and how many shares there are.

    One for each process, but the processes of a tensor-parallel group read the same: Accelerate's mesh has them in a row.
    """
    parallelism = accelerator.parallelism_config
    group = parallelism.tp_size if parallelism else 1
    return accelerator.process_index // group, accelerator.num_processes // group
