"""A picture of the first images of training, as the model will see them."""

from __future__ import annotations

import torch
from PIL.Image import Image

from ldmlab.core.image_grid import picture_grid
from ldmlab.core.records import UNLABELLED, Batch
from ldmlab.data.sampling.datasets import BatchDataset
from ldmlab.data.sampling.step_batches import StepBatches


def preview(data: BatchDataset, count: int, seed: int) -> Image:
    """The first images of a training side by side, masks beside them and texts below.

    Args:
        data: Training data.
        count: How many images.
        seed: Of the training.
    """
    batch: Batch = data.__getitems__(next(iter(StepBatches(len(data), count, seed))))
    assert batch.image is not None
    images = batch.image[:, : 3 if batch.image.shape[1] >= 3 else 1].expand(-1, 3, -1, -1)
    if batch.mask is not None:
        generator = torch.Generator().manual_seed(0)
        colours = torch.rand(256, 3, generator=generator) * 2 - 1
        colours[UNLABELLED] = -1
        images = torch.cat([images, colours[batch.mask].movedim(-1, 1)], -1)
    words = batch.caption
    classes = getattr(data, "classes", ())
    if words is None and batch.label is not None:
        words = tuple(classes[label] for label in batch.label.tolist())
    return picture_grid(images, words)
