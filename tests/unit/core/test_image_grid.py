"""Grids of images."""

from __future__ import annotations

import torch

from ldmlab.core.image_grid import picture_grid


def test_image_grid_cuts_a_long_caption() -> None:
    images = torch.zeros(2, 3, 32, 32)
    short = picture_grid(images, ["a boat on the sea", ""])
    for text in ("x" * 100_000, "word " * 20_000):
        grid = picture_grid(images, [text, "a boat"])
        assert grid.width == short.width and grid.height < 160 + 160
