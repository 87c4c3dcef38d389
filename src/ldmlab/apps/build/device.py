"""The device that a process computes on, from `trainer.accelerator`."""

from __future__ import annotations

import os

import torch
from omegaconf import DictConfig, ListConfig

from ldmlab.core.errors import UserError


def accelerator_of(cfg: DictConfig) -> str:
    """`cuda` or `cpu`, as `trainer.accelerator` asks; `auto` is a GPU where there is one.

    Raises:
        UserError: A GPU is asked for, and there is none.
    """
    wanted = cfg.trainer.accelerator
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return "cpu"
    if not torch.cuda.is_available():
        raise UserError(
            f"trainer.accelerator={wanted}, and torch finds no CUDA device on this machine: set "
            "trainer.accelerator=cpu"
        )
    return "cuda"


def device_of(cfg: DictConfig) -> torch.device:
    """The device of this process: of several processes on a machine, each has its own GPU.

    Raises:
        UserError: A GPU is asked for, and there is none.
    """
    if accelerator_of(cfg) == "cpu":
        return torch.device("cpu")
    place = int(os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", 0)))
    devices = cfg.trainer.devices
    return torch.device("cuda", devices[place] if isinstance(devices, ListConfig) else place)


def device_to_show_on(cfg: DictConfig) -> torch.device:
    """The device that a run was trained on where this machine has it, and the CPU where not.

    A model trained on a GPU can be sampled anywhere.
    """
    return device_of(cfg) if torch.cuda.is_available() else torch.device("cpu")
