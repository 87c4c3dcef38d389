"""The conditioner of an unconditional model."""

from __future__ import annotations

from jaxtyping import Int
from torch import Tensor

from ldmlab.conditioning.conditioner import Conditioner
from ldmlab.core.records import Batch, Conditioning, DataSpec


class Unconditional(Conditioner):
    """The model learns the distribution of all images."""

    input_key = None

    @classmethod
    def for_data(cls, spec: DataSpec, factor: int) -> Unconditional:
        """The conditioner for a data set and a codec's down-sampling factor."""
        return cls()

    def select(self, batch: Batch) -> Int[Tensor, " b"]:
        """The index of each sample: something with the right length."""
        return batch.index

    def null(self, condition: Int[Tensor, " b"]) -> Int[Tensor, " b"]:
        """The same."""
        return condition

    def forward(self, condition: Int[Tensor, " b"]) -> Conditioning:
        """Every slot empty."""
        return Conditioning()
