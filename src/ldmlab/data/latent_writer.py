"""Writes latents: shard by shard, each whole or absent, so that a killed writer can go on."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import save
from torch import Tensor

from ldmlab.core.errors import UserError
from ldmlab.core.files import atomic_write, sweep_partial
from ldmlab.core.records import Batch
from ldmlab.data.latent_format import (
    DTYPES,
    DamagedShardError,
    Manifest,
    open_shard,
    shard_path,
)


@dataclass
class Rounding:
    """What storing numbers with few bits did to them.

    Attributes:
        squared_error: Sum of squared differences.
        squared_value: Sum of squared values.
        largest: Largest absolute difference.
    """

    squared_error: float = 0.0
    squared_value: float = 0.0
    largest: float = 0.0

    def add(self, exact: Float[Tensor, "..."], stored: Float[Tensor, "..."]) -> None:
        """Count numbers and what became of them."""
        exact = exact.double()
        error = stored.double() - exact
        self.squared_error += float(error.square().sum())
        self.squared_value += float(exact.square().sum())
        self.largest = max(self.largest, float(error.abs().max()))

    @staticmethod
    def summary(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
        """The error of many shards together."""
        shards = [Rounding(**part) for part in parts]
        error = sum(shard.squared_error for shard in shards)
        value = sum(shard.squared_value for shard in shards)
        return {
            "largest": max(shard.largest for shard in shards),
            "relative": math.sqrt(error / value) if value else 0.0,
        }


@dataclass
class ShardContent:
    """What goes into a shard, rounded as it comes.

    Attributes:
        dtype: Of the latents.
        latents: Mean and deviation of each batch.
        rest: Conditions of each batch.
        errors: Rounding errors of mean and deviation.
    """

    dtype: torch.dtype
    latents: list[Float[Tensor, "b 2 z h w"]] = field(default_factory=list)
    rest: list[Batch] = field(default_factory=list)
    errors: dict[str, Rounding] = field(
        default_factory=lambda: {"mean": Rounding(), "std": Rounding()}
    )

    def add(self, batch: Batch) -> None:
        """Take the latents and conditions of the next views.

        Raises:
            UserError: A latent is no number, or too large for the type.
        """
        assert batch.latent is not None
        exact = torch.stack([batch.latent.mean, batch.latent.std], 1).cpu()
        stored = exact.to(self.dtype)
        bad = ~stored.isfinite().flatten(1).all(1)
        if bool(bad.any()):
            row = int(bad.nonzero()[0, 0])
            if bool(exact[row].isfinite().all()):
                raise UserError(
                    f"latents of sample {int(batch.index[row])} reach "
                    f"{float(exact[row].abs().max()):.3g}, which fp16 cannot hold: set dtype=bf16"
                )
            raise UserError(
                f"the codec's latents of sample {int(batch.index[row])} are not finite: look at "
                "this image, and at stage one"
            )
        for k, rounding in enumerate(self.errors.values()):
            rounding.add(exact[:, k], stored[:, k])
        self.latents.append(stored)
        self.rest.append(replace(batch, latent=None, image=None))

    def tensors(self, views: int) -> dict[str, Tensor]:
        """The shard's tensors.

        Args:
            views: How many views of each sample there are.

        Raises:
            UserError: A mask's label does not fit into a byte.
        """
        latent = torch.cat(self.latents)
        if not latent[:, 1].any():
            latent = latent[:, :1]
        tensors = {"latent": latent.unflatten(0, (-1, views)).contiguous()}
        labels = [batch.label for batch in self.rest if batch.label is not None]
        masks = [batch.mask for batch in self.rest if batch.mask is not None]
        texts = [text for batch in self.rest for text in batch.caption or ()]
        if labels:
            tensors["label"] = torch.cat(labels)[::views].contiguous()
        if masks:
            mask = torch.cat(masks)
            if int(mask.min()) < 0 or int(mask.max()) > 255:
                raise UserError("mask labels above 255 cannot be cached: train on the images")
            tensors["mask"] = mask.to(torch.uint8).unflatten(0, (-1, views))
        if texts:
            # A caption from JSON may hold half a surrogate pair, which plain UTF-8 refuses.
            encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
            blob = b"".join(encoded) or b"\0"
            ends = torch.tensor([len(text) for text in encoded]).cumsum(0)
            tensors["caption"] = torch.frombuffer(bytearray(blob), dtype=torch.uint8)
            tensors["caption_ends"] = ends.unflatten(0, (-1, views))
        return tensors


class LatentWriter:
    """One folder of latents, being written, perhaps by several processes.

    Args:
        folder: Where to write; it exists.
        manifest: What is written.

    Raises:
        UserError: The folder holds other latents.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        found = Manifest.read(folder)
        if found is not None and (difference := found.difference(manifest)):
            raise UserError(
                f"{folder} holds latents of {difference}: name another folder with out=<folder>"
            )
        self.folder = folder
        self.manifest = manifest if found is None else found
        if found is None:
            self.manifest.write(folder)
        sweep_partial(folder)

    def missing(self) -> list[int]:
        """The shards that are not there, or cannot be read."""
        return [shard for shard in range(self.manifest.num_shards) if not self._holds(shard)]

    def _holds(self, shard: int) -> bool:
        try:
            open_shard(self.folder, self.manifest, shard)
        except (FileNotFoundError, DamagedShardError):
            return False
        return True

    def batches(self, shard: int, batch_size: int) -> list[list[int]]:
        """The visits that a shard is made of, at most `batch_size` of them at once."""
        variants = self.manifest.variants
        visits = [visit for row in self.manifest.rows(shard) for visit in variants.visits(row)]
        return [visits[i : i + batch_size] for i in range(0, len(visits), batch_size)]

    def write(self, shard: int, batches: Iterable[Batch]) -> None:
        """Write a shard.

        Args:
            shard: Its number.
            batches: The answers to its `batches`, with latents in the place of images.

        Raises:
            UserError: A latent cannot be stored, or there is no room for the file.
        """
        content = ShardContent(DTYPES[self.manifest.dtype])
        for batch in batches:
            content.add(batch)
        errors = {name: asdict(rounding) for name, rounding in content.errors.items()}
        facts = {"digest": self.manifest.digest, "error": errors}
        # One entry: safetensors writes several in an order that differs from process to process.
        data = save(content.tensors(len(self.manifest.variants)), {"facts": json.dumps(facts)})
        with atomic_write(shard_path(self.folder, shard)) as file:
            file.write(data)

    def finish(self) -> Manifest | None:
        """State the rounding error in the manifest; None while shards are missing."""
        if self.missing():
            return None
        errors = [
            open_shard(self.folder, self.manifest, shard)[1]
            for shard in range(self.manifest.num_shards)
        ]
        summary = {name: Rounding.summary(e[name] for e in errors) for name in ("mean", "std")}
        self.manifest = replace(self.manifest, error=summary)
        self.manifest.write(self.folder)
        return self.manifest
