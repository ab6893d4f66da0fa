# SPDX-License-Identifier: Apache-2.0
"""Memory of a training step, by component, without allocating any of it.

One real step of the real model and optimizer runs on fake tensors (shapes and lifetimes without data), and a ledger
counts what lives: the figures follow the model's code, not a formula.
"""

import math
import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers.modeling_layers import GradientCheckpointingLayer

from scratch_gpt.configuration_scratch_gpt import ScratchGPTConfig
from scratch_gpt.runs.cost import auto_class_of
from scratch_gpt.training.pretrain.loss import chunk_tokens_for, use_chunked_loss
from scratch_gpt.training.pretrain.muon import STACK_ELEMENTS, Muon
from scratch_gpt.training.pretrain.optimization import split_parameters


@dataclass(frozen=True)
class StepSettings:
    """One optimizer step of one process, as far as its memory goes."""

    micro_batch: int
    sequence_length: int
    accumulation: int = 1
    mixed_precision: str = "no"
    activation_checkpointing: bool = False
    num_processes: int = 1
    sharded: bool = False
    dtype: torch.dtype = torch.float32


class MemoryLedger(TorchDispatchMode):
    """Bytes of all living tensors by component, and what they were at the peak.

    A tensor belongs to the `component` that was set when it was made, or to what `assign` says later. Works on fake
    tensors and on real ones. What a kernel takes and gives back inside is not seen; it depends on the processor
    (oneDNN copies bfloat16 factors to float32 where AVX512 has no products of them).

    Args:
        shares: component -> the share of it that counts, for what is divided among processes; 1 if not named.
    """

    def __init__(self, shares: dict[str, float] | None = None) -> None:
        super().__init__()
        self.shares = shares or {}
        self.component = "weights"
        self.live: Counter[str] = Counter()
        self.total = self.peak = 0.0
        self.at_peak: dict[str, int] = {}
        self._owners: dict[int, str] = {}

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        component = self.component
        # Under autocast a weight is copied into the low precision once a step: a component of its own.
        if func is torch.ops.aten._to_copy.default and self.owner(args[0]) == "weights":
            component = "weights in low precision"
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._enter(tensor.untyped_storage(), component)
        return result

    def owner(self, tensor: torch.Tensor) -> str | None:
        """The component that the tensor's memory belongs to."""
        return self._owners.get(tensor.untyped_storage()._cdata)

    def assign(self, tensor: torch.Tensor, component: str) -> None:
        """Count the tensor's memory as part of `component` from now on."""
        storage = tensor.untyped_storage()
        self._count(self._owners[storage._cdata], -storage.nbytes())
        self._count(component, storage.nbytes())
        self._owners[storage._cdata] = component

    def restart_peak(self) -> None:
        """Forget the peak so far."""
        self.peak = 0.0

    def _enter(self, storage: torch.UntypedStorage, component: str) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._owners:
            return
        self._owners[key] = component
        self._count(component, size)
        weakref.finalize(storage, self._leave, key, size)
        if self.total > self.peak:
            self.peak, self.at_peak = self.total, dict(self.live)

    def _leave(self, key: int, size: int) -> None:
        self._count(self._owners.pop(key), -size)

    def _count(self, component: str, size: int) -> None:
        self.live[component] += size
        self.total += size * self.shares.get(component, 1.0)


def gathered_elements(model: nn.Module, num_processes: int) -> int:
    """The most numbers that Muon on sharded weights gathers at a time, on a GPU."""
    sizes = [matrix.numel() for matrix in split_parameters(model)[0]]
    return min(sum(sizes), num_processes * max(STACK_ELEMENTS, *sizes))


OptimizerBuilder = Callable[[nn.Module], torch.optim.Optimizer]


def memory_of_a_step(
    config: ScratchGPTConfig,
    settings: StepSettings,
    build_optimizer: OptimizerBuilder,
    attn_implementation: str = "sdpa",
) -> dict[str, int]:
    """Bytes that one process holds at the peak of a step from the second on, by component.

    Flash and flex attention count as sdpa, which keeps no (T, T) scores either. Sharding over processes (FSDP2) is
    computed: weights, gradients and optimizer state count with their share; the matrices that Muon gathers, two layers
    (the running and the next one) and the matrices outside the layers are whole.
    """
    shares: dict[str, float] = {}
    if settings.sharded:
        divided = ("weights", "gradients", "optimizer state")
        shares = {"weights in low precision": 0.0, **dict.fromkeys(divided, 1 / settings.num_processes)}
    ledger = MemoryLedger(shares)
    with FakeTensorMode(), ledger:
        attention = "eager" if attn_implementation == "eager" else "sdpa"
        model = auto_class_of(config).from_config(config, dtype=settings.dtype, attn_implementation=attention)
        model.train()
        if settings.activation_checkpointing:
            model.activation_checkpointing_enable()
        # A GPU's chunks: those of a CPU take less, and are so many that pretending takes minutes.
        num_tokens = settings.micro_batch * settings.sequence_length
        chunk_tokens = chunk_tokens_for(num_tokens, config.vocab_size, on_cpu=False)
        if chunk_tokens is not None:
            use_chunked_loss(model, chunk_tokens)
        optimizer = build_optimizer(model)
        for parameter in model.parameters():
            parameter.register_post_accumulate_grad_hook(lambda p: ledger.assign(p.grad, "gradients"))
        model.base_model.register_forward_hook(lambda *_: setattr(ledger, "component", "logits and loss"))

        ledger.component = "gradients"
        for parameter in model.parameters():
            parameter.grad = torch.empty_like(parameter)
        ledger.component = "optimizer state"
        optimizer.step()
        optimizer.zero_grad()

        ledger.component = "activations"
        shape = (settings.micro_batch, settings.sequence_length)
        batch = {
            name: torch.zeros(shape, dtype=torch.long) for name in ("input_ids", "labels", "position_ids")
        }
        ledger.restart_peak()
        # From the second micro-batch on, the gradients of those before are there too.
        for _ in range(min(settings.accumulation, 2)):
            ledger.component = "activations"
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=settings.mixed_precision != "no"):
                loss = model(**batch, use_cache=False, num_items_in_batch=torch.ones(())).loss
            ledger.component = "backward pass"
            loss.backward()
            del loss
        ledger.component = "optimizer work"
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        # Muon's processes gather the matrices of a turn, a stack for each of them; the work on their own stack is above.
        gathered = gathered_elements(model, settings.num_processes) if isinstance(optimizer, Muon) else 0
        turn = torch.empty(gathered if settings.sharded else 0)
        optimizer.step()
        del turn
        components = {name: round(size * shares.get(name, 1.0)) for name, size in ledger.at_peak.items()}
        layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
        layer = max(sum(p.numel() for p in module.parameters()) for module in layers)
        outside = sum(p.numel() for p in model.parameters()) - sum(
            p.numel() for module in layers for p in module.parameters()
        )
    if settings.num_processes > 1 and not settings.sharded:
        # Gradients are views of the buckets that DistributedDataParallel sends, which it keeps between the steps.
        components["gradients"] = ledger.live["weights"]
    if settings.sharded:
        width = 4 if settings.mixed_precision == "no" else 2
        # Two layers' weights, one layer's gradients before they are reduced, and what is outside the layers.
        components["gathered weights and gradients"] = (3 * layer + outside) * width
    return {name: size for name, size in components.items() if size > 0}


def largest_micro_batch(
    config: ScratchGPTConfig,
    settings: StepSettings,
    build_optimizer: OptimizerBuilder,
    memory: float,
    attn_implementation: str = "sdpa",
) -> int:
    """Blocks in the largest micro-batch whose step stays within `memory` bytes; 0 if one block is too much."""

    def needed(micro_batch: int) -> int:
        trial = replace(settings, micro_batch=micro_batch)
        return sum(memory_of_a_step(config, trial, build_optimizer, attn_implementation).values())

    if needed(1) > memory:
        return 0
    # A straight line once activations rule the peak: two points give a guess, a few trials correct it.
    few, many = needed(16), needed(32)
    guess = max(1, 16 + math.floor((memory - few) * 16 / (many - few)))
    while guess > 1 and needed(guess) > memory:
        guess -= 1
    while needed(guess + 1) <= memory:
        guess += 1
    return guess
