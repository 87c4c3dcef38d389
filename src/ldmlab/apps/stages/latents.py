"""The latents that the diffusion stage trains on, and the check that they fit."""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ldmlab.apps.config.run_id import identifying
from ldmlab.apps.stages.session import Session
from ldmlab.autoencoding.codec import Codec, NormalizedCodec
from ldmlab.conditioning.conditioner import Conditioner
from ldmlab.core.errors import UserError
from ldmlab.core.nested import leaves
from ldmlab.data.images.dataset import image_dataset_of
from ldmlab.data.images.source import identity_of
from ldmlab.data.latents.dataset import LatentCache, read_manifest
from ldmlab.data.latents.format import Manifest
from ldmlab.data.latents.variants import Variants
from ldmlab.data.sampling.datasets import BatchDataset

SPLITS = ("train", "validation")
_HASHED_CAPTIONS = 4096  # all of them may be gigabytes


def manifest_of(
    session: Session,
    codec: Codec,
    conditioner: Conditioner,
    split: str,
    dtype: str,
    shard_size: int,
    crops: int,
) -> Manifest:
    """The cache that an experiment's split has, or would have.

    Args:
        session: The experiment.
        codec: Its codec, normalised.
        conditioner: Its conditioner, whose frozen part is encoded, too.
        split: `train` or `validation`.
        dtype: Type of the stored numbers, `fp16` or `bf16`.
        shard_size: Samples in a file.
        crops: Random crops kept of each image, where the data is cropped at random.
    """
    dataset = dataset_of(session, split)
    side = session.spec.image_size // codec.factor
    pictures = image_dataset_of(dataset)
    view = None if pictures is None or split != "train" else pictures.transform
    variants = Variants()
    if view is not None:
        variants = Variants(crops if view.crop == "random" else 0, view.flip)
    return Manifest(
        codec=codec.fingerprint(),
        normalization=codec.normalization if isinstance(codec, NormalizedCodec) else {},
        preprocessing=preprocessing(session.cfg, split),
        samples=list_hash(dataset),
        num_samples=len(dataset),
        latent_shape=(codec.latent_channels, side, side),
        variants=variants,
        dtype=dtype,
        shard_size=shard_size,
        text=conditioner.cache_key,
    )


def open_latents(
    session: Session, codec: Codec, conditioner: Conditioner
) -> tuple[LatentCache, LatentCache]:
    """The training and validation latents that `data.latents` names.

    Texts that are encoded in them have to be so by the conditioner's encoder; without any, it
    encodes them in training.

    Raises:
        UserError: They are incomplete, or of another codec, another preprocessing or other data.
    """
    train, validation = (_open(session, codec, conditioner, split) for split in SPLITS)
    return train, validation


def check_conditions(
    latents: BatchDataset, images: BatchDataset, conditioner: Conditioner, mend: str
) -> None:
    """Refuse latents to a model that is conditioned on the images themselves.

    Args:
        latents: What training is to read.
        images: What they were made of.
        conditioner: What has to find its condition.
        mend: How to train on the images.

    Raises:
        UserError: The latents have not what the conditioner needs, or the images neither.
    """
    try:
        conditioner.select(latents.__getitems__([0]))
    except UserError as error:
        conditioner.select(images.__getitems__([0]))
        raise UserError(
            f"the model is conditioned on its images, and latents stand in their place: {mend}"
        ) from error


def _open(session: Session, codec: Codec, conditioner: Conditioner, split: str) -> LatentCache:
    folder = Path(session.cfg.data.latents) / split
    found = read_manifest(folder)
    stored = found.dtype, found.shard_size, max(1, found.variants.crops)
    wanted = manifest_of(session, codec, conditioner, split, *stored)
    if not (found.text and wanted.text):
        wanted = replace(wanted, text=found.text)
    if difference := found.difference(wanted):
        raise UserError(
            f"data.latents: {folder} holds latents of {difference}: write others with `ldmlab "
            "encode` and this command's overrides, or go back to what these were made with"
        )
    return LatentCache(folder)


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


def dataset_of(session: Session, split: str) -> BatchDataset:
    """The images of a split."""
    return session.train if split == "train" else session.validation


def preprocessing(cfg: DictConfig, split: str) -> dict[str, Any]:
    """What decides the pixels of a split, by dotted key, whatever folder it lies in."""
    data = {split: OmegaConf.to_container(cfg.data[split], resolve=True)}
    if split == "train":
        data["limit"] = cfg.data.limit
    tree = {"data": data, "codec": {"num_images": cfg.codec.num_images}}
    return dict(leaves(identifying(tree)))


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


def error_line(manifest: Manifest) -> str:
    """The rounding error of a cache in words."""
    parts = [
        f"{name} {error['relative']:.1e} of its size (at most {error['largest']:.1e})"
        for name, error in asdict(manifest)["error"].items()
        if error["largest"] > 0
    ]
    return f"{manifest.dtype} rounds {', '.join(parts)}" if parts else f"{manifest.dtype} is exact"
