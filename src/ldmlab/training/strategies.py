"""Lightning strategies for one, several and sharded processes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from lightning.pytorch.strategies import DDPStrategy
from torch.distributed.device_mesh import init_device_mesh
from torch.optim import Optimizer

from ldmlab.training.sharding import parts_of_state, shard, whole_state
from ldmlab.training.step_module import StepModule


def ddp(timeout: float = 1800.0) -> DDPStrategy:
    """Distributed data parallelism: every process holds the model, gradients are averaged.

    Both stages reach every parameter in every step, so unused ones are not searched for.

    Args:
        timeout: Seconds that a process waits for the others before it ends the job.
    """
    return DDPStrategy(timeout=timedelta(seconds=timeout), gradient_as_bucket_view=True)


def fsdp(timeout: float = 1800.0) -> FullyShardedStrategy:
    """Fully sharded data parallelism (FSDP2): every process holds a part of stage two's networks.

    Their weights, gradients, averages and optimiser states are divided among the processes. Stage
    one, which no card is too small for, is trained as by `ddp`.

    Args:
        timeout: Seconds that a process waits for the others before it ends the job.
    """
    return FullyShardedStrategy(timeout=timedelta(seconds=timeout), gradient_as_bucket_view=True)


class FullyShardedStrategy(DDPStrategy):
    """DDP for modules that are sharded instead, where they name what can be.

    Checkpoints hold whole tensors: they are those of any other strategy, and go on under any.
    """

    def model_to_device(self) -> None:
        """Shard on the way: no device ever holds the whole."""
        for network in self._module.sharded:
            shard(network, init_device_mesh(self.root_device.type, (self.world_size,)))
        super().model_to_device()

    def configure_ddp(self) -> None:
        """Sharded networks average their gradients themselves."""
        if not self._module.sharded:
            super().configure_ddp()

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Whole tensors, on the first process."""
        return whole_state(super().lightning_module_state_dict(), self.is_global_zero)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Whole tensors, on the first process."""
        return whole_state(super().optimizer_state(optimizer), self.is_global_zero)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Take this process's parts of whole tensors."""
        states = zip(checkpoint["optimizer_states"], self.optimizers, strict=True)
        parts = [parts_of_state(state, optimizer) for state, optimizer in states]
        super().load_optimizer_state_dict({**checkpoint, "optimizer_states": parts})

    @property
    def _module(self) -> StepModule:
        assert isinstance(self.lightning_module, StepModule)
        return self.lightning_module
