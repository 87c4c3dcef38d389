"""Conditioning on a segmentation mask."""

from __future__ import annotations

import torch
from jaxtyping import Integer
from torch import Tensor, nn

from ldmlab.conditioning.conditioner import Conditioner, require
from ldmlab.core.errors import UserError
from ldmlab.core.ranges import positive_int
from ldmlab.core.records import UNLABELLED, Batch, Conditioning, DataSpec


class MaskConditioner(Conditioner):
    """One-hot labels, averaged to the latents' size and mapped to a few channels by 1x1.

    The maps are concatenated to the network's input (Rombach et al. 2022, section 4.3.2). A
    label outside the table (255 by convention) is unlabelled and gives zeros.

    Args:
        num_labels: Number of labels.
        factor: How much smaller the latents are than the mask, a side.
        map_channels: Channels of the maps; None hands on the share of each label as it is.
        bias: Let the 1x1 convolution add a constant.
    """

    input_key = "mask"

    def __init__(
        self, num_labels: int, factor: int, map_channels: int | None = 3, bias: bool = False
    ) -> None:
        super().__init__()
        positive_int(num_labels=num_labels, factor=factor)
        positive_int.or_none(map_channels=map_channels)
        self.num_labels = num_labels
        self.factor = factor
        self.map_channels = map_channels or num_labels
        self.proj = (
            nn.Conv2d(num_labels, map_channels, 1, bias=bias) if map_channels else nn.Identity()
        )

    @classmethod
    def for_data(
        cls, spec: DataSpec, factor: int, map_channels: int | None = 3, bias: bool = False
    ) -> MaskConditioner:
        """The conditioner for a data set and a codec's down-sampling factor.

        Raises:
            UserError: The data has no masks.
        """
        labels = require(spec.num_mask_labels, "segmentation mask", "mask")
        return cls(labels, factor, map_channels, bias)

    def select(self, batch: Batch) -> Integer[Tensor, "b h w"]:
        """The mask of each sample.

        Raises:
            UserError: There are no masks, or a label is neither in the table nor 255.
        """
        mask = require(batch.mask, "segmentation mask", "mask")
        wrong = ((mask < 0) | (mask >= self.num_labels)) & (mask != UNLABELLED)
        if bool(wrong.any()):
            raise UserError(
                f"mask label {int(mask[wrong][0])} is not one of the model's {self.num_labels}; "
                f"use 0 to {self.num_labels - 1}, or {UNLABELLED} for unlabelled"
            )
        return mask

    def null(self, condition: Integer[Tensor, "b h w"]) -> Integer[Tensor, "b h w"]:
        """A mask without labels."""
        return torch.full_like(condition, UNLABELLED)

    def forward(self, condition: Integer[Tensor, "b h w"]) -> Conditioning:
        """Maps in the latents' size."""
        dtype = next((p.dtype for p in self.parameters()), torch.float32)
        side = self.factor
        # Area averaging keeps the share of each label that nearest neighbours would lose. Counting
        # does it without the picture of one-hot labels, gigabytes a batch for a table of 182.
        cells = condition.unfold(1, side, side).unfold(2, side, side).flatten(3).long()
        labelled = cells != UNLABELLED
        counts = torch.zeros(
            *cells.shape[:3],
            self.num_labels,
            dtype=torch.promote_types(dtype, torch.float32),
            device=cells.device,
        )
        counts.scatter_add_(3, cells.where(labelled, 0), labelled.to(counts.dtype))
        return Conditioning(maps=self.proj((counts / side**2).to(dtype).movedim(-1, 1)))
