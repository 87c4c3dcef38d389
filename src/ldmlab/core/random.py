"""Random numbers that depend on a sample's own key only, never on the batch around it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ldmlab.core.tensors import broadcast_like


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed from any number of names and numbers, stable across machines and versions."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    data = text.encode("utf-8", "surrogatepass")  # a file's name may be any bytes
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big") >> 1


@runtime_checkable
class Noise(Protocol):
    """A source of random numbers for a batch."""

    def normal(self, like: Tensor) -> Tensor:
        """Standard normal numbers with the shape, dtype and device of `like`."""
        ...

    def uniform(self, like: Tensor) -> Tensor:
        """Numbers uniform in [0, 1) with the shape, dtype and device of `like`."""
        ...

    def strata(self, like: Tensor) -> Tensor:
        """Uniform numbers too, row k of a batch of b from the k-th of b equal parts of [0, 1)."""
        ...


class SampleNoise:
    """One generator per sample, so that row k depends on `(seed, keys[k])` and on nothing else.

    The numbers are drawn on the CPU and moved: the same bits on every device, in every batch
    size and on every number of processes.

    Args:
        seed: Seed shared by all samples.
        keys: One key per row of the batches to come.
        whole: Rows of the whole batch, where these rows are part of it and their keys are their
            places in it; by default they are the batch, in their order.
    """

    def __init__(self, seed: int, keys: Iterable[int], whole: int | None = None) -> None:
        numbers = [int(key) for key in keys]
        self._generators = [
            torch.Generator().manual_seed(derive_seed("sample", seed, key)) for key in numbers
        ]
        self._places = torch.tensor(numbers if whole is not None else range(len(numbers)))
        self._whole = len(numbers) if whole is None else whole

    def __len__(self) -> int:
        return len(self._generators)

    def normal(self, like: Tensor) -> Tensor:
        """Standard normal numbers with the shape, dtype and device of `like`, row by row."""
        return self._draw(torch.randn, like)

    def uniform(self, like: Tensor) -> Tensor:
        """Numbers uniform in [0, 1) with the shape, dtype and device of `like`, row by row."""
        # Rounded to few bits, the largest would become 1.
        return self._draw(torch.rand, like).clamp(max=1 - torch.finfo(like.dtype).eps / 2)

    def strata(self, like: Tensor) -> Tensor:
        """Uniform numbers too, each row's from the part of [0, 1) that its place gives it."""
        return (broadcast_like(self._places, like) + self.uniform(like)) / self._whole

    def _draw(self, draw: Callable[..., Tensor], like: Tensor) -> Tensor:
        if len(like) != len(self):
            raise ValueError(f"{len(self)} sample keys cannot serve a batch of {len(like)} rows")
        # bfloat16 and float16 draws differ between CPU versions: draw wide, then round.
        wide = torch.float64 if like.dtype == torch.float64 else torch.float32
        shape = like.shape[1:]
        rows = [draw(shape, generator=generator, dtype=wide) for generator in self._generators]
        stacked = torch.stack(rows) if rows else torch.empty((0, *shape), dtype=wide)
        return stacked.to(like.device, like.dtype, non_blocking=True)
