"""Writes latents: shard by shard, each whole or absent, so that a killed writer can go on."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

from safetensors.torch import save

from ldmlab.core.errors import UserError
from ldmlab.core.files import atomic_write, sweep_partial, write_text
from ldmlab.core.records import Batch
from ldmlab.data.latents.format import (
    DTYPES,
    DamagedShardError,
    Manifest,
    open_shard,
    shard_path,
)
from ldmlab.data.latents.shard import ROUNDED, Rounding, ShardContent


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

    def missing_bytes(self) -> int:
        """Least size of what is missing: that of the latents' means."""
        manifest = self.manifest
        samples = sum(len(manifest.rows(shard)) for shard in self.missing())
        return 2 * math.prod(manifest.latent_shape) * len(manifest.variants) * samples

    def note_broken(self, names: Iterable[str]) -> Path:
        """Add to the list of broken files that were replaced; gives the list's file."""
        path = self.folder / "broken_files.txt"
        known = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        write_text(path, "".join(f"{name}\n" for name in dict.fromkeys([*known, *names])))
        return path

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
        metadata = {"digest": self.manifest.digest, "error": errors}
        # One entry: safetensors writes several in an order that differs from process to process.
        data = save(
            content.tensors(len(self.manifest.variants)), {"metadata": json.dumps(metadata)}
        )
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
        summary = {name: Rounding.summary(e[name] for e in errors) for name in ROUNDED}
        self.manifest = replace(self.manifest, error=summary)
        self.manifest.write(self.folder)
        return self.manifest
