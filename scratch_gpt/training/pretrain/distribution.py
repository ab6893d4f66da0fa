# SPDX-License-Identifier: Apache-2.0
"""Several processes: that what runs on them is right there."""

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch.distributed.fsdp import MixedPrecisionPolicy
from transformers import PreTrainedModel

from scratch_gpt.errors import UserError


def check_distribution(accelerator: Accelerator) -> None:
    """Refuse launcher settings that would train something else than one process does.

    Raises:
        UserError: FSDP in its first version; DeepSpeed; Megatron.
    """
    kind = accelerator.distributed_type
    if kind in (DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM):
        message = f"{kind.value} is not supported: use train/accelerate/fsdp2.yaml to shard a model"
        raise UserError("unsupported_parallelism", message, kind=kind.value)
    if kind == DistributedType.FSDP and not accelerator.is_fsdp2:
        message = (
            "FSDP of version 1 is not supported: set fsdp_version: 2, as train/accelerate/fsdp2.yaml does"
        )
        raise UserError("unsupported_parallelism", message, kind="FSDP")


def use_float32_beside_matrices(accelerator: Accelerator, model: PreTrainedModel) -> None:
    """Let FSDP2 compute as DDP does: matrices in the run's precision, residual stream, sums and loss in float32.

    Accelerate's own policy rounds each layer's inputs and outputs, the sum of all processes' gradients and the loss to
    bfloat16, and uses no autocast. Weights are still gathered in the run's precision.
    """
    if not accelerator.is_fsdp2 or accelerator.mixed_precision == "no":
        return
    dtype = torch.float16 if accelerator.mixed_precision == "fp16" else torch.bfloat16
    accelerator.state.fsdp_plugin.mixed_precision_policy = MixedPrecisionPolicy(
        param_dtype=dtype, reduce_dtype=torch.float32, output_dtype=torch.float32, cast_forward_inputs=False
    )
    model.forward = torch.autocast(accelerator.device.type, dtype=dtype)(model.forward)
