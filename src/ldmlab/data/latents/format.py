"""Latents on disk: a folder with a manifest and numbered safetensors files.

`manifest.json` says what was encoded, by what and how (see `Manifest`). The files
`00000.safetensors`, `00001.safetensors`, ... hold `shard_size` samples each, in order, and the last
the rest. Their tensors, for n samples with v views each (see `Variants`):

    latent        fp16 or bf16 [n, v, m, z, h, w]  normalised mean, and deviation where it is not 0
    label         int64 [n]
    mask          uint8 [n, v, H, W]               255 for unlabelled
    caption       uint8 [bytes]                    the texts' UTF-8, one after the other
    caption_ends  int64 [n, v]                     where each text ends in `caption`
    text          fp16 or bf16 [tokens, d]         a frozen encoder's states of the texts, joined
    text_spans    int64 [n, v, 2]                  where each text's states begin and end in `text`

A tensor is absent where there is no such thing. The file's metadata, `metadata`, is JSON: the
manifest's `digest`, and sums of the rounding error. By hand:
`safetensors.numpy.load_file("00000.safetensors")`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ldmlab.core.errors import UserError
from ldmlab.core.files import write_json
from ldmlab.data.latents.check import check_manifest, check_tensors
from ldmlab.data.latents.variants import Variants

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
_FORMAT = 2
_NAME = "manifest.json"
# What damaged JSON, and values of other kinds than they should be, end in.
_ODD = (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError)


@dataclass(frozen=True)
class Manifest:
    """What a cache of latents holds.

    Attributes:
        codec: Fingerprint of the codec, its normalisation included.
        normalization: The codec's `shift` and `scale`; empty where it has none.
        preprocessing: What decides the pixels, by configuration key.
        samples: Hash of the names of all samples in order, and of their first captions.
        num_samples: Number of samples.
        latent_shape: Channels, height and width of a latent.
        variants: Views kept of each sample.
        dtype: `fp16` or `bf16`.
        shard_size: Samples in a file; the last holds the rest.
        text: What decides the states of the texts, by configuration key; empty where there are
            none.
        error: Rounding error of `mean`, `std` and `text`: the `largest` absolute one, and the root
            mean square relative to that of the values; empty while shards are missing.
    """

    codec: str
    normalization: Mapping[str, list[float]]
    preprocessing: Mapping[str, Any]
    samples: str
    num_samples: int
    latent_shape: tuple[int, int, int]
    variants: Variants
    dtype: str
    shard_size: int
    text: Mapping[str, Any] = field(default_factory=dict)
    error: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def num_shards(self) -> int:
        """Number of files."""
        return -(-self.num_samples // self.shard_size)

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that name everything but the error."""
        text = json.dumps(asdict(replace(self, error={})), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def rows(self, shard: int) -> range:
        """The samples of a shard."""
        first = shard * self.shard_size
        return range(first, min(first + self.shard_size, self.num_samples))

    def difference(self, other: Manifest) -> str | None:
        """The first thing in which another manifest means other latents, in words."""
        # First what the user sets, which tells more than what follows from it.
        for mine, theirs in (self.preprocessing, other.preprocessing), (self.text, other.text):
            for key in sorted({*mine, *theirs}):
                if mine.get(key) != theirs.get(key):
                    return f"{key}={mine.get(key)}, not {theirs.get(key)}"
        for name, words in _WORDS.items():
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                return f"{words} {mine}, not {theirs}"
        return None

    def rounding(self) -> str:
        """Its rounding error in words."""
        parts = [
            f"{name} {error['relative']:.1e} of its size (at most {error['largest']:.1e})"
            for name, error in self.error.items()
            if error["largest"] > 0
        ]
        return f"{self.dtype} rounds {', '.join(parts)}" if parts else f"{self.dtype} is exact"

    def write(self, folder: Path) -> None:
        """Write the manifest into a folder, atomically."""
        write_json(folder / _NAME, {"format": _FORMAT, **asdict(self)})

    @classmethod
    def read(cls, folder: Path) -> Manifest | None:
        """The manifest of a folder; None where there is none.

        Raises:
            UserError: It is damaged, or of another version of this format.
        """
        path = folder / _NAME
        try:
            plain = json.loads(path.read_text(encoding="utf-8"))
            if (version := plain.pop("format")) != _FORMAT:
                raise UserError(f"{path} has format {version} and not {_FORMAT}: encode again")
            check_manifest(plain)
            plain["variants"] = Variants(**plain["variants"])
            plain["latent_shape"] = tuple(plain["latent_shape"])
            return cls(**plain)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except _ODD as error:
            raise UserError(
                f"{path} is damaged ({' '.join(str(error).split())}): encode into another folder"
            ) from error


_WORDS = {
    "codec": "the codec",
    "num_samples": "a number of samples of",
    "samples": "a list of samples",
    "latent_shape": "the shape",
    "variants": "the views",
    "dtype": "dtype",
    "shard_size": "shard_size",
}


class DamagedShardError(Exception):
    """A shard cannot be read, or belongs to another cache; the message says why."""


def shard_path(folder: Path, shard: int) -> Path:
    """The file of a shard."""
    return folder / f"{shard:05d}.safetensors"


def open_shard(
    folder: Path, manifest: Manifest, shard: int
) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    """The tensors of a shard, mapped into memory and not read yet, and its rounding error.

    Raises:
        FileNotFoundError: There is no such file.
        DamagedShardError: It is damaged, or not of this cache.
    """
    path = shard_path(folder, shard)
    try:
        with safe_open(path, "pt") as file:
            metadata = json.loads((file.metadata() or {}).get("metadata", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        digest, error_sums = metadata["digest"], metadata["error"]
        if digest == manifest.digest:
            dtype, views = DTYPES[manifest.dtype], len(manifest.variants)
            check_tensors(tensors, len(manifest.rows(shard)), views, dtype, manifest.latent_shape)
    except FileNotFoundError:
        raise
    except (SafetensorError, *_ODD) as error:
        raise DamagedShardError(f"{path} is damaged ({' '.join(str(error).split())})") from error
    if digest != manifest.digest:
        raise DamagedShardError(f"{path} belongs to another cache")
    return tensors, error_sums
