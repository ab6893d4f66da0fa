# SPDX-License-Identifier: Apache-2.0
"""`train/pretrain.py` on CPU processes with its weights sharded by Accelerate's FSDP2.

    torchrun --nproc_per_node 2 tests/training/fsdp2_on_cpu.py --config ...

Accelerate looks at the kind of processes before it shards, and CPU ones it does not shard. Told that they are GPUs, it
goes its FSDP2 road: preparation, clipping, sharded states. (It must be told before the Accelerator is made.)
"""

import os
import runpy
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor

from scratch_gpt.training.pretrain import loss, pretraining


# What train/accelerate/fsdp2.yaml makes `accelerate launch` set.
os.environ |= {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
}
PartialState(cpu=True)
PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
# Small enough that also a tiny model's loss is computed in chunks.
loss.PLAIN_LOGITS_BYTES, loss.CHUNK_LOGITS_BYTES = 1 << 10, 1 << 16

plain_init = pretraining.Pretraining.__init__


def checked_init(self, *args, **kwargs):
    """At first every parameter is sharded. (After an evaluation, whole ones wait for the next backward pass.)"""
    plain_init(self, *args, **kwargs)
    assert all(isinstance(parameter, DTensor) for parameter in self.model.parameters())


pretraining.Pretraining.__init__ = checked_init
runpy.run_path(str(Path(__file__).parents[2] / "train" / "pretrain.py"), run_name="__main__")
