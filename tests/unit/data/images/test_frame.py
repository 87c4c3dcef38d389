"""Images come into frames of any proportions, masks alike."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from ldmlab.core.errors import UserError
from ldmlab.data.images.decode import LabelMap
from ldmlab.data.images.frame import Box, Frame
from ldmlab.data.images.source import Sample
from ldmlab.data.images.transform import Transform


def png(pixels: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, format="PNG")
    return data.getvalue()


def quarters(height: int, width: int) -> Sample:
    """Red grows downwards, green to the right; the mask has one label in each quarter."""
    rows, columns = np.mgrid[:height, :width]
    colours = np.stack([rows * 255 // height, columns * 255 // width, 0 * rows], -1)
    labels = 2 * (rows >= height // 2) + (columns >= width // 2)
    mask = LabelMap(png(labels.astype(np.uint8)), 4)
    return Sample(png(colours.astype(np.uint8)), None, mask)


@pytest.mark.parametrize(("height", "width"), [(40, 90), (90, 40), (64, 96), (31, 77)])
def test_crop_fills_the_frame_with_a_part_of_its_proportions(height: int, width: int) -> None:
    box = Frame(16, 24, 16, "crop").seen(height, width)
    assert box.height == height or box.width == width
    assert abs(box.height * 24 - box.width * 16) <= 24
    assert abs((height - box.height) - 2 * box.top) <= 1
    assert abs((width - box.width) - 2 * box.left) <= 1


def test_square_frame_rounds_as_it_always_did() -> None:
    for height, width, size, resized in [(37, 91, 16, 20), (50, 33, 24, 24), (13, 13, 5, 7)]:
        side = max(1, round(min(height, width) * size / resized))
        top, left = round((height - side) * 0.3), round((width - side) * 0.8)
        box = Frame(size, size, resized, "crop").seen(height, width, 0.3, 0.8)
        assert box == Box(top, left, side, side)


@pytest.mark.parametrize("mode", ["crop", "pad", "squash"])
def test_mask_follows_the_image_into_an_oblong_frame(mode: str) -> None:
    seen = Transform((16, 24), resize_mode=mode)(quarters(60, 60))  # type: ignore[arg-type]
    assert seen.image.shape == (3, 16, 24) and seen.mask is not None
    assert seen.mask.shape == (16, 24)
    labelled = seen.mask != 255
    assert bool(labelled.all()) == (mode != "pad")
    down, right = (seen.image[k].float() > 127 for k in (0, 1))
    agree = (2 * down.int() + right.int() == seen.mask) | ~labelled
    assert float(agree.float().mean()) > 0.85


def test_padding_is_the_background_beside_the_whole_image() -> None:
    transform = Transform((8, 16), resize_mode="pad", background=(1, 2, 3))
    image = transform(Sample(png(np.full((20, 20, 3), 200, np.uint8)))).image
    assert torch.equal(image[:, :, 4:12], torch.full((3, 8, 8), 200, dtype=torch.uint8))
    beside = torch.cat([image[..., :4], image[..., 12:]], -1)
    assert torch.equal(
        beside, torch.tensor([1, 2, 3], dtype=torch.uint8)[:, None, None].expand(3, 8, 8)
    )


def test_what_an_image_loses_is_said() -> None:
    assert Frame(16, 24, 16, "crop").changes(32, 48) == []
    assert Frame(16, 24, 16, "crop").changes(48, 48) == ["cut to 24 x 16"]
    assert Frame(16, 24, 16, "pad").changes(48, 48) == ["padded to 24 x 16"]
    assert Frame(16, 24, 16, "squash").changes(8, 8) == [
        "squashed to 24 x 16", "enlarged to 24 x 16 pixels"
    ]  # fmt: skip
    assert Frame(16, 16, 20, "crop").changes(19, 30) == [
        "cut to a square", "enlarged to 20 pixels"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "mend"),
    [({"crop": "random"}, "data.crop=center"), ({"resized": 9}, "resized=null")],
)
def test_modes_that_crop_nothing_refuse_crops(options: dict[str, object], mend: str) -> None:
    with pytest.raises(UserError, match=mend):
        Transform(8, resize_mode="pad", **options)  # type: ignore[arg-type]


def test_turned_photograph_is_cut_as_it_is_seen() -> None:
    from ldmlab.data.images.decode import image_size

    image, data = Image.new("RGB", (30, 20)), io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(data, format="JPEG", exif=exif)
    assert image_size(data.getvalue()) == (20, 30)
