"""Sharded weights (FSDP2), and their conversion from and to whole state dicts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from ldmlab.core.records import Conditioning

# FSDP2 makes weights whole for the backward pass of the tensors that it finds in a module's
# output; not every version of torch looks for them in a record that it does not know.
torch.export.register_dataclass(Conditioning)


def shard(network: nn.Module, mesh: DeviceMesh) -> None:
    """Leave each process its part of a network's weights, rows of them, in place.

    A block of a list of blocks is made whole while it computes, and what is outside of blocks
    while the network does.

    Args:
        network: A module that is called as a whole, with the same weights on every process.
        mesh: All processes.
    """
    if not any(True for _ in network.parameters()):
        return
    # Rows of a tensor with its channels last do not lie together, which FSDP2 asks for.
    network.to(memory_format=torch.contiguous_format)
    lists = [module for module in network.modules() if isinstance(module, nn.ModuleList)]
    # The innermost first: a block takes what no block inside it has taken. None stays whole,
    # not even the outermost, for averages follow the parts.
    for block in [*reversed([child for blocks in lists for child in blocks]), network]:
        fully_shard(block, mesh=mesh, reshard_after_forward=True)


def whole(tensor: Tensor) -> Tensor:
    """The tensor that the processes hold parts of; all of them have to ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local(tensor: Tensor) -> Tensor:
    """This process's part of a tensor; the tensor itself where every process holds it whole."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def part_of(tensor: Tensor, like: Tensor) -> Tensor:
    """This process's part of a tensor that every process holds whole, if `like` is in parts."""
    if not isinstance(like, DTensor):
        return tensor
    tensor = tensor.to(like.device, memory_format=torch.contiguous_format)
    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)


# By hand: torch.distributed.checkpoint.state_dict gives optimiser states names, where those of one
# process have numbers, and makes an optimiser that has not started take a step first.
def whole_state(state: Any, keep: bool) -> Any:
    """A state of nested tables with whole tensors, as one process would have it.

    Args:
        state: Tables, lists and tensors.
        keep: Whether this process wants the result, on the CPU; None stands for tensors if not.
    """
    if isinstance(state, DTensor):
        full = state.full_tensor()
        return full.cpu() if keep else None
    if isinstance(state, dict):
        return {key: whole_state(value, keep) for key, value in state.items()}
    if isinstance(state, list):
        return [whole_state(value, keep) for value in state]
    return state


def parts_of_state(state: dict[str, Any], optimizer: Optimizer) -> dict[str, Any]:
    """An optimiser's state as one process has it, cut into the parts of this process.

    Args:
        state: Of `Optimizer.state_dict`, with whole tensors.
        optimizer: Whose parameters may be in parts.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    cut = {
        number: {
            name: part_of(value, parameter)
            if isinstance(value, Tensor) and value.shape == parameter.shape
            else value
            for name, value in state["state"].get(number, {}).items()
        }
        for number, parameter in zip(numbers, parameters, strict=True)
    }
    return {**state, "state": {number: values for number, values in cut.items() if values}}
