"""Preemption: on a signal, save and exit so that the same command resumes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

import lightning as L

from ldmlab.training.callbacks.checkpointing import save
from ldmlab.training.step_module import StepModule

# What a process that was asked to end exits with: 128 + SIGTERM.
EXIT_CODE = 143
_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
# One press of Ctrl-C reaches a process several times: from the terminal, and handed on by `uv run`,
# srun or torchrun.
_ONE_PRESS = 1.0


class Preemption(L.Callback):
    """Ends training after the step in which SIGTERM, SIGUSR1 or an interrupt arrives.

    The signal may reach any process of a distributed run: all stop after the same step, and
    `last.ckpt` holds it. In a SLURM job SIGUSR1 (`sbatch --signal=USR1@120`) also puts the job
    back into its queue. A second interrupt, a second or more after the first, ends the process at
    once.

    Args:
        checkpoint: Where to save.
    """

    def __init__(self, checkpoint: Path) -> None:
        self.checkpoint = checkpoint
        self._received: int | None = None
        self._interrupted: float | None = None
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
        if number != signal.SIGINT:
            return
        now = time.monotonic()
        if self._interrupted is None:
            self._interrupted = now
        elif now - self._interrupted > _ONE_PRESS:
            raise KeyboardInterrupt

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
            _requeue(job)
        raise SystemExit(EXIT_CODE)


def _requeue(job: str) -> None:
    """Put a job of SLURM back into its queue, or say that this is left to the user."""
    try:
        asked = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True)
        if asked.returncode == 0:
            return
        trouble = asked.stderr or f"exit code {asked.returncode}"
    except OSError as error:  # a container without SLURM's commands
        trouble = error.strerror or str(error)
    print(
        f"ldmlab: warning: job {job} was not put back into the queue (scontrol: "
        f"{' '.join(trouble.split())}): submit the same command again",
        file=sys.stderr,
    )
