"""The metrics of images against their originals, by the names that users ask for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ldmlab.core.errors import UserError
from ldmlab.core.tensors import to_unit_range
from ldmlab.evaluation.images.folder import FolderImages
from ldmlab.evaluation.images.image_set import ImageSet
from ldmlab.evaluation.intervals import of_mean
from ldmlab.evaluation.metrics import ms_ssim, psnr, ssim
from ldmlab.evaluation.protocol import Metric, OnProgress

PairMetric = Callable[[Float[Tensor, "b 3 h w"], Float[Tensor, "b 3 h w"]], Float[Tensor, " b"]]
PAIR_METRICS = ("psnr", "ssim", "ms_ssim", "lpips")
_SAID = {
    "psnr": "dB, mean over images",
    "ssim": "Gaussian of 11 x 11 on [0, 1], no borders; mean over channels and images",
    "ms_ssim": "five scales, a product a channel; mean over images",
    "lpips": "VGG, version 0.1; mean over images",
}


def pair_metric(name: str) -> PairMetric:
    """The function of a name.

    Raises:
        UserError: LPIPS' trunk cannot be had.
    """
    if name != "lpips":
        return {"psnr": psnr, "ssim": ssim, "ms_ssim": ms_ssim}[name]
    from ldmlab.autoencoding.lpips import LPIPS

    try:
        network = LPIPS("vgg")
    except UserError as error:
        place = f"{torch.hub.get_dir()}/checkpoints"
        raise UserError(
            f"metrics=[lpips] needs torchvision's vgg16-397923af.pth, and downloading it failed: "
            f"put that file into {place}, or leave lpips out"
        ) from error

    def distance(image: Tensor, original: Tensor) -> Tensor:
        with torch.no_grad():
            return network(image, original).flatten().double()

    return distance


def compare_pairs(
    names: Sequence[str],
    images: ImageSet,
    originals: ImageSet,
    on_progress: OnProgress,
    batch_size: int = 64,
) -> dict[str, Metric]:
    """Means over pairs of the same position, with their intervals.

    Args:
        names: Of `PAIR_METRICS`.
        images: What is judged.
        originals: What they should be.
        on_progress: Called with the pairs seen and those to see.
        batch_size: Pairs at once.

    Raises:
        UserError: The sets do not go together, or an image is too small for a metric.
    """
    _check_pairs(names, images, originals)
    measures = {name: pair_metric(name) for name in names}
    values: dict[str, list[float]] = {name: [] for name in names}
    for start in range(0, len(images), batch_size):
        rows = range(start, min(start + batch_size, len(images)))
        for row, a, b in zip(rows, images.read(rows).images, originals.read(rows).images,
                             strict=True):  # fmt: skip
            if a.shape != b.shape:
                raise UserError(
                    f"metrics=[{','.join(names)}] compare equal sizes; pair {row} has "
                    f"{a.shape[2]} x {a.shape[1]} and {b.shape[2]} x {b.shape[1]} pixels"
                )
            for name, measure in measures.items():
                try:
                    found = measure(to_unit_range(a[None]), to_unit_range(b[None]))
                except ValueError as error:
                    raise UserError(f"metrics=[{name}]: {error}") from error
                values[name].append(float(found))
        on_progress(rows.stop, len(images))
    return {
        name: {
            "value": sum(found) / len(found),
            "interval": of_mean(found),
            "interval_by": "normal, 95 %, over images",
            "samples": len(found),
            "preprocessing": "bytes",
            "pairs": "of the same position",
            "method": _SAID[name],
        }
        for name, found in values.items()
    }


def _check_pairs(names: Sequence[str], images: ImageSet, originals: ImageSet) -> None:
    asked = ",".join(names)
    if len(images) != len(originals):
        raise UserError(
            f"metrics=[{asked}] compare pairs, and {images.name} has {len(images)} images, "
            f"{originals.name} {len(originals)}"
        )
    if isinstance(images, FolderImages) and isinstance(originals, FolderImages):
        stems = [[f.rpartition(".")[0] for f in each.files] for each in (images, originals)]
        odd = next((a for a, b in zip(*stems, strict=True) if a != b), None)
        if odd is not None:
            raise UserError(
                f"metrics=[{asked}] compare pairs of the same name, and {originals.name} has no "
                f"{odd}: give both folders the same names"
            )
