"""Gradient clipping, and skipping of steps whose gradients are not finite."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from ldmlab.core.errors import UserError
from ldmlab.core.files import atomic_write
from ldmlab.core.records import Batch
from ldmlab.training.sharding import whole
from ldmlab.training.step_module import StepModule


class GradientGuard(L.Callback):
    """Clips each optimiser's gradient, and leaves out the steps whose gradient is not finite.

    Gradients are averages over all processes by then, so that all of them leave out the same
    steps. A step that is left out changes no weight and no running statistic.

    Args:
        clip_norm: Largest norm of an optimiser's gradient; None for no limit.
        patience: Steps in a row that may be left out before training stops.
        replay: Folder for the batch at which it stops.
    """

    def __init__(self, clip_norm: float | None, patience: int, replay: Path) -> None:
        self.clip_norm = math.inf if clip_norm is None else clip_norm
        self.patience = patience
        self.replay = replay
        self.skipped = 0
        self._in_a_row = 0
        self._broken = False
        self._batch: Batch | None = None
        self._statistics: list[Tensor] = []
        self._before: list[Tensor] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Find what a forward pass changes beside gradients."""
        norms = [m for m in pl_module.modules() if isinstance(m, _BatchNorm)]
        self._statistics = [buffer for norm in norms for buffer in norm.buffers()]

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Remember the batch, and the statistics that its forward pass will change."""
        self._batch, self._broken = batch, False
        self._before = [buffer.clone() for buffer in self._statistics]

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer
    ) -> None:
        """Clip, or take the gradients away."""
        assert isinstance(pl_module, StepModule)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = whole(nn.utils.clip_grad_norm_(parameters, self.clip_norm))
        name = pl_module.trained[trainer.optimizers.index(optimizer)]
        pl_module.log(f"grad_norm/{name}", norm)
        if not bool(torch.isfinite(norm)):
            self._broken = True
            optimizer.zero_grad(set_to_none=True)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any
    ) -> None:
        """Count what was left out.

        Raises:
            UserError: Too many steps in a row were.
        """
        assert isinstance(pl_module, StepModule)
        self._in_a_row = self._in_a_row + 1 if self._broken else 0
        if not self._broken:
            return
        self.skipped += 1
        for buffer, before in zip(self._statistics, self._before, strict=True):
            buffer.copy_(before)
        pl_module.log("train/skipped_steps", float(self.skipped))
        if self._in_a_row >= self.patience:
            path = self._keep_batch(pl_module)
            raise UserError(
                f"{self._in_a_row} steps in a row, to step {pl_module.step}, had gradients that "
                f"are not finite: lower the stage's lr, raise warmup_steps, or look at the batch "
                f"kept in {path}; the last checkpoint is from before"
            )

    def _keep_batch(self, module: StepModule) -> Path:
        """Write the last batch beside the run, for a look or a replay."""
        assert self._batch is not None
        self.replay.mkdir(parents=True, exist_ok=True)
        path = self.replay / f"step-{module.step:06d}-rank{module.global_rank}.pt"
        content = {"step": module.step, "seed": module.seed, "batch": asdict(self._batch)}
        with atomic_write(path) as file:
            torch.save(content, file)
        return path
