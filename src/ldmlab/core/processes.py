"""Rank and world size of this process in a distributed run."""

from __future__ import annotations

import os

import torch.distributed as dist

# As torchrun, Lightning's own launcher and srun tell it, before the processes have met.
_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")


def is_main_process() -> bool:
    """Whether this process writes files and talks to the user: rank 0 of all."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank() == 0
    return next((int(os.environ[name]) for name in _RANKS if name in os.environ), 0) == 0
