"""Conditions that are pictures: a smaller image, and an image with a hole."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ldmlab.conditioning.low_resolution import LowResolution
from ldmlab.conditioning.masked_image import MaskedImage
from ldmlab.core.errors import UserError
from ldmlab.core.records import Batch, DataSpec

SPEC = DataSpec(16, 3)


def _batch(**fields: Tensor) -> Batch:
    return Batch(index=torch.arange(2), **fields)


def test_low_resolution_map_has_the_latent_size() -> None:
    conditioner = LowResolution.for_data(SPEC, factor=4)
    image = torch.rand(2, 3, 16, 16) * 2 - 1
    condition = conditioner.select(_batch(image=image))
    maps = conditioner(condition).maps
    assert conditioner.map_channels == 3 and maps is not None and maps.shape == (2, 3, 4, 4)
    # Bicubic with anti-aliasing keeps a constant and the mean, and stays near area averages.
    flat = conditioner.select(_batch(image=torch.full((2, 3, 16, 16), 0.3)))
    torch.testing.assert_close(flat, torch.full_like(flat, 0.3))
    smooth = F.interpolate(torch.rand(2, 3, 2, 2), 16, mode="bilinear")
    small = conditioner.select(_batch(image=smooth))
    torch.testing.assert_close(small, F.avg_pool2d(smooth, 4), atol=0.05, rtol=0)
    assert torch.equal(conditioner.null(condition), torch.zeros_like(condition))


def test_low_resolution_is_bicubic_without_aliases() -> None:
    bytes_ = torch.randint(0, 256, (2, 16, 16, 3), generator=torch.Generator().manual_seed(0))
    images = [Image.fromarray(image.to(torch.uint8).numpy()) for image in bytes_]
    small = [np.asarray(image.resize((4, 4), Image.Resampling.BICUBIC)) for image in images]
    expected = torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2) / 127.5 - 1
    image = bytes_.permute(0, 3, 1, 2) / 127.5 - 1
    found = LowResolution.for_data(SPEC, factor=4).select(_batch(image=image))
    torch.testing.assert_close(found, expected, rtol=0, atol=0.02)  # Pillow rounds to bytes


def test_low_resolution_does_not_overshoot_at_edges() -> None:
    edge = torch.ones(2, 3, 16, 16)
    edge[..., 6:] = -1
    small = LowResolution.for_data(SPEC, factor=2).select(_batch(image=edge))
    assert small.max() == 1 and small.min() == -1


def test_low_resolution_needs_an_image() -> None:
    with pytest.raises(
        UserError, match="conditioner=low_resolution needs an image for each sample"
    ):
        LowResolution.for_data(SPEC, factor=4).select(_batch())


def _encode(image: Tensor) -> Tensor:
    return F.avg_pool2d(image, 4)


def test_masked_image_hides_the_hole() -> None:
    conditioner = MaskedImage.for_data(SPEC, factor=4, latent_channels=3, encode=_encode)
    image = torch.rand(2, 3, 16, 16) * 2 - 1
    mask = torch.zeros(2, 16, 16, dtype=torch.long)
    mask[:, :8, 4:] = 7
    condition = conditioner.select(_batch(image=image, mask=mask))
    maps = conditioner(condition).maps
    assert conditioner.map_channels == 4 and maps is not None and maps.shape == (2, 4, 4, 4)
    assert torch.equal(maps[:, -1] > 0, mask[:, ::4, ::4] != 0)
    assert set(maps[:, -1].unique().tolist()) == {-1.0, 1.0}
    seen = mask[:, ::4, ::4] == 0
    for channel in range(3):
        expected = _encode(image)[:, channel]
        torch.testing.assert_close(maps[:, channel][seen], expected[seen])
        assert bool((maps[:, channel][~seen] == -1).all()), "black behind the hole"
    other = image.clone()
    other[:, :, :8, 4:] = 0.5
    assert torch.equal(conditioner.select(_batch(image=other, mask=mask)), condition)
    null = conditioner.null(condition)
    everything = torch.ones_like(mask)
    assert torch.equal(null, conditioner.select(_batch(image=image, mask=everything)))


def test_masked_image_needs_a_mask_and_copies_no_codec() -> None:
    codec = torch.nn.Conv2d(3, 3, 4, stride=4)
    conditioner = MaskedImage(3, 4, lambda image: codec(image))
    with pytest.raises(UserError, match="mask of what to fill"):
        conditioner.select(_batch(image=torch.zeros(2, 3, 16, 16)))
    assert list(conditioner.parameters()) == []
    assert copy.deepcopy(conditioner).encode is conditioner.encode
