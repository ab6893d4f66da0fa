# SPDX-License-Identifier: Apache-2.0
"""Muon for the weight matrices and AdamW for the other weights, as one optimizer.

torch.optim.Muon computes in bfloat16 on every machine, one matrix at a time; where bfloat16 is only emulated (CPUs
without AVX512-BF16, GPUs before Ampere) its step takes longer than the forward and backward pass.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import distributed, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim.adamw import adamw

from scratch_gpt.errors import UserError


# Keller Jordan's: the steepest quintic at 0, whose five steps bring singular values to between about 0.7 and 1.2
# (kellerjordan.github.io/posts/muon).
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
STEPS = 5
EPS = 1e-7
# Equal shapes are multiplied together, up to this many elements at a time. On a CPU a stack should stay in its caches
# (a fifth faster than all sixteen 192 x 192 matrices at once); on a GPU more would cost memory and gain no speed.
STACK_ELEMENTS = 1 << 24
CPU_STACK_ELEMENTS = 1 << 17


def orthogonalize(matrices: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Bring the singular values of each matrix near 1 and keep its singular vectors: about U V^T of U S V^T.

    Five Newton-Schulz steps X <- a X + b (X X^T) X + c (X X^T)^2 X, each of which applies the same odd polynomial to
    every singular value.

    Args:
        matrices: float32, (N, rows, columns) with rows <= columns: the products are rows x rows.
        dtype: to multiply in.
    """
    a, b, c = COEFFICIENTS
    # The Frobenius norm bounds the largest singular value, so all of them begin in [0, 1].
    x = (matrices / matrices.norm(dim=(1, 2), keepdim=True).clamp(min=EPS)).to(dtype)
    for _ in range(STEPS):
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)  # b G + c G^2
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return x


class Muon(torch.optim.Optimizer):
    """Muon for `matrices`, AdamW for `others`: two parameter groups, one state.

    Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) orthogonalizes the Nesterov momentum of a matrix. The
    step is scaled by 0.2 sqrt(max(rows, columns)), so that its root mean square is that of an AdamW step (Liu et al.
    2025, hf.co/papers/2502.16982, equation 4): both groups share the learning rate. Weight decay is decoupled.

    Args:
        matrices: weights (rows, columns), and stacks of them (experts, rows, columns), each matrix of which is
            orthogonalized by itself.
        others: all other weights, which do not decay.
        lr: learning rate.
        weight_decay: of the matrices, times the learning rate.
        betas: of AdamW.
        momentum: of Muon.
        dtype: the precision of the orthogonalization: bfloat16 where the run computes in bfloat16, otherwise float32.
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        others: Iterable[nn.Parameter],
        lr: float,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.95),
        momentum: float = 0.95,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        groups = [
            {"params": list(matrices), "use_muon": True, "momentum": momentum, "weight_decay": weight_decay},
            # "fused" also tells load_state_dict to put the step counts on the weights' device
            {"params": list(others), "use_muon": False, "betas": betas, "weight_decay": 0.0, "fused": True},
        ]
        # An optimizer cannot have an empty first group; a model without matrices or without other weights is fine.
        super().__init__([group for group in groups if group["params"]], {"lr": lr})
        self.dtype = dtype

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a saved state.

        Raises:
            UserError: it is that of torch's Muon beside torch's AdamW, which versions before this class wrote.
        """
        if state_dict.keys() == {"muon", "adamw"}:
            message = (
                "the checkpoint's optimizer state is of an earlier version's muon: finish the run with the version that "
                "began it, or name a new output_dir"
            )
            raise UserError("cannot_resume", message, settings=["optim"])
        super().load_state_dict(state_dict)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Move all weights that have a gradient."""
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if group["use_muon"]:
                self._muon(weights, group)
            else:
                self._adamw(weights, group)

    def _muon(self, weights: list[nn.Parameter], group: dict[str, Any]) -> None:
        stacks: dict[tuple[int, ...], list[nn.Parameter]] = {}
        for weight in weights:
            shape = (*weight.shape[:-2], *sorted(weight.shape[-2:]))  # tall ones are transposed
            stacks.setdefault(shape, []).append(weight)
        for shape, members in stacks.items():
            size = max(1, _stack_elements(members[0]) // math.prod(shape))
            if isinstance(members[0], DTensor):  # so that each process has one to orthogonalize
                size *= distributed.get_world_size()
            scale = 0.2 * math.sqrt(max(shape[-2:]))
            for start in range(0, len(members), size):
                stack = members[start : start + size]
                momenta = [self._nesterov(weight, group["momentum"]) for weight in stack]
                for weight, update in zip(stack, self._orthogonalized(momenta), strict=True):
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    weight.add_(update, alpha=-group["lr"] * scale)

    def _orthogonalized(self, matrices: list[torch.Tensor]) -> list[torch.Tensor]:
        """Matrices of one shape or its transpose, multiplied together; of sharded ones each process takes its share.

        All processes gather each matrix, one of them orthogonalizes it, and the others get it from that one.
        """
        if not isinstance(matrices[0], DTensor):
            wide = torch.stack([_wide(matrix) for matrix in matrices])
            single = wide.flatten(0, -3)  # of stacked experts too: (N, rows, columns)
            size = max(1, _stack_elements(single) // math.prod(single.shape[1:]))
            moved = torch.cat([orthogonalize(part, self.dtype) for part in single.split(size)])
            return [
                update.mT if matrix.shape[-2] > matrix.shape[-1] else update
                for matrix, update in zip(matrices, moved.view_as(wide), strict=True)
            ]
        rank, processes = distributed.get_rank(), distributed.get_world_size()
        whole = [matrix.full_tensor() for matrix in matrices]
        if own := whole[rank::processes]:
            whole[rank::processes] = [
                update.to(matrix.dtype).contiguous() for matrix, update in zip(own, self._orthogonalized(own))
            ]
        for index, update in enumerate(whole):
            distributed.broadcast(update, src=index % processes)
        return [
            distribute_tensor(update, matrix.device_mesh, matrix.placements, src_data_rank=None)
            for matrix, update in zip(matrices, whole, strict=True)
        ]

    def _nesterov(self, weight: nn.Parameter, momentum: float) -> torch.Tensor:
        """The momentum, an exponential mean of the gradients, taken one step ahead."""
        state = self.state[weight]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        mean = state["momentum_buffer"].lerp_(weight.grad, 1 - momentum)
        return weight.grad.lerp(mean, momentum)

    def _adamw(self, weights: list[nn.Parameter], group: dict[str, Any]) -> None:
        for weight in weights:
            if not self.state[weight]:
                self.state[weight] = {
                    "step": torch.zeros((), device=weight.device),
                    "exp_avg": torch.zeros_like(weight),
                    "exp_avg_sq": torch.zeros_like(weight),
                }
        names = ("exp_avg", "exp_avg_sq", "step")
        averages, squares, steps = ([self.state[weight][name] for weight in weights] for name in names)
        beta1, beta2 = group["betas"]
        adamw(
            weights,
            [weight.grad for weight in weights],
            averages,
            squares,
            [],
            steps,
            fused=True,
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=1e-8,
            maximize=False,
        )


def _wide(matrix: torch.Tensor) -> torch.Tensor:
    return matrix.mT if matrix.shape[-2] > matrix.shape[-1] else matrix


def _stack_elements(tensor: torch.Tensor) -> int:
    """How many numbers are multiplied together on the tensor's device."""
    return CPU_STACK_ELEMENTS if tensor.device.type == "cpu" else STACK_ELEMENTS
