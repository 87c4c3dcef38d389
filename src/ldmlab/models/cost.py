"""Cost of a network: parameters, FLOPs and memory of activations."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Cost:
    """One call of a function.

    Attributes:
        flops: Floating-point operations of convolutions, linear layers and attention; a
            multiply-add is two.
        saved_bytes: What autograd keeps for the backward pass beside the parameters. Attention
            counts with its full matrices, which fused kernels do not keep: an upper bound.
    """

    flops: int
    saved_bytes: int


def count_parameters(modules: Iterable[nn.Module]) -> int:
    """Number of weights, each shared one counted once."""
    return sum(p.numel() for p in {p for module in modules for p in module.parameters()})


def measure(function: Callable[[], Any], parameters: Iterable[Tensor] = ()) -> Cost:
    """The cost of calling a function once; on the `meta` device nothing is computed or held.

    Args:
        function: What is called.
        parameters: What is in memory anyway, and is not counted as saved.
    """
    known = {_storage(parameter) for parameter in parameters}
    saved: dict[StorageWeakRef, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = _storage(tensor)
        if storage not in known:
            saved[storage] = tensor.untyped_storage().nbytes()
        return tensor

    with (
        FlopCounterMode(display=False) as counter,
        saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        result = function()
    del result  # it held the graph, and with it every storage, until all were counted
    return Cost(counter.get_total_flops(), sum(saved.values()))


def _storage(tensor: Tensor) -> StorageWeakRef:
    return StorageWeakRef(tensor.untyped_storage())
