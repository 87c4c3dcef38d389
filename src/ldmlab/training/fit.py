"""One stage of training, from where its last checkpoint left it."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import Logger

from ldmlab.training.checkpoints import AtomicCheckpointIO
from ldmlab.training.datamodule import BatchDataModule
from ldmlab.training.metrics_file import MetricsFile
from ldmlab.training.steps import StepCounter, StepModule


def fit(
    module: StepModule,
    data: BatchDataModule,
    options: Mapping[str, Any],
    callbacks: Sequence[L.Callback],
    loggers: Sequence[Logger],
    resume: Path | None = None,
) -> float:
    """Train a module until its last step.

    Args:
        module: What is trained; its own counter says where it stands.
        data: Its batches.
        options: Arguments of `lightning.Trainer`.
        callbacks: What happens beside training.
        loggers: Where numbers go.
        resume: Checkpoint to continue from; None starts anew.

    Returns:
        Seconds spent training.
    """
    # Lightning announces its devices at each start and advises workers for data that needs none.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    warnings.filterwarnings("ignore", ".*`litlogger`.*|.*litmodels.*|.*`lightning` tip.*")
    trainer = L.Trainer(
        **options,
        max_epochs=-1,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        callbacks=[StepCounter(), *callbacks],
        logger=list(loggers),
        plugins=[AtomicCheckpointIO()],
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    if resume is not None:
        done = int(torch.load(resume, weights_only=True, map_location="cpu")["state_dict"]["steps"])
        for logger in loggers:
            if isinstance(logger, MetricsFile):
                logger.forget_after(done)
    started = time.monotonic()
    trainer.fit(module, data, ckpt_path=resume, weights_only=True)
    return time.monotonic() - started
