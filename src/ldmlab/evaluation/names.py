"""The metrics that users can ask for, by name; nothing heavy is imported for a list of words."""

from __future__ import annotations

OWN = "judge"
"""The run's own evaluation, of the group `evaluation`."""

OF_SETS = (
    "fid", "sfid", "kid", "inception_score", "precision_recall", "density_coverage",
    "memorisation", "fd_dinov2", "kd_dinov2", "cmmd", "fd_judge", "kd_judge",
    "precision_recall_judge", "memorisation_judge",
)  # fmt: skip
OF_RECONSTRUCTIONS = ("rfid", "rfd_dinov2", "rfd_judge")
OF_PAIRS = ("psnr", "ssim", "ms_ssim", "lpips")
CLASS_ACCURACY = "class_accuracy"
BITS_PER_DIM = "bits_per_dim"
METRICS = (OWN, *OF_SETS, *OF_RECONSTRUCTIONS, *OF_PAIRS, CLASS_ACCURACY, BITS_PER_DIM)
