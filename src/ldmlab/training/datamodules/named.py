"""Arguments and attributes shared by the named LightningDataModules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from ldmlab.core.image_size import plain_size
from ldmlab.core.records import DataSpec
from ldmlab.data.sampling.datasets import BatchDataset
from ldmlab.training.datamodules.base import BatchDataModule
from ldmlab.training.datamodules.prepare import prepare


class Loading(TypedDict, total=False):
    """Arguments that every data set takes; `NamedDataModule` says what they mean."""

    batch_size: int
    limit: int | None
    validation_limit: int | None
    in_memory: bool
    num_workers: int
    seed: int


class NamedDataModule(BatchDataModule):
    """A data set with both of its splits, for any `lightning.Trainer`.

    A trainer over several devices takes `use_distributed_sampler=False`: the batches are divided
    here already. Training data has no end, so a trainer takes `check_val_every_n_epoch=None` and
    a `val_check_interval` in steps.

    Attributes:
        spec: What a model must know of the data.

    Args:
        train: The training split.
        validation: The validation split.
        image_size: Pixels a side; height and width for other frames.
        channels: Channels of the images.
        num_mask_labels: Number of segmentation labels; None where there are no masks.
        vocabulary: vocab.txt, tokenizer folder or Hugging Face name; None makes the vocabulary
            from the captions, where there are any.
        vocabulary_size: Tokens of the captions at most; None for 30,522.
        batch_size: Images a step, over all devices.
        limit: Keep the first so many training images; None for all.
        validation_limit: Validation images to look at, spread over all; None for all.
        in_memory: Hold every training image in memory.
        num_workers: Loading processes, on each device.
        seed: Seed of the order, and of crops and mirrors.

    Raises:
        UserError: The data is not there, or not as the arguments say.
    """

    spec: DataSpec

    def __init__(
        self,
        train: BatchDataset,
        validation: BatchDataset,
        image_size: int | Sequence[int],
        *,
        channels: int = 3,
        num_mask_labels: int | None = None,
        vocabulary: str | None = None,
        vocabulary_size: int | None = None,
        batch_size: int = 32,
        limit: int | None = None,
        validation_limit: int | None = 5000,
        in_memory: bool = False,
        num_workers: int = 4,
        seed: int = 0,
    ) -> None:
        train, validation, self.spec = prepare(
            train,
            validation,
            DataSpec(plain_size(image_size), channels, num_mask_labels=num_mask_labels),
            limit=limit,
            validation_limit=validation_limit,
            in_memory=in_memory,
            vocabulary=vocabulary,
            vocabulary_size=vocabulary_size,
        )
        super().__init__(train, validation, batch_size, seed, num_workers)
