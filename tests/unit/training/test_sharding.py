"""Networks in parts, between two gloo processes."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

from ldmlab.conditioning.text import TextConditioner
from ldmlab.conditioning.vocabulary import SPECIALS
from ldmlab.nn.text_transformer import TextTransformer
from ldmlab.nn.unet import UNet
from ldmlab.training.callbacks.gradients import GradientGuard
from ldmlab.training.optimizers.muon import Muon
from ldmlab.training.sharding import parts_of_state, shard, whole_state
from ldmlab.training.step_module import StepModule


def _network() -> UNet:
    torch.manual_seed(0)
    unet = UNet(2, 2, token_dim=8, channels=16, head_channels=8)
    with torch.no_grad():
        for weight in unet.parameters():  # its last layers start at zero
            weight.add_(torch.randn(weight.shape) * 0.05)
    # Muon makes much of what rounding leaves of a direction without gradient: double precision.
    return unet.to(torch.double, memory_format=torch.channels_last)


def _optimizer(network: nn.Module) -> Muon:
    matrices = [p for p in network.parameters() if p.ndim > 1]
    rest = [p for p in network.parameters() if p.ndim == 1]
    return Muon(
        [
            {"params": matrices, "lr": 0.02, "orthogonal": True},
            {"params": rest, "lr": 1e-3, "orthogonal": False},
        ]
    )


class _Guarded(StepModule):
    """Keeps what the guard logs."""

    trained = ("network",)

    def __init__(self) -> None:
        super().__init__(0, 1)
        self.logged: dict[str, torch.Tensor] = {}

    def terms(self, batch: Any, noise: Any) -> Any:
        raise NotImplementedError

    def log(self, name: str, value: Any, *args: Any, **options: Any) -> None:
        self.logged[name] = value


def _step(network: nn.Module, optimizer: Muon, rows: slice) -> float:
    """A step whose gradient the callback of training clips; returns the norm that it logs."""
    torch.manual_seed(1)
    x, tokens = torch.randn(4, 2, 8, 8).double(), torch.randn(4, 3, 8).double()
    loss = network(x[rows], torch.arange(4.0)[rows], tokens=tokens[rows]).square().mean()
    loss.backward()
    module, trainer = _Guarded(), SimpleNamespace(optimizers=[optimizer])
    GradientGuard(0.1, 1, Path("replay")).on_before_optimizer_step(trainer, module, optimizer)  # type: ignore[arg-type]
    optimizer.step()
    optimizer.zero_grad()
    return float(module.logged["grad_norm/network"])


def _compare(rank: int) -> None:
    alone, parted = _network(), _network()
    mesh = init_device_mesh("cpu", (2,))
    shard(parted, mesh)
    shard(nn.Identity(), mesh)  # nothing to divide
    optimizers = _optimizer(alone), _optimizer(parted)
    for _ in range(2):
        norm = _step(alone, optimizers[0], slice(None))
        mine = _step(parted, optimizers[1], slice(2 * rank, 2 * rank + 2))
        torch.testing.assert_close(mine, norm, rtol=1e-10, atol=0)

    # Each holds its half, after a pass without a gradient too.
    with torch.no_grad():
        x, tokens = torch.zeros(1, 2, 8, 8).double(), torch.zeros(1, 3, 8).double()
        parted(x, torch.zeros(1), tokens=tokens)
    parameters = list(parted.parameters())
    assert all(isinstance(p, DTensor) for p in parameters)
    held = sum(p.to_local().numel() for p in parameters if isinstance(p, DTensor))
    assert held <= 0.51 * sum(p.numel() for p in parameters)

    # The whole is that of one process, and goes back into parts.
    state = whole_state({"w": parted.state_dict(), "o": optimizers[1].state_dict()}, rank == 0)
    if rank == 0:
        assert state["w"].keys() == alone.state_dict().keys()
        for name, value in alone.state_dict().items():
            torch.testing.assert_close(state["w"][name], value, rtol=1e-6, atol=1e-8)
    else:
        assert all(value is None for value in state["w"].values())
    plain = optimizers[0].state_dict()
    again = _optimizer(parted)
    again.load_state_dict(parts_of_state(copy.deepcopy(plain), again))
    back = whole_state(again.state_dict(), True)
    assert back["param_groups"] == plain["param_groups"]
    for number, values in plain["state"].items():
        for name, value in values.items():
            assert torch.equal(back["state"][number][name], value), (number, name)
    _nested(mesh)


def _nested(mesh: dist.DeviceMesh) -> None:
    """A text encoder, whose unused projection takes part in nothing."""
    text = TextTransformer(20, 5, dim=8, depth=2, num_heads=2, head_dim=4, to_logits=True)
    shard(text, mesh)
    text(torch.zeros(2, 5, dtype=torch.long)).sum().backward()
    assert text.tokens.weight.grad is not None
    assert text.to_logits.weight.grad is None
    # A module that answers with a record.
    conditioner = TextConditioner([*SPECIALS, "a"], 5, 8, 2, 2, 4, pooled=True)
    shard(conditioner, mesh)
    found = conditioner(torch.zeros(2, 5, dtype=torch.long))
    (found.tokens.sum() + found.vector.square().sum()).backward()
    assert conditioner.transformer.blocks[0].norm1.weight.grad is not None


def test_sharded_processes_hold_half_each_and_train_the_whole() -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    told = subprocess.run(
        [*command, __file__],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert told.returncode == 0, told.stderr[-3000:]


if __name__ == "__main__":  # one of the two processes
    dist.init_process_group("gloo")
    _compare(dist.get_rank())
    dist.barrier()
    dist.destroy_process_group()
