"""Drawings: each image depends on its seed and its place, and on all that was asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.integration.conftest import STORED, unpack
from tests.unit.models.toys import Recorder, model
from torch import Tensor

import ldmlab
from ldmlab.core.random import SampleNoise
from ldmlab.core.records import Batch
from ldmlab.diffusion.guidance import ClassifierFree
from ldmlab.diffusion.samplers.ddim import DDIM
from ldmlab.diffusion.samplers.ddpm import DDPM
from ldmlab.diffusion.samplers.sampler import Sampler
from ldmlab.models.drawing import Drawing, Start


def _labels(*labels: int) -> Batch:
    return Batch(index=torch.arange(len(labels)), label=torch.tensor(labels))


def test_drawing_in_parts_gives_the_same_images() -> None:
    for sampler in (Recorder(steps=2), DDPM(steps=4)):
        drawing = Drawing(model([7.0, 3.0]), 4, sampler, seed=3)
        whole = drawing.draw(_labels(0, 1, 0))
        parts = [drawing.draw(_labels(0, 1)), drawing.draw(_labels(0), first=2)]
        torch.testing.assert_close(torch.cat(parts), whole)
        torch.testing.assert_close(drawing.draw(_labels(0, 0), [2, 0]), whole[[2, 0]])
    noisy = Drawing(model([7.0]), 4, Recorder(steps=2), seed=3)
    assert not torch.equal(noisy.draw(_labels(0)), noisy.draw(_labels(0), first=1))
    assert not torch.equal(noisy.draw(_labels(0)), replace(noisy, seed=4).draw(_labels(0)))


def test_drawing_hands_on_conditions_and_guidance() -> None:
    """Classes of 7, 3 and 6, the null of 5; decoded values are twice as large."""
    net = model([7.0, 3.0, 6.0])
    plain = Drawing(net, 4, DDIM(steps=3), ClassifierFree(3.0))

    def means(drawing: Drawing) -> list[float]:
        return (drawing.draw(_labels(0, 1)).mean((1, 2, 3)) / 2).tolist()

    assert means(plain) == pytest.approx([11, -1], rel=1e-4)
    assert means(replace(plain, negative=_labels(2))) == pytest.approx([9, -3], rel=1e-4)
    assert means(replace(plain, also=[_labels(2)])) == pytest.approx([14, 2], rel=1e-4)
    weak = model([4.0, 2.0, 1.0])
    assert means(replace(plain, autoguidance=weak)) == pytest.approx([13, 5], rel=1e-4)


def test_drawing_starts_from_a_picture_at_its_strength() -> None:
    sampler = Recorder(steps=5)
    picture = Start(torch.full((1, 1, 2, 2), 6.0), None)
    drawing = Drawing(model([1.0]), 99, sampler, start=picture, strength=0.4)
    drawing.draw(_labels(*[0] * 3))
    assert sampler.times[0].tolist() == pytest.approx([0.4, 0.2, 0])
    assert sampler.starts[0].shape == (3, 1, 1, 1)
    assert len(torch.unique(sampler.starts[0])) == 3
    assert drawing.resamplings == 1 and Drawing(model([1.0]), 4, sampler).strength == 0.6


def test_drawing_paints_the_unknown_part_as_often_as_asked() -> None:
    sampler = Recorder(steps=2)
    unknown = torch.tensor([[[[1.0, 1.0, 0.0, 0.0]] * 2]]).reshape(1, 1, 2, 4)
    picture = Start(torch.full((1, 1, 2, 4), 6.0), unknown)
    drawing = Drawing(model([1.0]), 99, sampler, start=picture, resamplings=3)
    painted = drawing.draw(_labels(0, 0))
    assert bool((painted[..., 2:] == 6).all()) and not bool((painted[..., :2] == 6).any())
    assert len(sampler.times) == 6


@pytest.mark.parametrize("sampler", [DDIM(steps=5), DDPM(steps=10)])
def test_batches_of_one_and_of_four_share_noise_and_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampler: Sampler
) -> None:
    drawn: list[Tensor] = []
    normal = SampleNoise.normal

    def noted(self: SampleNoise, like: Tensor) -> Tensor:
        drawn.append(normal(self, like))
        return drawn[-1]

    monkeypatch.setattr(SampleNoise, "normal", noted)
    pipeline = ldmlab.load(unpack(STORED[-1], tmp_path) / "diffusion/stored", device="cpu")
    size = pipeline.spec.image_size
    drawing = Drawing(pipeline.model, size, sampler, ClassifierFree(2.0), seed=3)
    asked = _labels(1, 7, 3, 1)

    def images(parts: int) -> tuple[Tensor, Tensor]:
        """Images that are drawn so many at once, and the noise: a row each."""
        drawn.clear()
        firsts = range(0, len(asked), parts)
        made = [drawing.draw(asked[k : k + parts], k) for k in firsts]
        calls = len(drawn) // len(made)
        rows = [torch.stack(drawn[k * calls : (k + 1) * calls], 1) for k in range(len(made))]
        return torch.cat(made), torch.cat(rows)

    four, noise = images(4)
    again, _ = images(4)
    one, own = images(1)
    assert noise.shape[1] == (1 if isinstance(sampler, DDIM) else sampler.steps)
    assert torch.equal(own, noise) and len(noise.flatten(1).unique(dim=0)) == 4
    assert torch.equal(again, four)
    torch.testing.assert_close(one, four, atol=1e-4, rtol=0)
    assert (four[0] - four[3]).abs().max() > 0.01
