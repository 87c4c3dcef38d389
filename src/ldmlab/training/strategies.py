"""How several processes share a run."""

from __future__ import annotations

from datetime import timedelta

from lightning.pytorch.strategies import DDPStrategy


def ddp(timeout: float = 1800.0) -> DDPStrategy:
    """Distributed data parallelism: every process holds the model, gradients are averaged.

    Both stages reach every parameter in every step, so unused ones are not searched for.

    Args:
        timeout: Seconds that a process waits for the others before it ends the job.
    """
    return DDPStrategy(timeout=timedelta(seconds=timeout), gradient_as_bucket_view=True)
