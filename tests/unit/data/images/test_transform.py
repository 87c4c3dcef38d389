"""What the model sees: geometry, mirrors and what must be mirrored with them."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from ldmlab.core.errors import UserError
from ldmlab.core.random import derive_seed
from ldmlab.data.images.decode import BrokenFileError, LabelMap
from ldmlab.data.images.source import Sample
from ldmlab.data.images.transform import Transform
from ldmlab.data.specimens.scenes import encode, scenes

SCENE = scenes(1, 128)[0]
SEEDS = range(40)


def psnr(a: torch.Tensor, b: Image.Image) -> float:
    error = (a.permute(1, 2, 0).double().numpy() - np.asarray(b, np.float64)) ** 2
    return float(10 * np.log10(255**2 / max(error.mean(), 1e-9)))


@pytest.mark.parametrize(
    ("side", "form"), [(128, "JPEG"), (1024, "JPEG"), (128, "PNG"), (40, "PNG")]
)
def test_transform_equals_a_bicubic_resize(side: int, form: str) -> None:
    data = encode(SCENE.image.resize((side, side), Image.Resampling.BICUBIC), form)
    exact = Image.open(io.BytesIO(data)).convert("RGB").resize((64, 64), Image.Resampling.BICUBIC)
    assert psnr(Transform(64)(Sample(data)).image, exact) >= 42


def sides() -> Sample:
    """Dark on the left, bright on the right; the mask has labels 3 and 7 there."""
    halves = np.repeat(np.array([[20, 220]], np.uint8), 32, 1).repeat(48, 0)
    image = Image.fromarray(halves).convert("RGB")
    mask = Image.fromarray(np.where(halves < 100, 3, 7).astype(np.uint8))
    return Sample(
        encode(image, "PNG"), None, LabelMap(encode(mask, "PNG"), 8), "a house on the left"
    )


@pytest.mark.parametrize("crop", ["center", "random"])
def test_transform_keeps_image_and_mask_aligned(crop: str) -> None:
    view = Transform(16, 20, crop=crop, flip=True, flip_captions="swap")
    mirrored = set()
    for seed in SEEDS:
        seen = view(sides(), seed)
        assert seen.image.shape == (3, 16, 16) and seen.mask is not None
        assert set(seen.mask.unique().tolist()) <= {3, 7}
        dark = seen.image[0] < 120
        # Bicubic blurs the edge by a pixel or two, nearest does not.
        assert float((dark == (seen.mask == 3)).float().mean()) > 0.85
        mirror = bool(dark[:, -1].all()) and not bool(dark[:, 0].all())
        assert seen.caption == ("a house on the right" if mirror else "a house on the left")
        mirrored.add(mirror)
    assert mirrored == {True, False}


def test_captions_that_name_a_side_are_not_mirrored() -> None:
    seen = [Transform(16, flip=True)(sides(), seed) for seed in SEEDS]
    assert all(torch.equal(one.image, seen[0].image) for one in seen)
    silent = Sample(sides().image, caption="a house")
    assert len({bool(Transform(16, flip=True)(silent, s).image[0, 0, 0] < 120) for s in SEEDS}) == 2


def test_swapped_caption_words_keep_their_case() -> None:
    sample = Sample(sides().image, caption="Left of it, RIGHT of it, leftovers")
    captions = {Transform(16, flip=True, flip_captions="swap")(sample, s).caption for s in SEEDS}
    assert captions == {sample.caption, "Right of it, LEFT of it, leftovers"}


def test_mirrored_labels_are_swapped() -> None:
    view = Transform(16, flip=True, mirrored_labels=[(3, 7)], flip_captions="swap")
    masks = [view(sides(), seed).mask for seed in SEEDS]
    assert all(torch.equal(mask, masks[0]) for mask in masks)  # mirrored twice


def test_transform_depends_on_its_seed_alone() -> None:
    view = Transform(32, 40, crop="random", flip=True)
    data = Sample(SCENE.encoded("PNG"))
    assert torch.equal(view(data, 3).image, view(data, 3).image)
    assert len({tuple(view(data, seed).image[0, 0, :8].tolist()) for seed in range(8)}) > 3
    assert torch.equal(view(data).image, Transform(32, 40)(data, 5).image)


def test_mask_of_another_size_is_refused() -> None:
    mask = LabelMap(encode(Image.new("L", (10, 10)), "PNG"), 8)
    with pytest.raises(BrokenFileError, match="64 x 48 pixels, and its mask 10 x 10"):
        Transform(16)(Sample(sides().image, mask=mask))


def test_transform_refuses_a_crop_larger_than_its_image() -> None:
    with pytest.raises(UserError, match=r"data\.resized=8"):
        Transform(16, resized=8)


def _coordinates(width: int, height: int) -> Sample:
    """An image whose pixels tell their column in red and their row in green."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(width), np.arange(height)[:, None]
    return Sample(encode(Image.fromarray(pixels), "PNG"))


def test_random_crops_lie_anywhere_and_the_centre_is_the_centre() -> None:
    sample, view = _coordinates(96, 64), Transform(16, 64, crop="random")
    corners = np.array([view(sample, seed).image[:2, 0, 0].tolist() for seed in range(300)])
    left, top = corners.T
    assert left.min() <= 1 and left.max() >= 79 and top.min() <= 1 and top.max() >= 47
    assert left.max() <= 80 and top.max() <= 48
    assert abs(left.mean() - 40) < 5 and abs(top.mean() - 24) < 3
    assert abs(np.corrcoef(left, top)[0, 1]) < 0.15, "columns and rows are drawn apart"
    assert view(sample).image[:2, 0, 0].tolist() == [40, 24]


def test_half_of_the_training_images_are_mirrored() -> None:
    sample = _coordinates(32, 32)
    view = Transform(32, flip=True)
    mirrored = [bool(view(sample, derive_seed("a", k)).image[0, 0, 0]) for k in range(200)]
    assert abs(sum(mirrored) - 100) < 30
    assert not any(Transform(32)(sample, seed).image[0, 0, 0] for seed in range(20))


def test_shrunk_mask_has_the_label_at_the_centre_of_each_cell() -> None:
    labels = np.arange(36, dtype=np.uint8).reshape(6, 6)
    mask = LabelMap(encode(Image.fromarray(labels), "PNG"), 36)
    image = encode(Image.new("RGB", (6, 6)), "PNG")
    seen = Transform(2)(Sample(image, mask=mask)).mask
    assert seen is not None and seen.tolist() == [[7, 10], [25, 28]]
