"""Reconstruction metrics of a codec: PSNR and SSIM."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ldmlab.core.tensors import first_not_finite


def check_judgeable(images: Float[Tensor, "b c h w"]) -> None:
    """Refuse images that a metric would make a number of, and a wrong one.

    Raises:
        ValueError: There is none, or one holds numbers that are not finite.
    """
    if not len(images):
        raise ValueError("no images are there to be judged")
    row = first_not_finite(images)
    if row is not None:
        raise ValueError(f"image {row} cannot be judged: it holds numbers that are not finite")


def psnr(
    image: Float[Tensor, "b c h w"], original: Float[Tensor, "b c h w"]
) -> Float[Tensor, " b"]:
    """Peak signal-to-noise ratio of each image, in dB; 126 at most, for equal images.

    Args:
        image: Pixels, clipped to [-1, 1] here.
        original: Pixels in [-1, 1].
    """
    error = (image.clamp(-1, 1) - original).square().flatten(1).mean(1)
    return -10 * torch.log10(error.clamp(min=1e-12) / 4)


def reconstruction_metrics(
    mirrored: Float[Tensor, "b c h w"], images: Float[Tensor, "b c h w"]
) -> dict[str, float]:
    """Peak signal-to-noise ratio (dB) and structural similarity, means over images.

    Args:
        mirrored: A codec's reconstructions, pixels, clipped to [-1, 1] here.
        images: What it was given.

    Raises:
        ValueError: There is no image, or one is not finite.
    """
    check_judgeable(mirrored)
    check_judgeable(images)
    from torchmetrics.functional.image import structural_similarity_index_measure as ssim

    kernel = 11 if min(images.shape[-2:]) >= 11 else 5
    # SSIM compares means too, and is defined for intensities from 0 on; its variances are
    # differences of squares, of which float32 leaves little.
    similarity = ssim(
        (mirrored.double().clamp(-1, 1) + 1) / 2,
        (images.double() + 1) / 2,
        kernel_size=kernel,
        data_range=1.0,
        gaussian_kernel=kernel == 11,
    )
    assert isinstance(similarity, Tensor)
    return {"psnr": float(psnr(mirrored, images).mean()), "ssim": float(similarity)}
