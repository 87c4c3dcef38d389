"""Grids of images."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from ldmlab.core.image_grid import picture_grid, save_picture, to_pil


def test_image_grid_cuts_a_long_caption() -> None:
    images = torch.zeros(2, 3, 32, 32)
    short = picture_grid(images, ["a boat on the sea", ""])
    for text in ("x" * 100_000, "word " * 20_000):
        grid = picture_grid(images, [text, "a boat"])
        assert grid.width == short.width and grid.height < 160 + 160


def test_picture_has_the_colours_and_the_orientation_of_its_image() -> None:
    """Two pixels above one another: red, and a dark green."""
    image = torch.full((3, 2, 1), -1.0)
    image[0, 0] = 1
    image[1, 1] = 0
    picture = to_pil(image)
    assert picture.size == (1, 2)
    assert picture.getpixel((0, 0)) == (255, 0, 0)
    assert picture.getpixel((0, 1)) == (0, 128, 0)
    assert to_pil(torch.zeros(1, 1, 1)).getpixel((0, 0)) == (128, 128, 128)


def test_image_grid_fills_rows_from_the_left() -> None:
    shades = torch.tensor([-1.0, -0.5, 0.0, 0.5, 0.8]).reshape(5, 1, 1, 1)
    grid = picture_grid(shades.expand(5, 3, 20, 10), columns=3, tile=25)
    # Enlarged three times to 30 x 60, eight apart, from eight.
    assert grid.size == (3 * 38 + 8, 2 * (60 + 8) + 8)
    for k, shade in enumerate((0, 64, 128, 191, 230)):
        left, top = 8 + k % 3 * 38, 8 + k // 3 * 68
        for place in ((left, top), (left + 29, top + 59)):
            assert grid.getpixel(place) == (shade,) * 3
        assert grid.getpixel((left - 1, top)) == (255, 255, 255)
    assert grid.getpixel((8 + 2 * 38, 8 + 68)) == (255, 255, 255)


def test_saved_picture_is_a_png_of_the_same_pixels(tmp_path: Path) -> None:
    picture = to_pil(torch.rand(3, 4, 5) * 2 - 1)
    save_picture(picture, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as read:
        assert read.format == "PNG" and read.tobytes() == picture.tobytes()


def test_image_grid_enlarges_pixels_to_squares() -> None:
    image = torch.tensor([[[[-1.0, 1.0]]]]).expand(1, 3, 1, 2)
    grid = picture_grid(image, columns=1, tile=8)
    row = [grid.getpixel((8 + x, 8)) for x in range(8)]
    assert row == [(0, 0, 0)] * 4 + [(255, 255, 255)] * 4
