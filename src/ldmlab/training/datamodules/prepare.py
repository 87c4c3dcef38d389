"""Prepares a data set's two splits for training: limits, memory, and the facts models need."""

from __future__ import annotations

from dataclasses import replace

from ldmlab.conditioning.vocabulary import BERT_TOKENS
from ldmlab.conditioning.vocabulary_files import read_vocabulary
from ldmlab.conditioning.vocabulary_making import build_vocabulary
from ldmlab.core.errors import UserError
from ldmlab.core.records import DataSpec
from ldmlab.data.images.dataset import ImageDataset
from ldmlab.data.images.percentile import settle_values
from ldmlab.data.sampling.datasets import (
    BatchDataset,
    InMemory,
    StridedSubset,
    Subset,
    check_memory,
    in_order,
)
from ldmlab.data.sampling.step_batches import blocks_of

VOCABULARY_CAPTIONS = 4096
RENDER_BATCH = 500


def prepare(
    train: BatchDataset,
    validation: BatchDataset,
    spec: DataSpec,
    *,
    limit: int | None = None,
    validation_limit: int | None = None,
    in_memory: bool = False,
    vocabulary: str | None = None,
    vocabulary_size: int | None = None,
) -> tuple[BatchDataset, BatchDataset, DataSpec]:
    """Training data, validation data and what a model must know of them.

    Args:
        train: The training split.
        validation: The validation split.
        spec: What is known without looking at the data.
        limit: Keep the first so many training images; None for all.
        validation_limit: Validation images to look at, spread over all; None for all.
        in_memory: Hold every training image in memory.
        vocabulary: vocab.txt, tokenizer folder or Hugging Face name; None makes the vocabulary
            from the first captions.
        vocabulary_size: Largest number of tokens; None for 30,522.

    Raises:
        UserError: The images have other channels, classes or texts than was said, or the data does
            not fit into memory where it should.
    """
    source = train
    pixels = settle_values(train, validation, limit)
    if pixels is not None:
        spec = replace(spec, bits=pixels.bits, value_range=pixels.values.value_range)
    found = getattr(source, "channels", spec.image_channels)
    if found != spec.image_channels:
        raise UserError(
            f"data.channels={spec.image_channels}, and this data set gives images of {found}: set "
            f"data.channels={found}"
        )
    classes = len(getattr(source, "classes", ())) or None
    if spec.num_classes not in (None, classes):
        raise UserError(
            f"data.num_classes={spec.num_classes}, and this data set has {classes or 'no'} "
            f"classes: set data.num_classes={classes or 'null'}"
        )
    if validation_limit is not None:
        # StridedSubset over shards it would read, or fetch, every one of them.
        some = StridedSubset if blocks_of(validation) is None else Subset
        validation = some(validation, validation_limit)
    if limit is not None:
        train = Subset(train, limit)
    spec = replace(
        spec,
        num_classes=classes,
        vocabulary=_vocabulary(train, vocabulary, vocabulary_size),
    )
    if in_memory:
        if isinstance(source, ImageDataset) and source.varies:
            raise UserError(
                "data.in_memory=true keeps one view of each image, and the data has random ones: "
                "set data.flip=false (and data.crop=center, and one caption an image), or "
                "data.in_memory=false"
            )
        check_memory(train.__getitems__([0]), len(train), "images")
        train = InMemory(list(in_order(train, RENDER_BATCH)), train)
    return train, validation, spec


def _vocabulary(
    train: BatchDataset, vocabulary: str | None, size: int | None
) -> tuple[str, ...] | None:
    """The tokens of the captions: the user's, or made from the first captions."""
    captions = train.captions(list(range(min(len(train), VOCABULARY_CAPTIONS))))
    if captions is None:
        given = {"vocabulary": vocabulary, "vocabulary_size": size}
        key = next((key for key, value in given.items() if value is not None), None)
        if key is not None:
            raise UserError(
                f"data.{key}={given[key]}, and this data set has no captions: set data.{key}=null, "
                "or name its data.captions"
            )
        return None
    if vocabulary is None:
        return tuple(build_vocabulary(captions, size or BERT_TOKENS))
    tokens = read_vocabulary(vocabulary)
    if size is not None and len(tokens) != size:
        raise UserError(
            f"data.vocabulary={vocabulary} has {len(tokens):,} tokens, and data.vocabulary_size="
            f"{size} are asked for: set data.vocabulary_size={len(tokens)}"
        )
    return tokens
