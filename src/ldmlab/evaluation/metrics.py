"""Metrics that need no judge: how well a codec gives its images back."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from ldmlab.autoencoding.codec import Codec


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


@torch.no_grad()
def reconstruction_metrics(
    codec: Codec, images: Iterable[Float[Tensor, "b c h w"]]
) -> dict[str, float]:
    """Peak signal-to-noise ratio (dB) and structural similarity of a codec's reconstructions.

    Both are means over images, on pixels in [-1, 1], reconstructions clipped to that range.

    Args:
        codec: The codec.
        images: Batches of unseen images.

    Raises:
        ValueError: There are no images.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure as ssim

    ratio, similarity = [], []
    for image in images:
        mirrored = codec.reconstruct(image).clamp(-1, 1)
        ratio.append(psnr(mirrored, image))
        kernel = 11 if min(image.shape[-2:]) >= 11 else 5
        value = ssim(
            mirrored,
            image,
            kernel_size=kernel,
            data_range=(-1.0, 1.0),
            reduction="none",
            gaussian_kernel=kernel == 11,
        )
        assert isinstance(value, Tensor)
        similarity.append(value.flatten())
    if not ratio:
        raise ValueError("no images to reconstruct")
    return {
        "psnr": float(torch.cat(ratio).mean()),
        "ssim": float(torch.cat(similarity).mean()),
    }
