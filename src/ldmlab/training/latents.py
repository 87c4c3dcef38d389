"""The latents that stage two trains on: made of images, and checked against what made them."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ldmlab.autoencoding.codec import Codec, NormalizedCodec
from ldmlab.conditioning.conditioner import Conditioner
from ldmlab.core.errors import UserError
from ldmlab.core.image_size import ImageSize, height_and_width
from ldmlab.core.records import Batch
from ldmlab.data.images.dataset import image_dataset_of
from ldmlab.data.images.source import identity_of
from ldmlab.data.latents.dataset import LatentCache, read_manifest
from ldmlab.data.latents.format import Manifest
from ldmlab.data.latents.variants import Variants
from ldmlab.data.latents.writer import LatentWriter
from ldmlab.data.sampling.datasets import (
    BatchDataset,
    InMemory,
    check_memory,
    in_order,
    with_latents,
)
from ldmlab.data.sampling.loader import batch_loader

_HASHED_CAPTIONS = 4096  # all of them may be gigabytes
_ENCODED_PIXELS = 250 * 32 * 32


@dataclass(frozen=True)
class LatentMaker:
    """What makes latents of the images of a split.

    Attributes:
        images: The split.
        image_size: Side of its images in pixels, or height and width.
        codec: Images to latents, normalised.
        conditioner: What the frozen part of the condition is computed with, too.
    """

    images: BatchDataset
    image_size: ImageSize
    codec: Codec
    conditioner: Conditioner

    def manifest(
        self,
        preprocessing: Mapping[str, Any],
        dtype: str,
        shard_size: int,
        crops: int | None,
    ) -> Manifest:
        """The cache that the split has, or would have.

        Args:
            preprocessing: What decides the pixels, by configuration key.
            dtype: Type of the stored numbers, `fp16` or `bf16`.
            shard_size: Samples in a file.
            crops: Random crops kept of each image, where the data is cropped at random; None for
                a split that is seen without augmentation.
        """
        height, width = (side // self.codec.factor for side in height_and_width(self.image_size))
        pictures = image_dataset_of(self.images)
        variants = Variants()
        if pictures is not None and crops is not None:
            # A text of several is drawn with the view, as a crop is.
            still = pictures.transform.crop != "random" and not pictures.several_texts
            variants = Variants(0 if still else crops, pictures.transform.flip)
        codec = self.codec
        return Manifest(
            codec=codec.fingerprint(),
            normalization=codec.normalization if isinstance(codec, NormalizedCodec) else {},
            preprocessing=preprocessing,
            samples=list_hash(self.images),
            num_samples=len(self.images),
            latent_shape=(codec.latent_channels, height, width),
            variants=variants,
            dtype=dtype,
            shard_size=shard_size,
            text=self.conditioner.cache_key,
        )

    def open_cache(
        self, folder: Path, preprocessing: Mapping[str, Any], augmented: bool
    ) -> LatentCache:
        """The latents in a folder, if they are those of the split.

        Texts that are encoded in them have to be so by the conditioner's encoder; without any, it
        encodes them in training.

        Args:
            folder: What `ldmlab encode` wrote.
            preprocessing: What decides the pixels, by configuration key.
            augmented: Whether the split is seen with crops and mirror images.

        Raises:
            UserError: They are incomplete, or of another codec, another preprocessing or other
                data.
        """
        found = read_manifest(folder)
        crops = max(1, found.variants.crops) if augmented else None
        wanted = self.manifest(preprocessing, found.dtype, found.shard_size, crops)
        if not (found.text and wanted.text):
            wanted = replace(wanted, text=found.text)
        if difference := found.difference(wanted):
            raise UserError(
                f"data.latents: {folder} holds latents of {difference}: write others with `ldmlab "
                "encode` and this command's overrides, or go back to what these were made with"
            )
        return LatentCache(folder)

    def write_shards(
        self,
        writer: LatentWriter,
        shards: Sequence[int],
        batch_size: int,
        device: torch.device,
        num_workers: int,
        on_samples: Callable[[int], object],
    ) -> Iterator[int]:
        """Write shards of a cache.

        Args:
            writer: The cache.
            shards: Their numbers.
            batch_size: How many views are encoded at once.
            device: Where codec and conditioner are.
            num_workers: Processes that load images.
            on_samples: Called with the number of views of each batch that is encoded.

        Yields:
            How many of the shards are written.
        """
        loader: Any = batch_loader(
            self.images,
            (batch for shard in shards for batch in writer.batches(shard, batch_size)),
            num_workers,
            pin_memory=device.type == "cuda",
        )
        loaded = iter(loader)

        def encoded(count: int) -> Iterator[Batch]:
            for _ in range(count):
                batch = next(loaded).to(device, non_blocking=True)
                yield with_latents(self.conditioner.precompute(batch), self.codec.encode)
                on_samples(len(batch))

        for number, shard in enumerate(shards, 1):
            writer.write(shard, encoded(len(writer.batches(shard, batch_size))))
            yield number

    def held(self, device: torch.device) -> InMemory:
        """All latents of the split in memory, the codec on a device from now on.

        Raises:
            UserError: There is not enough memory, or the model is conditioned on the images.
        """
        self.codec.to(device)

        def encoded(batch: Batch) -> Batch:
            return with_latents(batch.to(device), self.codec.encode).to("cpu")

        first = encoded(self.images.__getitems__([0]))
        self.check_conditions(InMemory([first]), "set data.in_memory=false")
        check_memory(first, len(self.images), "latents")
        batches = in_order(self.images, encoded_at_once(self.image_size))
        return InMemory([encoded(batch) for batch in batches], self.images)

    def check_conditions(self, latents: BatchDataset, mend: str) -> None:
        """Refuse latents to a model that is conditioned on the images themselves.

        Args:
            latents: What training is to read.
            mend: How to train on the images.

        Raises:
            UserError: The latents have not what the conditioner needs, or the images neither.
        """
        try:
            self.conditioner.select(latents.__getitems__([0]))
        except UserError as error:
            self.conditioner.select(self.images.__getitems__([0]))
            raise UserError(
                f"the model is conditioned on its images, and latents stand in their place: {mend}"
            ) from error


def encoded_at_once(image_size: ImageSize) -> int:
    """How many images a codec takes at once: as many pixels as 250 images of 32 x 32."""
    return max(1, _ENCODED_PIXELS // math.prod(height_and_width(image_size)))


def normalize_like(codec: Codec, folder: Path) -> None:
    """Give the codec the normalisation of a cache, the same bits on every device.

    Raises:
        UserError: There is no cache, or its latents have another number of channels.
    """
    found = read_manifest(folder).normalization
    if not isinstance(codec, NormalizedCodec):
        return
    if len(found.get("shift", ())) != codec.latent_channels:
        raise UserError(
            f"{folder} holds latents of another codec, whose channels are not "
            f"{codec.latent_channels}: encode again into another folder"
        )
    codec.normalize_as(found["shift"], found["scale"])


def list_hash(dataset: BatchDataset) -> str:
    """Hash of which samples a data set has, in order, and of the first captions."""
    digest = hashlib.sha256(f"{len(dataset)}\n".encode())
    pictures = image_dataset_of(dataset)
    if pictures is not None:
        for line in identity_of(pictures.source, len(dataset)):
            digest.update(os.fsencode(line) + b"\n")
    for caption in dataset.captions(list(range(min(len(dataset), _HASHED_CAPTIONS)))) or ():
        digest.update(caption.encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()[:16]


def stored_form(data: BatchDataset, conditioner: Conditioner) -> dict[str, Any]:
    """What makes a training on cached latents another one than on images; empty for those."""
    if not isinstance(data, LatentCache):
        return {}
    manifest = data.manifest
    texts = bool(manifest.text and conditioner.cache_key)
    return {"dtype": manifest.dtype, "crops": manifest.variants.crops, "texts": texts}
