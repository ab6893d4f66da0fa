# SPDX-License-Identifier: Apache-2.0
"""A stage as a program that fails where DDP is left when it leaves the process group, and whose disk may be full at the end.

torchrun --nproc_per_node 2 tests/training/stage_among_processes.py train/sft.py --config ...
"""

import scratch_gpt.native_libraries  # noqa: F401  # before torch

import gc
import os
import runpy
import sys

import torch
from safetensors import SafetensorError
from torch.nn.parallel import DistributedDataParallel

from scratch_gpt.training.posttrain import posttraining


destroy = torch.distributed.destroy_process_group


def leave(*args, **kwargs) -> None:
    """Its reducer may not be the last to hold the group."""
    assert not any(type(each) is DistributedDataParallel for each in gc.get_objects()), "DDP is still there"
    destroy(*args, **kwargs)


def no_room(model, tokenizer, folder) -> None:
    """A full disk, in the middle of writing the finished model."""
    (folder / "config.json").write_text("{")
    raise SafetensorError("I/O error: No space left on device (os error 28)")


if __name__ == "__main__":
    torch.distributed.destroy_process_group = leave
    if "FULL_DISK" in os.environ:
        posttraining.save_model_folder = no_room
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")
