"""The interface of every conditioner, and condition dropout in its one place."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor, nn

from ldmlab.core.errors import UserError
from ldmlab.core.records import Batch, Conditioning

T = TypeVar("T")


class Conditioner(nn.Module, ABC):
    """Turns what a batch says about its images into what the network is conditioned on.

    Attributes:
        token_dim: Width of the tokens it gives; None for none.
        map_channels: Channels of the maps it gives.
        vector_dim: Width of the vector it gives; None for none.
    """

    token_dim: int | None = None
    map_channels: int = 0
    vector_dim: int | None = None

    @property
    @abstractmethod
    def input_key(self) -> str | None:
        """The field of a batch that is its condition; None for no condition."""

    @abstractmethod
    def select(self, batch: Batch) -> Shaped[Tensor, " b *shape"]:
        """The condition of each sample as a tensor of numbers.

        Raises:
            UserError: The batch does not hold this kind of condition, or not a valid one.
        """

    @abstractmethod
    def null(self, condition: Shaped[Tensor, " b *shape"]) -> Shaped[Tensor, " b *shape"]:
        """The null condition, in the shape of `condition`."""

    @abstractmethod
    def forward(self, condition: Shaped[Tensor, " b *shape"]) -> Conditioning:
        """Embed conditions."""

    @property
    def cache_key(self) -> dict[str, Any]:
        """What decides the outcome of `precompute`, by configuration key; nothing if it is none."""
        return {}

    def precompute(self, batch: Batch) -> Batch:
        """The batch with all of its condition computed that training never changes."""
        return batch

    def drop(
        self, condition: Shaped[Tensor, " b *shape"], dropped: Bool[Tensor, " b"]
    ) -> Shaped[Tensor, " b *shape"]:
        """Replace the condition of some samples by the null condition."""
        mask = dropped.reshape(-1, *[1] * (condition.ndim - 1))
        return torch.where(mask, self.null(condition), condition)


def require(value: T | None, what: str, conditioner: str) -> T:
    """The value, or a line that says what the data lacks.

    Raises:
        UserError: The value is missing.
    """
    if value is None:
        article = "an" if what[0] in "aeiou" else "a"
        raise UserError(
            f"conditioner={conditioner} needs {article} {what} for each sample and this data has "
            "none; choose other data or conditioner=none"
        )
    return value
