"""The device that a process computes on, from `trainer.accelerator`."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch

from ldmlab.core.errors import UserError


def accelerator_of(wanted: str) -> str:
    """`cuda` or `cpu`, as is asked for; `auto` is a GPU where there is one.

    Raises:
        UserError: A GPU is asked for, and there is none.
    """
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return "cpu"
    if not torch.cuda.is_available():
        raise UserError(
            f"trainer.accelerator={wanted}, and torch finds no CUDA device on this machine: set "
            "trainer.accelerator=cpu"
        )
    return "cuda"


def device_of(accelerator: str, devices: int | str | Sequence[int]) -> torch.device:
    """The device of this process: of several processes on a machine, each has its own GPU.

    Args:
        accelerator: `trainer.accelerator`.
        devices: `trainer.devices`: their number, `auto`, or the numbers of those to use.

    Raises:
        UserError: A GPU is asked for, and there is none.
    """
    if accelerator_of(accelerator) == "cpu":
        return torch.device("cpu")
    place = int(os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", 0)))
    return torch.device("cuda", place if isinstance(devices, int | str) else devices[place])


def device_to_show_on(accelerator: str, devices: int | str | Sequence[int]) -> torch.device:
    """The device that a run was trained on where this machine has it, and the CPU where not.

    A model trained on a GPU can be sampled anywhere.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return device_of(accelerator, devices)
