"""Conditioning on a class."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor, nn

from ldmlab.conditioning.conditioner import Conditioner, require
from ldmlab.core.errors import UserError
from ldmlab.core.ranges import positive_int
from ldmlab.core.records import Batch, Conditioning, DataSpec


class ClassConditioner(Conditioner):
    """One learned token a class, the last of the table meaning no class (Rombach et al. 2022).

    Args:
        num_classes: Number of classes, the null class not counted.
        dim: Width of the token.
        pooled: Give the embedding as a vector for the time embedding too.
        null_class: Whether the table has a row for no class; a model without one cannot be
            guided.
    """

    input_key = "label"

    def __init__(
        self, num_classes: int, dim: int = 512, pooled: bool = False, null_class: bool = True
    ) -> None:
        super().__init__()
        positive_int(num_classes=num_classes, dim=dim)
        self.num_classes = num_classes
        self.token_dim = dim
        self.vector_dim = dim if pooled else None
        self.null_class = null_class
        self.embedding = nn.Embedding(num_classes + null_class, dim)

    @classmethod
    def for_data(
        cls,
        spec: DataSpec,
        factor: int,
        dim: int = 512,
        pooled: bool = False,
        null_class: bool = True,
    ) -> ClassConditioner:
        """The conditioner for a data set; the codec's factor does not matter.

        Raises:
            UserError: The data has no classes.
        """
        return cls(require(spec.num_classes, "class label", "class"), dim, pooled, null_class)

    def select(self, batch: Batch) -> Int[Tensor, " b"]:
        """The label of each sample.

        Raises:
            UserError: There are no labels, or one is out of range.
        """
        label = require(batch.label, "class label", "class")
        # The null class is no answer to a question for a class: it would be drawn without one.
        wrong = (label < 0) | (label >= self.num_classes)
        if bool(wrong.any()):
            raise UserError(
                f"class {int(label[wrong][0])} is not one of the model's {self.num_classes}; "
                f"give a label from 0 to {self.num_classes - 1}"
            )
        return label

    def null(self, condition: Int[Tensor, " b"]) -> Int[Tensor, " b"]:
        """The null class.

        Raises:
            UserError: The table has none.
        """
        if not self.null_class:
            raise UserError(
                "this model's table of classes has no null class: "
                "use guidance=none and condition_dropout=0"
            )
        return torch.full_like(condition, self.num_classes)

    def forward(self, condition: Int[Tensor, " b"]) -> Conditioning:
        """A sequence of one token."""
        token = self.embedding(condition)
        return Conditioning(tokens=token[:, None], vector=token if self.vector_dim else None)
