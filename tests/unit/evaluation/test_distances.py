"""Metrics that need no judge."""

from __future__ import annotations

import pytest
import torch

from ldmlab.evaluation.distances import psnr, reconstruction_metrics


def test_psnr_uses_the_clipped_image_and_stays_finite() -> None:
    original = torch.rand(2, 3, 16, 16) * 2 - 1
    error = torch.tensor([0.1, 0.02])[:, None, None, None]
    noisy = torch.where(original > 0, original - error, original + error)
    expected = 20 * torch.log10(2 / error.flatten())
    torch.testing.assert_close(psnr(noisy, original), expected, atol=1e-3, rtol=0)
    white = torch.ones(1, 3, 4, 4)
    assert float(psnr(5 * white, white)) == pytest.approx(126.02, abs=0.01)
    metrics = reconstruction_metrics(original, original)
    assert metrics["psnr"] == pytest.approx(126.02, abs=0.01)
    assert metrics["ssim"] == pytest.approx(1)
