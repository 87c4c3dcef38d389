"""Agreement of label maps: mean intersection over union, and the share of right pixels."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from ldmlab.core.ranges import positive_int


def segmentation(
    predicted: Int[Tensor, "b h w"],
    truth: Int[Tensor, "b h w"],
    labels: int,
    ignore: int | None = None,
) -> tuple[float, float]:
    """Mean intersection over union and pixel accuracy, pooled over all images.

    Args:
        predicted: Labels from 0 to `labels` - 1.
        truth: The same, and `ignore`.
        labels: How many there are; those that are neither asked nor seen do not count.
        ignore: A value of `truth` whose pixels count nowhere.

    Returns:
        Both in [0, 1].

    Raises:
        ValueError: A map holds other values, or no pixel counts.
    """
    counts = confusion(predicted, truth, labels, ignore).double()
    if not counts.sum():
        raise ValueError("no pixel of the truth has a label")
    union = counts.sum(0) + counts.sum(1) - counts.diag()
    overlap = (counts.diag() / union.clamp_min(1))[union > 0]
    return float(overlap.mean()), float(counts.diag().sum() / counts.sum())


def confusion(
    predicted: Int[Tensor, "b h w"],
    truth: Int[Tensor, "b h w"],
    labels: int,
    ignore: int | None = None,
) -> Int[Tensor, "labels labels"]:
    """How often each true label, a row, was seen as each label, a column; see `segmentation`."""
    positive_int(labels=labels)
    predicted, truth = predicted.long().flatten(), truth.long().flatten()
    if ignore is not None:
        counted = truth != ignore
        predicted, truth = predicted[counted], truth[counted]
    for name, values in (("predicted", predicted), ("truth", truth)):
        if len(values) and not (int(values.min()) >= 0 and int(values.max()) < labels):
            raise ValueError(
                f"{name} holds labels from {int(values.min())} to {int(values.max())}; "
                f"{labels} labels go from 0 to {labels - 1}"
            )
    table = torch.bincount(truth * labels + predicted, minlength=labels**2)
    return table.reshape(labels, labels)
