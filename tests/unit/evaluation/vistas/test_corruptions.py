"""The judge's counter-examples, and the script that trains it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from ldmlab.data.vistas.scene import sample_scenes
from ldmlab.evaluation.vistas.corruptions import BROKEN_OBJECTS, RUINS, blur, mild, pictures
from ldmlab.evaluation.vistas.networks import UNRECOGNISABLE
from make_vistas_judge import judge_batch

ALL = sample_scenes(0, np.arange(60))
SHOWN = ALL[np.flatnonzero(ALL.object > 0)]


def test_mild_corruptions_stay_near() -> None:
    images, _ = pictures(ALL)
    changed = mild(images, torch.Generator().manual_seed(0))
    error = ((changed - images) / 2).square().mean((1, 2, 3))
    decibels = -10 * torch.log10(error)
    assert decibels.min() > 23
    assert 27 < decibels.median() < 34
    assert changed.abs().max() <= 1


def test_blur_keeps_flat_images_and_means() -> None:
    flat = torch.full((2, 3, 16, 16), 0.4)
    assert torch.allclose(blur(flat, torch.tensor([0.5, 3.0])), flat, atol=1e-6)
    images, _ = pictures(SHOWN[:2])
    assert torch.allclose(blur(images, torch.tensor([0.0, 0.0])), images, atol=1e-6)


@pytest.mark.parametrize("change", [*RUINS, *BROKEN_OBJECTS])
def test_counter_examples_are_seeded_and_far_from_the_truth(
    change: Callable[..., torch.Tensor],
) -> None:
    images, masks = pictures(SHOWN)
    broken = change in BROKEN_OBJECTS
    subject = SHOWN if broken else images
    first, again = (change(subject, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, again)
    assert first.shape == images.shape and first.abs().max() <= 1
    shown = (masks >= 9)[:, None].expand_as(images)
    assert (first - images)[shown].abs().mean() > 0.15
    if broken:
        # Away from the object the landscape is untouched.
        assert ((first - images).abs() < 0.02).all(dim=1).float().mean() > 0.55


def test_judge_training_batches_have_consistent_answers() -> None:
    images, answers = judge_batch(4, torch.Generator().manual_seed(0))
    again, _ = judge_batch(4, torch.Generator().manual_seed(0))
    assert torch.equal(images, again)
    assert all(len(images) == len(answer) for answer in answers.values())
    valid = answers["valid"] == 1
    assert 0.4 < valid.float().mean() < 0.7
    assert (answers["object"][~valid] == UNRECOGNISABLE).all()
    assert (answers["object"][valid] < UNRECOGNISABLE).all()
