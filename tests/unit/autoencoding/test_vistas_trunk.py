"""The perceptual distance of the world: a frozen, sensible premetric."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources

import numpy as np
import pytest
import torch

from ldmlab.autoencoding.vistas_trunk import TRUNK_ASSET, VistasPerceptual
from ldmlab.data.vistas.dataset import Vistas
from make_vistas_trunk import train_trunk

IMAGES = Vistas("test", 32).__getitems__(list(range(32))).image
assert IMAGES is not None


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Many small operations: on a shared machine a second thread waits more than it works."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def soften(images: torch.Tensor, times: int) -> torch.Tensor:
    for _ in range(times):
        padded = torch.nn.functional.pad(images, (1, 1, 1, 1), mode="replicate")
        images = torch.nn.functional.avg_pool2d(padded, 3, stride=1)
    return images


def test_vistas_perceptual_is_a_premetric() -> None:
    distance = VistasPerceptual()
    assert torch.equal(distance(IMAGES, IMAGES), torch.zeros(32, 1, 1, 1))
    there, back = distance(IMAGES, IMAGES.roll(1, 0)), distance(IMAGES.roll(1, 0), IMAGES)
    assert there.shape == (32, 1, 1, 1)
    assert torch.allclose(there, back, atol=1e-6)
    assert (there > 0).all() and (there <= 2).all()


def test_vistas_perceptual_grows_with_blur_and_ranks_structure_over_brightness() -> None:
    distance = VistasPerceptual()
    steps = [distance(soften(IMAGES, k), IMAGES).mean().item() for k in (1, 2, 4)]
    assert steps == sorted(steps) and steps[0] > 0.005
    soft = soften(IMAGES, 1)
    shift = (soft - IMAGES).square().mean((1, 2, 3), keepdim=True).sqrt()
    brighter = distance(IMAGES + shift, IMAGES)
    assert (brighter < distance(soft, IMAGES)).float().mean() > 0.7


def test_vistas_perceptual_is_frozen_but_differentiable_in_the_image() -> None:
    distance = VistasPerceptual().train()
    assert not distance.training and not distance.trunk.training
    assert not any(parameter.requires_grad for parameter in distance.parameters())
    before = {name: value.clone() for name, value in distance.state_dict().items()}
    x = soften(IMAGES, 1).requires_grad_()
    distance(x, IMAGES).sum().backward()
    assert x.grad is not None and x.grad.isfinite().all() and x.grad.abs().max() > 0
    after = distance.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_vistas_perceptual_gradient_is_finite_on_black_images() -> None:
    x = torch.full((1, 3, 32, 32), -1.0, requires_grad=True)
    VistasPerceptual()(x, IMAGES[:1]).sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()


def test_vistas_perceptual_accepts_larger_images() -> None:
    large = Vistas("test", 4, image_size=64).__getitems__(list(range(4))).image
    assert large is not None
    assert (VistasPerceptual()(soften(large, 1), large) > 0).all()


def test_packaged_trunk_file_is_small() -> None:
    data = resources.files("ldmlab.autoencoding").joinpath("assets", TRUNK_ASSET).read_bytes()
    assert len(data) <= 500_000


def test_trunk_training_is_deterministic() -> None:
    first, again = (train_trunk(2).state_dict() for _ in range(2))
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert any(np.abs(value.numpy()).max() > 0 for value in first.values())


class _Stages(torch.nn.Module):
    """Two stages: the features themselves, and of each square of four pixels the first."""

    widths = (2, 2)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [x, x[:, :, ::2, ::2]]


def test_vistas_perceptual_is_a_mean_over_places_and_stages() -> None:
    """Directions at right angles are 2 apart, whatever their length; opposite ones 4."""
    distance = VistasPerceptual()
    distance.trunk = _Stages()
    x, y = torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)
    x[:, 0], y[:, 0] = 7.0, 0.5
    y[0, :2, 0, 0] = torch.tensor([0.0, 3.0])
    # One place of four in the first stage, the only one of the second.
    assert float(distance(x, y)) == pytest.approx((2 / 4 + 2) / 2, rel=1e-5)
