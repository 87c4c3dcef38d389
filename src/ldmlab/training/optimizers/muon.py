"""Muon: momentum whose update of a matrix has singular values near one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.adamw import adamw

from ldmlab.training.sharding import part_of, whole

# Of the quintic iteration: singular values in (0, 1] end between about 0.7 and 1.2.
_A, _B, _C = 3.4445, -4.7750, 2.0315


def orthogonalize(matrix: Float[Tensor, "m n"], iterations: int = 5) -> Float[Tensor, "m n"]:
    """The nearest matrix with equal singular values, roughly, by Newton-Schulz iterations.

    Args:
        matrix: Any matrix.
        iterations: Number of iterations.
    """
    x = matrix / (matrix.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(iterations):
        gram = x @ x.T
        x = _A * x + torch.addmm(_B * gram, gram, gram, alpha=_C) @ x
    return x.T if tall else x


class Muon(Optimizer):
    """Muon (Jordan et al. 2024) for groups marked `orthogonal`, AdamW for the others.

    A convolution's weight counts as the matrix of its output channels. `torch.optim.Muon` takes
    two-dimensional parameters only and leaves convolutions out.

    Args:
        groups: Tables with `params`, `lr` and `orthogonal`.
        momentum: Share of the momentum kept at each step; Nesterov's form.
        betas: AdamW's averages.
        weight_decay: Decoupled decay.
        eps: AdamW's guard against division by zero.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.95),
        weight_decay: float = 0.0,
        eps: float = 1e-8,
    ) -> None:
        defaults = {
            "momentum": momentum,
            "betas": betas,
            "weight_decay": weight_decay,
            "eps": eps,
        }
        super().__init__(groups, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters:
                update = self._orthogonal if group["orthogonal"] else self._adamw
                update(parameters, group)
        return loss

    def _orthogonal(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["momentum"] = torch.zeros_like(parameter)
            gradient = parameter.grad
            assert gradient is not None
            average = state["momentum"].lerp_(gradient, 1 - group["momentum"])
            direction = gradient.lerp(average, group["momentum"]).flatten(1)
            rows, columns = direction.shape
            # A tall matrix has fewer directions than outputs: keep the outputs' mean step.
            scale = max(1.0, rows / columns) ** 0.5
            update = part_of(orthogonalize(whole(direction)).reshape(parameter.shape), parameter)
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.add_(update, alpha=-group["lr"] * scale)

    def _adamw(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros(())
                state["exp_avg"] = torch.zeros_like(parameter)
                state["exp_avg_sq"] = torch.zeros_like(parameter)
        states = [self.state[parameter] for parameter in parameters]
        adamw(
            parameters,
            [p.grad for p in parameters if p.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            foreach=True,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )
