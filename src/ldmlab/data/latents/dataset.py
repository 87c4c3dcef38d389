"""Latents from disk as a data set: what the codec made of each image, with its conditions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor, nn
from torch.utils.data import Dataset

from ldmlab.core.errors import UserError
from ldmlab.core.records import Batch, LatentMoments, TextStates
from ldmlab.data.latents.format import DTYPES, DamagedShardError, Manifest, open_shard, shard_path

_AGAIN = "run the same `ldmlab encode` again, it makes what is missing"


class LatentCache(Dataset[Batch]):
    """A folder of latents, mapped into memory.

    Latents come in the precision in which they are stored; a model widens them where it computes.
    A `SeededIndex` sees the view that its seed chooses, a plain position the first.

    Args:
        folder: What `ldmlab encode` wrote for one split; see `latent_format`.

    Raises:
        UserError: There is no cache, or shards are missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = read_manifest(folder)
        self._dtype = DTYPES[self.manifest.dtype]
        shards = self._open()
        self._latents = [_as_rows(shard["latent"]) for shard in shards]
        self._latent_shape = shards[0]["latent"].shape[2:]
        self._masks = [_as_rows(shard["mask"]) for shard in shards if "mask" in shard]
        self._mask_shape = shards[0]["mask"].shape[2:] if self._masks else ()
        labels = [shard["label"] for shard in shards if "label" in shard]
        self._labels = torch.cat(labels) if labels else None
        self._captions = [_Captions(shard) for shard in shards if "caption" in shard]
        self._texts = [_Texts(shard) for shard in shards if "text" in shard]

    def _open(self) -> list[dict[str, Tensor]]:
        """The tensors of every shard."""
        shards, missing = [], []
        for number in range(self.manifest.num_shards):
            try:
                shards.append(open_shard(self.folder, self.manifest, number)[0])
            except FileNotFoundError:
                missing.append(shard_path(self.folder, number).name)
            except DamagedShardError as error:
                raise UserError(f"{error}: {_AGAIN}") from error
        parts = [", ".join(sorted(shard)) for shard in shards]
        if other := next((k for k, names in enumerate(parts) if names != parts[0]), None):
            path = shard_path(self.folder, other)
            raise UserError(f"{path} holds {parts[other]}, and the first {parts[0]}: {_AGAIN}")
        if missing:
            raise UserError(
                f"{len(missing)} of the {self.manifest.num_shards} files in {self.folder} are "
                f"missing, {missing[0]} first: {_AGAIN}"
            )
        return shards

    def __reduce__(self) -> tuple[Any, ...]:
        """Let other processes map the files themselves."""
        return LatentCache, (self.folder,)

    def __len__(self) -> int:
        return self.manifest.num_samples

    def __getitem__(self, index: int) -> Batch:
        """The sample at one position, as a batch of one."""
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """The samples at these positions.

        Raises:
            IndexError: A position is outside of the data set.
        """
        rows = self._rows(indices)
        latent = _gather(self._latents, rows, self._dtype).unflatten(1, self._latent_shape)
        mean = latent[:, 0]
        std = latent[:, 1] if latent.shape[1] == 2 else mean.new_zeros(len(mean), 1, 1, 1)
        mask = None
        if self._masks:
            labels = _gather(self._masks, rows, torch.uint8)
            mask = labels.unflatten(1, self._mask_shape).long()
        index = torch.tensor([int(i) for i in indices], dtype=torch.int64)
        return Batch(
            index=index,
            label=None if self._labels is None else self._labels[index],
            mask=mask,
            caption=tuple(self._captions[s][r] for s, r in rows) if self._captions else None,
            latent=LatentMoments(mean, std),
            text=_padded([self._texts[s][r] for s, r in rows]) if self._texts else None,
        )

    def captions(self, indices: Sequence[int]) -> tuple[str, ...] | None:
        """The texts at these positions."""
        if not self._captions:
            return None
        return tuple(self._captions[shard][row] for shard, row in self._rows(indices))

    def _rows(self, indices: Sequence[int]) -> list[tuple[int, int]]:
        """Shard of each visit, and row in it."""
        if len(indices) and not 0 <= min(indices) <= max(indices) < len(self):
            raise IndexError(f"positions {indices} leave a cache of {len(self)} samples")
        size, variants = self.manifest.shard_size, self.manifest.variants
        views = len(variants)
        if views == 1:
            return [divmod(index, size) for index in indices]
        return [
            (int(index) // size, int(index) % size * views + variants.choose(index))
            for index in indices
        ]


def read_manifest(folder: Path) -> Manifest:
    """What a cache holds.

    Raises:
        UserError: There is none in this folder.
    """
    manifest = Manifest.read(folder)
    if manifest is None:
        raise UserError(
            f"{folder} holds no latents (no manifest.json): give data.latents the folder that "
            "`ldmlab encode` names at its end"
        )
    return manifest


class _Captions:
    """The captions of a shard.

    Args:
        shard: Its tensors.
    """

    def __init__(self, shard: dict[str, Tensor]) -> None:
        self._blob = shard["caption"].numpy().data
        self._ends = shard["caption_ends"].flatten().numpy()

    def __getitem__(self, row: int) -> str:
        start = self._ends[row - 1] if row else 0
        text = bytes(self._blob[start : self._ends[row]])
        try:
            return text.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:  # of a damaged file: as any text in another encoding
            return text.decode("utf-8", "replace")


class _Texts:
    """The encoded texts of a shard.

    Args:
        shard: Its tensors.
    """

    def __init__(self, shard: dict[str, Tensor]) -> None:
        self._states = shard["text"]
        self._spans = shard["text_spans"].flatten(0, 1).tolist()

    def __getitem__(self, row: int) -> Tensor:
        start, end = self._spans[row]
        return self._states[start:end]


def _padded(texts: Sequence[Float[Tensor, "_ d"]]) -> TextStates:
    """The states of some texts, one copy from the mapping."""
    length = torch.tensor([len(text) for text in texts])
    return TextStates(nn.utils.rnn.pad_sequence(list(texts), batch_first=True), length)


def _as_rows(tensor: Shaped[Tensor, "n v ..."]) -> UInt8[np.ndarray, "_ bytes"]:
    """Bytes, with one row for each view of each sample."""
    return tensor.flatten(0, 1).flatten(1).view(torch.uint8).numpy()


def _gather(
    shards: Sequence[UInt8[np.ndarray, "_ bytes"]],
    rows: Sequence[tuple[int, int]],
    dtype: torch.dtype,
) -> Tensor:
    """Rows of many files, one copy from the mapping: `[len(rows), numbers a row]`."""
    # Joining buffers costs half of what NumPy's or torch's indexing costs a row.
    joined = bytearray().join([shards[shard][row] for shard, row in rows])
    return torch.frombuffer(joined, dtype=dtype).view(len(rows), -1)
