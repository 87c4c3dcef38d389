"""LAION, or any img2dataset download: tar shards of images with their captions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Unpack

from ldmlab.data.images.transform import Crop, FlipCaptions, Transform
from ldmlab.data.shards.dataset import Shards
from ldmlab.data.shards.filters import Filters, Tag
from ldmlab.training.datamodules.images import image_splits
from ldmlab.training.datamodules.named import Loading, NamedDataModule


class LaionDataModule(NamedDataModule):
    """Images with captions in tar shards, streamed from a folder or an address.

    Args:
        root: Folder of the shards, a pattern such as `/data/{00000..00099}.tar`, or an address.
        image_size: Pixels a side; height and width for other frames.
        vocabulary: vocab.txt, tokenizer folder or Hugging Face name; None for the captions' own.
        vocabulary_size: Tokens of the captions; 30,522 are BERT's, as published.
        crop: Of the training images: `center` or `random`.
        flip: Mirror half of the training images.
        flip_captions: Captions that say left or right: `keep` (no flip) or `swap`.
        min_side: Least pixels of the original's shorter side; None for any, as below.
        max_aspect: Most times that the original's longer side is the shorter one.
        min_similarity: Least similarity of image and caption.
        nsfw: Tags to keep, such as `["UNLIKELY"]`.
        min_caption: Least length of the caption, in characters.
        max_caption: Most.
        validation_share: Of the samples; whole shards, as far as it goes.
        window: Samples that are shuffled among each other.
        cache: Folder of the shards' index and of fetched shards; None for a temporary one.
        cache_gib: What fetched shards may take, in gibibytes.
        max_bad: Broken images to replace, and broken shards, before training stops.
        **loading: As of `NamedDataModule`.
    """

    def __init__(
        self,
        root: str,
        image_size: int | Sequence[int] = 256,
        vocabulary: str | None = None,
        vocabulary_size: int | None = 30_522,
        crop: Crop = "center",
        flip: bool = False,
        flip_captions: FlipCaptions = "keep",
        min_side: int | None = None,
        max_aspect: float | None = None,
        min_similarity: float | None = None,
        nsfw: Sequence[Tag] | None = None,
        min_caption: int | None = None,
        max_caption: int | None = None,
        validation_share: float = 0.001,
        window: int = 65_536,
        cache: str | None = None,
        cache_gib: float = 100.0,
        max_bad: int = 10_000,
        **loading: Unpack[Loading],
    ) -> None:
        source = partial(
            Shards,
            root=root,
            validation_share=validation_share,
            filters=Filters(min_side, max_aspect, min_similarity, nsfw, min_caption, max_caption),
            window=window,
            cache=cache,
            cache_gib=cache_gib,
            max_bad=max_bad,
        )
        transform = partial(Transform, image_size, flip_captions=flip_captions)
        super().__init__(
            *image_splits(source, transform, crop, flip, max_bad),
            image_size,
            vocabulary=vocabulary,
            vocabulary_size=vocabulary_size,
            **loading,
        )
