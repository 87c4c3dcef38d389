"""A progress bar with loss, images a second and time left; lines where there is no terminal."""

from __future__ import annotations

import time
from typing import Any

import lightning as L
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from ldmlab.core.records import Batch
from ldmlab.training.step_module import StepModule


class ProgressDisplay(L.Callback):
    """Shows where one phase of training stands.

    Args:
        title: Name of the phase.
        lines: How many lines a run without a terminal prints.
    """

    def __init__(self, title: str, lines: int = 10) -> None:
        self.title = title
        self.lines = lines
        self._console = Console(stderr=True)
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._started = 0.0
        self._samples = 0
        self._loss: float | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Open the bar."""
        assert isinstance(pl_module, StepModule)
        self._started, self._samples = time.monotonic(), 0
        if not trainer.is_global_zero or not self._console.is_terminal:
            return
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TextColumn("loss {task.fields[loss]}  {task.fields[rate]} img/s  ETA"),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._progress.start()
        self._task = self._progress.add_task(
            self.title, total=pl_module.max_steps, completed=pl_module.step, loss="–", rate="–"
        )

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Advance."""
        assert isinstance(pl_module, StepModule)
        self._samples += len(batch) * trainer.world_size
        step, total = pl_module.step, pl_module.max_steps
        line = max(1, total // self.lines)
        if not trainer.is_global_zero or (step % 10 and step % line and step != total):
            return
        loss = float(outputs["loss"])
        self._loss = loss if self._loss is None else 0.9 * self._loss + 0.1 * loss
        elapsed = time.monotonic() - self._started
        rate = self._samples / max(elapsed, 1e-9)
        shown: dict[str, Any] = {"loss": f"{self._loss:.4g}", "rate": f"{rate:.0f}"}
        if self._progress is not None:
            self._progress.update(self._task, completed=step, **shown)
        elif step % line == 0 or step == total:
            left = (total - step) * len(batch) * trainer.world_size / max(rate, 1e-9)
            self._console.print(
                f"{self.title} {step}/{total}  loss {shown['loss']}  {shown['rate']} img/s  "
                f"ETA {int(left // 60)}:{int(left % 60):02d}",
                highlight=False,
            )

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Close the bar."""
        self._close()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Close the bar."""
        self._close()

    def _close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
