"""Metrics of single images and label maps against what they should be."""

from ldmlab.evaluation.metrics.label_maps import segmentation
from ldmlab.evaluation.metrics.lpips import lpips_distance
from ldmlab.evaluation.metrics.pixels import (
    check_judgeable,
    ms_ssim,
    psnr,
    reconstruction_metrics,
    ssim,
)

__all__ = [
    "check_judgeable",
    "lpips_distance",
    "ms_ssim",
    "psnr",
    "reconstruction_metrics",
    "segmentation",
    "ssim",
]
