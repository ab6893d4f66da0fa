# SPDX-License-Identifier: Apache-2.0
"""How the layers of a run are computed: which attention, compiled or not, activations kept or computed again.

Decided from the machine's kind and from counts, never by a timing: the same command decides the same.
"""

from collections.abc import Callable

from transformers import PreTrainedConfig

from scratch_gpt.configuration_scratch_gpt import ScratchGPTConfig
from scratch_gpt.errors import UserError
from scratch_gpt.inference.varlen import VARLEN, lacks_varlen
from scratch_gpt.runs.cost import known_gpu, training_flops_per_token
from scratch_gpt.runs.log import console
from scratch_gpt.settings.hardware import device_type, gpu_name
from scratch_gpt.training.pretrain.arguments import PretrainArguments


# Measured at the demo's size on two cores without bfloat16 (later figures: docs/results/pretraining.md): the whole step compiled against not,
# the compilation, and operations a second; wider layers take as long to compile and gain less of more.
CPU_COMPILE_GAIN = 1.24
CPU_COMPILE_SECONDS = 14
CPU_FLOPS = 7e10
# What is saved must be worth a compiler's surprises.
CPU_COMPILE_MARGIN = 2
# Fewer tokens in a micro-batch leave a GPU idle between kernels: then computing activations again costs less.
GPU_MICRO_BATCH_TOKENS = 4096


def choose_attention(asked: str, config: PreTrainedConfig, mixed_precision: str) -> str:
    """The attention asked for; of auto, varlen where the GPU and the model allow it, and sdpa elsewhere.

    Raises:
        UserError: varlen is asked for where it cannot be.
    """
    lacking = lacks_varlen(config, mixed_precision)
    if asked == VARLEN and lacking:
        message = f"attn_implementation {VARLEN} cannot be used here: {lacking}; set auto or sdpa"
        raise UserError("varlen_missing", message, setting="attn_implementation")
    if asked != "auto":
        return asked
    return VARLEN if lacking is None and config.model_type == ScratchGPTConfig.model_type else "sdpa"


def choose_compilation(
    asked: bool | None, config: PreTrainedConfig, tokens: int, sequence_length: int
) -> tuple[bool, str | None]:
    """Whether layers are compiled: as asked for; if nothing was, on CUDA, and on a CPU for a run long enough to be worth it.

    By rule only our decoder and encoder, whose packed batches have one shape: targets of span corruption have many, and
    each would be compiled.

    Args:
        tokens: of one process in the whole run.
        sequence_length: tokens of a block.

    Returns:
        The choice, and a line that says why where it is a rule's.
    """
    if asked is not None:
        return asked, None
    kind = device_type()
    if config.model_type != ScratchGPTConfig.model_type or kind not in ("cpu", "cuda"):
        return False, None
    if kind == "cuda":
        return True, None
    flops = tokens * sum(training_flops_per_token(config, sequence_length).values())
    seconds = flops / CPU_FLOPS
    saved = seconds * (1 - 1 / CPU_COMPILE_GAIN)
    chosen = saved >= CPU_COMPILE_MARGIN * CPU_COMPILE_SECONDS
    return chosen, (
        f"torch_compile {str(chosen).lower()}: on two cores in float32 the run would take about {seconds:,.0f} s, and compiled layers "
        f"save {saved:,.0f} s of these; the rule asks for {CPU_COMPILE_MARGIN * CPU_COMPILE_SECONDS} s, {CPU_COMPILE_MARGIN} times "
        "what compiling takes"
    )


def choose_checkpointing(
    arguments: PretrainArguments, sequence_length: int, fits: Callable[[int], bool] | None
) -> bool:
    """Whether activations are computed again: as asked for, else where a good micro-batch does not fit without.

    Args:
        fits: whether a micro-batch of that many blocks fits into the device without; None: not asked, as on a CPU.
    """
    if arguments.activation_checkpointing is not None:
        return arguments.activation_checkpointing
    if fits is None:
        return False
    blocks = max(1, GPU_MICRO_BATCH_TOKENS // sequence_length)
    return not fits(arguments.per_device_train_batch_size or blocks)


def peak_speed(config: PreTrainedConfig, sequence_length: int, num_processes: int) -> float | None:
    """Tokens a second that all GPUs together would train on at their peak; None on a CPU or where it is not known.

    Model FLOPs utilization (PaLM, hf.co/papers/2204.02311, appendix B) is a run's speed divided by it. The operations
    are those of `scratch-gpt plan`, the peak is that of 16-bit products whatever the run's precision.
    """
    name = gpu_name()
    if name is None:
        return None
    gpu = known_gpu(name)
    if gpu is None or config.model_type != ScratchGPTConfig.model_type:
        unknown = f"the peak of {name}" if gpu is None else f"operations of a {config.model_type} model"
        console.print(f"mfu is not logged: unknown: {unknown}", markup=False, soft_wrap=True)
        return None
    return num_processes * gpu.flops / sum(training_flops_per_token(config, sequence_length).values())
