"""Muon for the matrices (orthogonalised momentum), AdamW for everything else."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from parallel import sum_all
from torch import nn


def orthogonal(g: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """The nearest half-orthogonal matrix of each [..., rows, cols], by a quintic iteration."""
    wide = g.shape[-2] <= g.shape[-1]
    x = g if wide else g.transpose(-1, -2)
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        a = x @ x.transpose(-1, -2)
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return torch.as_tensor(x if wide else x.transpose(-1, -2))


class Optimizer:
    """The same update in every process; the matrices' share of the work is divided among them."""

    def __init__(self, model: nn.Module, matrix_lr: float = 0.02, other_lr: float = 3e-3) -> None:
        self.matrices: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for name, parameter in model.named_parameters():
            matrix = "layers" in name and parameter.ndim >= 2
            matrix = matrix and "bias" not in name and "router" not in name
            (self.matrices if matrix else others).append(parameter)
        self.momentum = [torch.zeros_like(p) for p in self.matrices]
        self.matrix_lr, self.other_lr = matrix_lr, other_lr
        self.adam = torch.optim.AdamW(
            others, lr=other_lr, betas=(0.9, 0.95), weight_decay=0.0, eps=1e-10
        )

    @torch.no_grad()
    def step(self, scale: float, beta: float = 0.95, decay: float = 0.05) -> None:
        """One update from the gradients, which are then cleared; `scale` is the schedule's."""
        for group in self.adam.param_groups:
            group["lr"] = self.other_lr * scale
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)
        updates = []
        rank, workers = dist.get_rank(), dist.get_world_size()
        for i, (parameter, momentum) in enumerate(zip(self.matrices, self.momentum, strict=True)):
            gradient = parameter.grad
            if gradient is None:
                raise ValueError("a matrix has no gradient")
            momentum.lerp_(gradient, 1 - beta)
            mine = i % workers == rank
            mixed = gradient.lerp(momentum, beta)
            updates.append(orthogonal(mixed).contiguous() if mine else torch.zeros_like(gradient))
            parameter.grad = None
        sum_all(updates)
        rate = self.matrix_lr * scale
        for parameter, update in zip(self.matrices, updates, strict=True):
            stretch = max(1.0, parameter.shape[-2] / parameter.shape[-1]) ** 0.5
            parameter.mul_(1 - rate * decay).add_(update, alpha=-rate * stretch)

    def state(self) -> dict[str, Any]:
        """What `load` needs to go on."""
        return {"adam": self.adam.state_dict(), "momentum": self.momentum}

    def load(self, state: dict[str, Any]) -> None:
        """Goes on from a saved state."""
        self.adam.load_state_dict(state["adam"])
        self.momentum = list(state["momentum"])
