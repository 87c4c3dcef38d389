"""What is kept of a set of images behind a network: moments in float64, and some of its rows.

A set falls into parts of equal size; each is a file, so that a killed start goes on where it was,
and several processes share the parts. The parts are joined in their order: any number of processes
gives the same bits as one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file, save
from torch import Tensor

from ldmlab.core.errors import UserError
from ldmlab.core.files import atomic_write, make_folder
from ldmlab.core.ranges import positive_int
from ldmlab.evaluation.features.network import FeatureNetwork
from ldmlab.evaluation.images.dataset import digest_of
from ldmlab.evaluation.images.image_set import ImageSet

PART = 512  # images in a file
_PATIENCE = 3600.0
_NAP = 0.1
_LABELS = "labels"
_VERSION = 1
Moments = tuple[int, Tensor, Tensor]
"""Count, mean, and scatter: the covariance times the count less one."""


@dataclass(frozen=True)
class Rows:
    """One output of a network for a whole set.

    Attributes:
        count: Images in the set.
        mean: Of all rows.
        cov: Of all rows, over the count less one.
        kept: Rows in the order of the set, at equal distances where not all are kept.
    """

    count: int
    mean: Float[Tensor, " d"]
    cov: Float[Tensor, "d d"]
    kept: Float[Tensor, "k d"]


@dataclass(frozen=True)
class Statistics:
    """A set behind a network.

    Attributes:
        outputs: By the network's names.
        labels: Class number of each kept row, where the set has any.
    """

    outputs: dict[str, Rows]
    labels: Int[Tensor, " k"] | None


def statistics(
    images: ImageSet,
    networks: Sequence[FeatureNetwork],
    cache: Path,
    *,
    keep: int | None = None,
    batch_size: int = 64,
    rank: int = 0,
    world: int = 1,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Statistics]:
    """Statistics of a set behind each network, from the cache where it has them.

    Args:
        images: The set.
        networks: The networks, each with another name.
        cache: Folder of all that was measured.
        keep: Rows to keep at most; None keeps all.
        batch_size: Images in a network at once.
        rank: Number of this process, which takes each `world`-th part.
        world: How many processes there are.
        on_progress: Called with the images seen and those to see.

    Returns:
        By the networks' names.

    Raises:
        UserError: The cache cannot be written, or another process has died.
    """
    positive_int(batch_size=batch_size)
    folders = {net.name: _folder(cache, images, net, keep, batch_size) for net in networks}
    for folder in folders.values():
        make_folder(folder, lambda reason: f"{cache} cannot be written ({reason}): set cache=")
    parts = [range(i, min(i + PART, len(images))) for i in range(0, len(images), PART)]
    wanted = {net: _missing(folders[net.name], len(parts)) for net in networks}
    mine = sorted({k for missing in wanted.values() for k in missing if k % world == rank})
    total, done = sum(len(parts[k]) for k in mine), 0
    for number in mine:
        behind = [net for net, missing in wanted.items() if number in missing]
        _measure(images, parts[number], behind, number, folders, batch_size)
        done += len(parts[number])
        on_progress(done, total)
    return {name: _join(folder, parts, keep, rank) for name, folder in folders.items()}


def _folder(
    cache: Path, images: ImageSet, network: FeatureNetwork, keep: int | None, batch_size: int
) -> Path:
    identity = {
        "version": _VERSION,
        "images": images.fingerprint(),
        "count": len(images),
        "network": [network.name, network.fingerprint, network.preprocessing],
        "keep": keep,
        # Another batch may round other bits.
        "batch_size": batch_size,
    }
    return cache / f"{network.name}-{digest_of(identity)}"


def _part(folder: Path, number: int) -> Path:
    return folder / f"part-{number:05d}.safetensors"


def _whole(folder: Path) -> Path:
    return folder / "statistics.safetensors"


def _missing(folder: Path, parts: int) -> set[int]:
    if _whole(folder).is_file():
        return set()
    return {k for k in range(parts) if not _part(folder, k).is_file()}


def _measure(
    images: ImageSet,
    rows: range,
    networks: Sequence[FeatureNetwork],
    number: int,
    folders: Mapping[str, Path],
    batch_size: int,
) -> None:
    """One part behind the networks that lack it; its images are read once."""
    found: dict[str, dict[str, list[Tensor]]] = {net.name: {} for net in networks}
    for start in range(rows.start, rows.stop, batch_size):
        pictures = images.read(range(start, min(start + batch_size, rows.stop)))
        for net in networks:
            outputs = dict(net(pictures.images))
            if pictures.labels is not None:
                outputs[_LABELS] = pictures.labels
            for name, values in outputs.items():
                found[net.name].setdefault(name, []).append(values)
    for net in networks:
        tensors = {name: torch.cat(values) for name, values in found[net.name].items()}
        for name, values in tensors.items():
            if len(values) != len(rows) or not bool(torch.isfinite(values).all()):
                raise UserError(f"{net.name} gives {name} that are not finite for {images.name}")
        with atomic_write(_part(folders[net.name], number)) as file:
            file.write(save(tensors))


def _join(folder: Path, parts: Sequence[range], keep: int | None, rank: int) -> Statistics:
    """The whole of all parts, which the first process writes and then needs no more."""
    whole = _whole(folder)
    if not whole.is_file():
        wait_for(lambda: whole.is_file() or not _missing(folder, len(parts)), folder)
    if not whole.is_file() and rank == 0:
        tensors = _joined(folder, parts, keep)
        with atomic_write(whole) as file:
            file.write(save(tensors, {"count": json.dumps(parts[-1].stop)}))
    wait_for(whole.is_file, folder)
    if rank == 0:
        for number in range(len(parts)):
            _part(folder, number).unlink(missing_ok=True)
    return _read(whole, parts[-1].stop)


def _joined(folder: Path, parts: Sequence[range], keep: int | None) -> dict[str, Tensor]:
    total = parts[-1].stop
    count = total if keep is None else min(keep, total)
    chosen = [i * total // count for i in range(count)]
    sums: dict[str, Moments] = {}
    kept: dict[str, list[Tensor]] = {}
    for number, rows in enumerate(parts):
        places = [i - rows.start for i in chosen if i in rows]
        for name, values in load_file(_part(folder, number)).items():
            kept.setdefault(name, []).append(values[places])
            if name != _LABELS:
                sums[name] = joined(sums.get(name), moments_of(values.double()))
    tensors = {f"{name}.kept": torch.cat(values) for name, values in kept.items()}
    for name, (_, mean, scatter) in sums.items():
        tensors[f"{name}.mean"] = mean
        tensors[f"{name}.cov"] = scatter / max(1, total - 1)
    return tensors


def moments_of(rows: Float[Tensor, "n d"]) -> Moments:
    """Count, mean and scatter of rows."""
    mean = rows.mean(0)
    return len(rows), mean, (rows - mean).T @ (rows - mean)


def joined(a: Moments | None, b: Moments) -> Moments:
    """Those of two sets of rows together (Chan et al. 1979)."""
    if a is None:
        return b
    count = a[0] + b[0]
    shift = b[1] - a[1]
    scatter = a[2] + b[2] + torch.outer(shift, shift) * (a[0] * b[0] / count)
    return count, a[1] + shift * (b[0] / count), scatter


def _read(path: Path, count: int) -> Statistics:
    tensors = load_file(path)
    names = [key.removesuffix(".mean") for key in tensors if key.endswith(".mean")]
    outputs = {
        name: Rows(count, *(tensors[f"{name}.{part}"] for part in ("mean", "cov", "kept")))
        for name in names
    }
    return Statistics(outputs, tensors.get(f"{_LABELS}.kept"))


def wait_for(ready: Callable[[], bool], folder: Path) -> None:
    """Wait until other processes have written what they are to write.

    Args:
        ready: Whether they have.
        folder: Where they write.

    Raises:
        UserError: Nothing new has come to the folder in an hour.
    """
    last, seen = time.monotonic(), -1
    while not ready():
        files = sum(1 for _ in folder.iterdir()) if folder.is_dir() else 0
        if files != seen:
            last, seen = time.monotonic(), files
        if time.monotonic() - last > _PATIENCE:
            raise UserError(
                f"nothing new came to {folder} in an hour: another process has died; start again"
            )
        time.sleep(_NAP)
