"""Preemption: on a signal, save and exit so that the same command resumes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, NoReturn

import lightning as L

from ldmlab.training.callbacks.checkpointing import save
from ldmlab.training.step_module import StepModule

# What a process that was asked to end exits with: 128 + SIGTERM.
EXIT_CODE = 143
_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class Preemption(L.Callback):
    """Ends training after the step in which SIGTERM, SIGUSR1 or an interrupt arrives.

    The signal may reach any process of a distributed run: all stop after the same step, and
    `last.ckpt` holds it. In a SLURM job SIGUSR1 (`sbatch --signal=USR1@120`) also puts the job
    back into its queue. A second interrupt ends the process at once.

    Args:
        checkpoint: Where to save.
    """

    def __init__(self, checkpoint: Path) -> None:
        self.checkpoint = checkpoint
        self._received: int | None = None
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Listen, in place of Lightning's own handlers."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any
    ) -> None:
        """Save and leave where any process has got a signal.

        Raises:
            SystemExit: With code 143, once everything is saved.
        """
        assert isinstance(pl_module, StepModule)
        stop = self._received is not None
        if trainer.world_size > 1:
            stop = trainer.strategy.reduce_boolean_decision(stop, all=False)
        if stop:
            self._leave(trainer, pl_module)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, frame: Any) -> None:
        # Nothing but a flag: a handler runs between any two instructions, a save included.
        self._received = number
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _leave(self, trainer: L.Trainer, module: StepModule) -> NoReturn:
        save(trainer, self.checkpoint)
        if trainer.is_global_zero:
            print(
                f"stopped by a signal after step {module.step}, saved in {self.checkpoint}; "
                "the same command continues",
                file=sys.stderr,
            )
        job = os.environ.get("SLURM_JOB_ID")
        if job is not None and self._received == signal.SIGUSR1 and trainer.is_global_zero:
            subprocess.run(["scontrol", "requeue", job], check=True)
        raise SystemExit(EXIT_CODE)
