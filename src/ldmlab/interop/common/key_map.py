"""Maps the weight names of two code bases, in both directions, by a table of layers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Layer:
    """A layer of ours and its published name.

    Attributes:
        ours: Path of the layer in our module; its weight and bias keep their names.
        theirs: Published path; several where our layer stacks the outputs of theirs.
        kernel_axes: Axes of size 1 behind a published weight: a 1x1 convolution that is a
            linear layer here has one or two.
        heads: Heads whose queries, keys and values are interleaved in the published layer
            ([h, 3, d]) and in three blocks here ([3, h, d]); 0 for a layer without such order.
    """

    ours: str
    theirs: tuple[str, ...]
    kernel_axes: int = 0
    heads: int = 0

    def under(self, ours: str, theirs: str) -> Layer:
        """The same layer inside a larger module."""
        named = tuple(f"{theirs}.{name}" for name in self.theirs)
        return replace(self, ours=f"{ours}.{self.ours}", theirs=named)

    def to_ours(self, parts: Sequence[Tensor], rank: int) -> Tensor:
        """A copy in float32, of `rank` axes."""
        value = parts[0] if len(parts) == 1 else torch.cat(tuple(parts))
        if self.heads:
            value = value.unflatten(0, (self.heads, 3, -1)).transpose(0, 1).flatten(0, 2)
        return value.reshape(value.shape[:rank]).to(torch.float32, copy=True)

    def to_published(self, value: Tensor) -> list[Tensor]:
        """Copies, one for each of `theirs`."""
        if self.heads:
            value = value.unflatten(0, (3, self.heads, -1)).transpose(0, 1).flatten(0, 2)
        shape = self.published_shape(value)
        return [part.reshape(shape).clone() for part in value.detach().chunk(len(self.theirs))]

    def published_shape(self, value: Tensor) -> tuple[int, ...]:
        """Shape of each published tensor of a weight of ours."""
        ones = (1,) * self.kernel_axes if value.ndim > 1 else ()
        return (value.shape[0] // len(self.theirs), *value.shape[1:], *ones)


def renamed(names: Mapping[str, str], kernel_axes: int = 0) -> Iterator[Layer]:
    """Layers that differ by name only: ours to theirs."""
    for ours, theirs in names.items():
        yield Layer(ours, (theirs,), kernel_axes)


class Renaming:
    """The weights of a module under our names and under the published ones.

    Args:
        module: Our module, on any device.
        table: Its layers, in the published order.

    Attributes:
        shapes: Published keys and shapes: what a strict load expects.

    Raises:
        ValueError: A weight of the module has no published name.
    """

    def __init__(self, module: nn.Module, table: Iterable[Layer]) -> None:
        self._module = module
        self._weights = {
            f"{layer.ours}.{name}": (layer, [f"{theirs}.{name}" for theirs in layer.theirs])
            for layer in table
            for name, _ in module.get_submodule(layer.ours).named_parameters(recurse=False)
        }
        state = module.state_dict()
        if unnamed := state.keys() - self._weights.keys():
            raise ValueError(f"no published name for {', '.join(sorted(unnamed)[:3])}")
        self.shapes = {
            key: layer.published_shape(state[ours])
            for ours, (layer, keys) in self._weights.items()
            for key in keys
        }

    def load(self, published: State) -> None:
        """Give the module copies, in float32, of published tensors; any device becomes theirs."""
        rank = {name: value.ndim for name, value in self._module.state_dict().items()}
        state = {
            ours: layer.to_ours([published[key] for key in keys], rank[ours])
            for ours, (layer, keys) in self._weights.items()
        }
        self._module.load_state_dict(state, strict=True, assign=True)

    def published(self) -> dict[str, Tensor]:
        """Copies of the module's weights under their published names."""
        state = self._module.state_dict()
        return {
            key: value
            for ours, (layer, keys) in self._weights.items()
            for key, value in zip(keys, layer.to_published(state[ours]), strict=True)
        }
