"""Samples are written in the channels and values of their data, and read back as such."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ldmlab.core.image_grid import to_pil
from ldmlab.core.picture_file import picture_of, write_picture
from ldmlab.core.pixel_values import PixelValues
from ldmlab.core.records import DataSpec
from ldmlab.data.images.pixels import Pixels

FORMS: list[tuple[int, dict[str, Any], str]] = [
    (1, {"bits": 16}, ".png"),
    (3, {}, ".png"),
    (3, {"value_range": ((10.0, 200.0),)}, ".png"),
    (2, {"bits": 16}, ".tiff"),
    (3, {"bits": 16, "value_range": ((0.0, 4095.0),)}, ".tiff"),
    (4, {}, ".tiff"),
    (1, {"bits": "float", "value_range": ((-160.0, 240.0),)}, ".tiff"),
    (5, {"bits": "float", "value_range": tuple((float(k), k + 2.0) for k in range(5))}, ".tiff"),
]


@pytest.mark.parametrize(("channels", "values", "suffix"), FORMS)
def test_written_image_is_read_back_within_a_level(
    channels: int, values: dict[str, Any], suffix: str, tmp_path: Path
) -> None:
    spec = DataSpec((4, 6), channels, **values)
    image = torch.rand(channels, 4, 6, generator=torch.Generator().manual_seed(0)) * 2 - 1
    path = write_picture(image, spec, tmp_path / "00000")
    assert path == tmp_path / f"00000{suffix}" and [*tmp_path.iterdir()] == [path]
    pixels = Pixels.of(spec)
    found = pixels.decode(path.read_bytes())
    if not found.is_floating_point():
        found = found / 127.5 - 1
    spans = [high - low for low, high in spec.values.value_range or [(0, spec.values.largest)]]
    level = 2 / min(spans) if spec.bits != "float" else 1e-6
    assert found.shape == image.shape
    assert float((found - image).abs().max()) <= level / 2 + 1e-6


def test_usual_pictures_are_what_they_were() -> None:
    grey = torch.zeros(1, 2, 3)
    assert picture_of(grey, PixelValues()).tobytes() == to_pil(grey).tobytes()  # type: ignore[union-attr]
    assert picture_of(torch.zeros(2, 2, 3), PixelValues()) is None


def test_pictures_show_the_first_channels_of_many() -> None:
    planes = torch.tensor([-1.0, 1.0, -1.0, 1.0])[:, None, None]
    assert to_pil(planes).getpixel((0, 0)) == (0, 255, 0)
    assert to_pil(planes[1:3]).getpixel((0, 0)) == (255, 255, 255)
