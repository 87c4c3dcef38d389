"""One stage of training, from where its last checkpoint left it."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.loggers import Logger

from ldmlab.core.checkpoint_file import told_if_misfit
from ldmlab.core.errors import UserError
from ldmlab.data.sampling.loader import told_if_loader_died
from ldmlab.training.datamodules.base import BatchDataModule
from ldmlab.training.loggers.metrics_file import MetricsFile
from ldmlab.training.orphan_guard import bound_to_launcher
from ldmlab.training.resume import AtomicCheckpointIO, Resume
from ldmlab.training.step_module import StepModule

Observers = Sequence[L.Callback]


@dataclass(frozen=True)
class StageFit:
    """One stage of training: what, on what, and with whom.

    Attributes:
        module: What is trained; its own counter says where it stands.
        data: Its batches.
        options: Arguments of `lightning.Trainer`.
        callbacks: What happens beside training.
        loggers: Where numbers go.
    """

    module: StepModule
    data: BatchDataModule
    options: Mapping[str, Any]
    callbacks: Observers
    loggers: Sequence[Logger]

    def run(self, resume: Resume | None = None) -> float:
        """Train until the module's last step.

        Args:
            resume: Checkpoint to continue from; None starts anew.

        Returns:
            Seconds spent.

        Raises:
            UserError: The checkpoint is of another architecture, or torchrun or srun has started
                more or fewer processes than the options name.
        """
        _quiet()
        trainer = L.Trainer(
            **self.options,
            max_epochs=-1,
            check_val_every_n_epoch=None,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            callbacks=list(self.callbacks),
            logger=list(self.loggers),
            plugins=[AtomicCheckpointIO(), *_environment()],
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
        )
        _check_processes(trainer.world_size)
        for logger in self.loggers:
            if isinstance(logger, MetricsFile):
                logger.begin(0 if resume is None else resume.step)
        started = time.monotonic()
        path = None if resume is None else resume.path
        with (
            bound_to_launcher(),
            _interrupt_handed_on(),
            _misfit_told(path),
            told_if_loader_died(),
        ):
            trainer.fit(self.module, self.data, ckpt_path=path, weights_only=True)
        return time.monotonic() - started


def _check_processes(expected: int) -> None:
    """Make sure that as many processes were started as are to train together.

    Raises:
        UserError: They are more or fewer.
    """
    tasks = os.environ.get("SLURM_NTASKS") if SLURMEnvironment.detect() else None
    started = int(os.environ.get("WORLD_SIZE") or tasks or expected)
    if started != expected:
        raise UserError(
            f"{started} processes were started to train together and trainer.devices x "
            f"trainer.num_nodes is {expected}: make them equal, with trainer=ddp for several"
        )


@contextmanager
def _interrupt_handed_on() -> Iterator[None]:
    """Let a second interrupt reach the command line: Lightning would exit with 1 and no word."""
    try:
        yield
    except SystemExit as leaving:
        if isinstance(leaving.__context__, KeyboardInterrupt):
            raise leaving.__context__ from None
        raise


def _misfit_told(path: Path | None) -> AbstractContextManager[None]:
    """Name the first tensor of a checkpoint that the module has not, or not so."""
    if path is None:
        return nullcontext()
    return told_if_misfit(f"resume={path} is of another model than this configuration's")


def _environment() -> list[SLURMEnvironment]:
    """SLURM's ranks where there are any; saving and queueing again is for `Preemption` alone."""
    found = SLURMEnvironment.detect()
    return [SLURMEnvironment(auto_requeue=False)] if found else []


def _quiet() -> None:
    """Keep Lightning from announcing devices and from doubting what is done on purpose."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    warnings.filterwarnings("ignore", ".*This DataLoader will create.*")
    warnings.filterwarnings("ignore", r".*module\(s\) in eval mode at the start.*")
    warnings.filterwarnings("ignore", ".*isinstance.treespec, LeafSpec.*")
    warnings.filterwarnings("ignore", ".*`srun` command is available on your system.*")
