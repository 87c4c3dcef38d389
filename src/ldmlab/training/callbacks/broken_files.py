"""Callback that records broken samples which the loader had to replace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
from rich.console import Console

from ldmlab.core.files import write_text
from ldmlab.data.images.dataset import broken_files
from ldmlab.training.datamodules.base import BatchDataModule
from ldmlab.training.step_module import StepModule

_SHOWN = 10
_EVERY = 100  # steps


class BrokenFiles(L.Callback):
    """Prints the first broken files, and lists all in a file of the run.

    Args:
        path: The list; written only when there is something to list.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, None] = {}
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any
    ) -> None:
        """Look at each hundredth step."""
        assert isinstance(pl_module, StepModule)
        if pl_module.step % _EVERY == 0:
            self._look(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look at the end."""
        self._look(trainer)
        if self._known:
            text = f"warning: broken files replaced: {len(self._known)}, see {self.path}"
            self._console.print(text, markup=False)

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Look before the end."""
        self._look(trainer)

    def _look(self, trainer: L.Trainer) -> None:
        data = getattr(trainer, "datamodule", None)
        if not isinstance(data, BatchDataModule):
            return
        if trainer.global_rank:  # each process meets broken files of its own
            self.path = self.path.with_name(f"broken_files.rank{trainer.global_rank}.txt")
        new: list[str] = []
        for dataset in (data.train, data.validation):
            new += [name for name in broken_files(dataset) if name not in self._known]
        for number, name in enumerate(new, len(self._known)):
            if number < _SHOWN:
                self._console.print(f"warning: {name} cannot be read, replaced", markup=False)
        if new:
            self._known |= dict.fromkeys(new)
            write_text(self.path, "".join(f"{name}\n" for name in self._known))
