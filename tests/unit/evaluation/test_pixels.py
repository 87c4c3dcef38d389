"""Metrics that need no judge."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, uniform_filter
from torch import Tensor

from ldmlab.evaluation.metrics import ms_ssim, psnr, reconstruction_metrics, ssim


def _image(size: int, seed: int = 0) -> Tensor:
    """A slope from black to white with some grain on it."""
    generator = torch.Generator().manual_seed(seed)
    slope = torch.linspace(-0.8, 0.8, size)[None, None, None].expand(2, 3, size, size)
    return (slope + 0.2 * torch.randn(2, 3, size, size, generator=generator)).clamp(-1, 1)


def _worse(image: Tensor) -> Tensor:
    """Darker, with less contrast and grain of its own."""
    grain = torch.randn(image.shape, generator=torch.Generator().manual_seed(9))
    return 0.8 * image - 0.1 + 0.1 * grain


def test_psnr_is_that_of_the_clipped_image_for_each_image() -> None:
    original = _image(16)
    error = torch.tensor([0.1, 0.02])[:, None, None, None]
    noisy = torch.where(original > 0, original - error, original + error)
    # A peak of 2 over the error: 20 log10(20) and 20 log10(100).
    torch.testing.assert_close(psnr(noisy, original), torch.tensor([26.0206, 40.0]).double())
    # The mean of decibels, not the decibels of the mean error.
    assert reconstruction_metrics(noisy, original)["psnr"] == pytest.approx(33.0103)
    white = torch.ones(1, 3, 4, 4)
    assert float(psnr(5 * white, white)) == pytest.approx(126.02, abs=0.01)
    assert float(psnr(-5 * white, white)) == pytest.approx(0)


def _ssim(x: Tensor, y: Tensor, blur: Callable[..., np.ndarray]) -> np.ndarray:
    """Wang et al. 2004, equation 13, on intensities in [0, 1]."""
    a, b = (((image.double().numpy() + 1) / 2) for image in (x.clamp(-1, 1), y))
    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    both = blur(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    found = (2 * mean_a * mean_b + c1) * (2 * both + c2)
    found /= (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    return found


def test_ssim_equals_its_formula() -> None:
    large, small = _image(24), _image(8)
    # A window of 11 pixels, or of 5, where it lies inside.
    gauss = partial(gaussian_filter, sigma=(0, 0, 1.5, 1.5), truncate=3.4, mode="mirror")
    square = partial(uniform_filter, size=(1, 1, 5, 5), mode="mirror")
    for image, blur, rim in ((large, gauss, 5), (small, square, 2)):
        wanted = _ssim(_worse(image), image, blur)[..., rim:-rim, rim:-rim]
        found = ssim(_worse(image), image)
        torch.testing.assert_close(found, torch.from_numpy(wanted.mean((1, 2, 3))))
        assert float(found.max()) < 0.95
        mean = reconstruction_metrics(_worse(image), image)["ssim"]
        assert mean == pytest.approx(float(found.mean()))


def test_ssim_of_flat_images_is_that_of_their_brightness() -> None:
    # 3/4 against 1/4 of white: (2 ab + c1) / (a² + b² + c1).
    bright, dark = torch.full((1, 3, 16, 16), 0.5), torch.full((1, 3, 16, 16), -0.5)
    expected = (2 * 0.75 * 0.25 + 1e-4) / (0.75**2 + 0.25**2 + 1e-4)
    assert reconstruction_metrics(bright, dark)["ssim"] == pytest.approx(expected, abs=1e-6)


def test_reconstruction_of_itself_is_perfect() -> None:
    for size in (8, 16):
        original = _image(size)
        metrics = reconstruction_metrics(original, original)
        assert metrics["psnr"] == pytest.approx(126.02, abs=0.01)
        assert metrics["ssim"] == pytest.approx(1)
        beyond = torch.where(original.abs() == 1, 3 * original, original)
        assert beyond.abs().max() == 3
        assert reconstruction_metrics(beyond, original)["ssim"] == pytest.approx(1)


def test_ms_ssim_needs_a_window_at_the_coarsest_scale() -> None:
    image = _image(161)
    assert float(ms_ssim(image, image).min()) == pytest.approx(1)
    with pytest.raises(ValueError, match="161 pixels or more a side; got 160 x 160"):
        ms_ssim(image[..., :160, :160], image[..., :160, :160])


def test_ms_ssim_of_flat_images_is_that_of_their_brightness_at_the_coarsest_scale() -> None:
    bright, dark = torch.full((1, 3, 176, 176), 0.5), torch.full((1, 3, 176, 176), -0.5)
    brightness = (2 * 0.75 * 0.25 + 1e-4) / (0.75**2 + 0.25**2 + 1e-4)
    assert float(ms_ssim(bright, dark)) == pytest.approx(brightness**0.1333)


def test_narrow_images_have_a_window_as_wide_as_they_are() -> None:
    for side in (1, 2, 4):
        image = torch.rand(1, 1, side, side) * 2 - 1
        assert float(ssim(image, image)) == pytest.approx(1)


def test_reconstruction_of_nothing_or_of_no_numbers_is_refused() -> None:
    image = _image(16)
    spoilt = image.clone()
    spoilt[1, 0, 3, 3] = torch.nan
    with pytest.raises(ValueError, match="no images"):
        reconstruction_metrics(image[:0], image[:0])
    for pair in ((spoilt, image), (image, spoilt), (image / 0, image)):
        with pytest.raises(ValueError, match=r"image [01] cannot be judged: .* not finite"):
            reconstruction_metrics(*pair)
