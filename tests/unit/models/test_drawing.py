"""Drawings: each image depends on its seed and its place, and on all that was asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.unit.models.toys import Recorder, model

from ldmlab.core.records import Batch
from ldmlab.diffusion.guidance import ClassifierFree
from ldmlab.diffusion.samplers.ddim import DDIM
from ldmlab.diffusion.samplers.ddpm import DDPM
from ldmlab.models.drawing import Drawing, Start


def _labels(*labels: int) -> Batch:
    return Batch(index=torch.arange(len(labels)), label=torch.tensor(labels))


def test_drawing_in_parts_gives_the_same_images() -> None:
    for sampler in (Recorder(steps=2), DDPM(steps=4)):
        drawing = Drawing(model([7.0, 3.0]), 4, sampler, seed=3)
        whole = drawing.draw(_labels(0, 1, 0))
        parts = [drawing.draw(_labels(0, 1)), drawing.draw(_labels(0), first=2)]
        torch.testing.assert_close(torch.cat(parts), whole)
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
