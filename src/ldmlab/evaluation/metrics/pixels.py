"""Fidelity of an image to its original, pixel by pixel and window by window."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d

from ldmlab.core.tensors import first_not_finite

_WINDOW = 11
_SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
MS_SSIM_SIDE = (_WINDOW - 1) * 2 ** (len(_SCALES) - 1) + 1
"""The shorter side that the window needs at the coarsest of five scales, in pixels."""

Images = Float[Tensor, "b c h w"]


def check_judgeable(images: Images) -> None:
    """Refuse images that a metric would make a number of, and a wrong one.

    Raises:
        ValueError: There is none, or one holds numbers that are not finite.
    """
    if not len(images):
        raise ValueError("no images are there to be judged")
    row = first_not_finite(images)
    if row is not None:
        raise ValueError(f"image {row} cannot be judged: it holds numbers that are not finite")


def psnr(image: Images, original: Images) -> Float[Tensor, " b"]:
    """Peak signal-to-noise ratio of each image, in dB; 126 at most, for equal images.

    Args:
        image: Pixels, clipped to [-1, 1] here.
        original: Pixels in [-1, 1].
    """
    error = (image.double().clamp(-1, 1) - original.double()).square().flatten(1).mean(1)
    return -10 * torch.log10(error.clamp(min=1e-12) / 4)


def ssim(image: Images, original: Images) -> Float[Tensor, " b"]:
    """Structural similarity of each image (Wang et al. 2004, equation 13), at most 1.

    Of intensities in [0, 1], under a Gaussian of 11 x 11 pixels and deviation 1.5; a mean over
    channels and the windows that lie inside. Images that are narrower than that get a flat window
    of 5 pixels, or as many as they have.

    Args:
        image: Pixels, clipped to [-1, 1] here.
        original: Pixels in [-1, 1].
    """
    similarity, _ = _similarities(_intensity(image), _intensity(original))
    return similarity.mean(1)


def ms_ssim(image: Images, original: Images) -> Float[Tensor, " b"]:
    """Structural similarity over five scales (Wang et al. 2003, equation 7), at most 1.

    Each channel has its own product over the scales, of contrasts and structures cut at 0.

    Args:
        image: Pixels, clipped to [-1, 1] here.
        original: Pixels in [-1, 1].

    Raises:
        ValueError: A side is below 161 pixels, where the coarsest scale holds no window.
    """
    if min(image.shape[-2:]) < MS_SSIM_SIDE:
        raise ValueError(
            f"MS-SSIM needs images of {MS_SSIM_SIDE} pixels or more a side; "
            f"got {image.shape[-1]} x {image.shape[-2]}"
        )
    a, b = _intensity(image), _intensity(original)
    product = torch.ones(a.shape[:2], dtype=a.dtype, device=a.device)
    for scale, weight in enumerate(_SCALES):
        similarity, contrast = _similarities(a, b)
        last = scale == len(_SCALES) - 1
        product = product * (similarity if last else contrast).clamp(min=0) ** weight
        a, b = avg_pool2d(a, 2), avg_pool2d(b, 2)
    return product.mean(1)


def reconstruction_metrics(mirrored: Images, images: Images) -> dict[str, float]:
    """PSNR (dB) and SSIM, means over images.

    Args:
        mirrored: A codec's reconstructions, pixels, clipped to [-1, 1] here.
        images: What it was given.

    Raises:
        ValueError: There is no image, or one is not finite.
    """
    check_judgeable(mirrored)
    check_judgeable(images)
    return {
        "psnr": float(psnr(mirrored, images).mean()),
        "ssim": float(ssim(mirrored, images).mean()),
    }


def _intensity(image: Images) -> Images:
    # SSIM compares means too, and is defined for intensities from 0 on; its variances are
    # differences of squares, of which float32 leaves little.
    return (image.double().clamp(-1, 1) + 1) / 2


def _similarities(a: Images, b: Images) -> tuple[Float[Tensor, "b c"], Float[Tensor, "b c"]]:
    """Similarity, and its part without the means, of each channel."""
    window = _window(min(a.shape[-2:])).to(a.device)
    mean_a, mean_b = _blur(a, window), _blur(b, window)
    var_a, var_b = _blur(a * a, window) - mean_a**2, _blur(b * b, window) - mean_b**2
    both = _blur(a * b, window) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    contrast = (2 * both + c2) / (var_a + var_b + c2)
    brightness = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return (brightness * contrast).mean((2, 3)), contrast.mean((2, 3))


def _window(side: int) -> Float[Tensor, " k"]:
    if side >= _WINDOW:
        steps = torch.arange(_WINDOW, dtype=torch.float64) - _WINDOW // 2
        window = torch.exp(-(steps**2) / (2 * 1.5**2))
    else:
        window = torch.ones(min(5, side - 1 + side % 2), dtype=torch.float64)
    return window / window.sum()


def _blur(image: Images, window: Float[Tensor, " k"]) -> Float[Tensor, "b c h2 w2"]:
    """Weighted means over the windows that lie inside."""
    channels = image.shape[1]
    kernel = window.expand(channels, 1, 1, -1)
    rows = conv2d(image, kernel, groups=channels)
    return conv2d(rows, kernel.transpose(2, 3), groups=channels)
