"""Checks that a latent shard and a manifest hold what the format says, before any of it is used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


def check_tensors(
    tensors: Mapping[str, Tensor],
    samples: int,
    views: int,
    dtype: torch.dtype,
    latent_shape: Sequence[int],
) -> None:
    """Compare the tensors of a shard with what its manifest promises.

    Args:
        tensors: By name.
        samples: Number of samples in the shard.
        views: Number of views of each.
        dtype: Of latents and states.
        latent_shape: Channels, height and width.

    Raises:
        ValueError: A tensor is missing, or of another type or shape; None is any size.
    """
    rows = (samples, views)
    known: dict[str, tuple[torch.dtype, tuple[int | None, ...]]] = {
        "latent": (dtype, (*rows, None, *latent_shape)),
        "label": (torch.int64, (samples,)),
        "mask": (torch.uint8, (*rows, None, None)),
        "caption": (torch.uint8, (None,)),
        "caption_ends": (torch.int64, rows),
        "text": (dtype, (None, None)),
        "text_spans": (torch.int64, (*rows, 2)),
    }
    for name, (kind, shape) in known.items():
        if name not in tensors:
            continue
        found = tensors[name]
        sizes = tuple(found.shape)
        fits = len(sizes) == len(shape) and all(
            want in (None, got) for want, got in zip(shape, sizes, strict=True)
        )
        if found.dtype != kind or not fits:
            raise ValueError(f"its {name} is {found.dtype} of shape {sizes}")
    needed = {"latent"}
    needed |= {"caption_ends"} if "caption" in tensors else set()
    needed |= {"text_spans"} if "text" in tensors else set()
    if missing := sorted(needed - tensors.keys()):
        raise ValueError(f"it has no {missing[0]}")
    if tensors["latent"].shape[2] not in (1, 2):
        raise ValueError("its latent has neither a mean nor a mean and a deviation")


def check_manifest(plain: Mapping[str, Any]) -> None:
    """Check the values of a manifest that sizes and reading depend on.

    Args:
        plain: As JSON says them.

    Raises:
        ValueError: A value is of another kind, or out of its range.
    """
    shape, variants = plain["latent_shape"], plain["variants"]
    sizes = {"num_samples": plain["num_samples"], "shard_size": plain["shard_size"]}
    sizes |= {f"latent_shape[{k}]": size for k, size in enumerate(shape)}
    for name, size in sizes.items():
        if type(size) is not int or not 0 < size < 2**40:
            raise ValueError(f"{name}={size!r} is no size")
    crops = variants.get("crops", 0)
    if type(crops) is not int or not 0 <= crops < 2**20 or type(variants.get("flips")) is not bool:
        raise ValueError(f"variants={variants} are no views")
    if len(shape) != 3:
        raise ValueError(f"latent_shape={shape} is no shape")
    if plain["dtype"] not in ("fp16", "bf16"):
        raise ValueError(f"dtype={plain['dtype']!r} is no type of latents")
    tables = ("normalization", "preprocessing", "text", "error")
    kinds = dict.fromkeys(("codec", "samples"), str) | dict.fromkeys(tables, dict)
    for name, kind in kinds.items():
        if not isinstance(plain.get(name, kind()), kind):
            raise ValueError(f"{name} is a {type(plain[name]).__name__}")
