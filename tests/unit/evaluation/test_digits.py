"""Digits are judged as the classifier has learned them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sklearn.svm import SVC
from tests.unit.evaluation.subjects import Drawer, subject
from torch import Tensor

from ldmlab.core.errors import UserError
from ldmlab.core.random import SampleNoise
from ldmlab.core.records import Batch
from ldmlab.data.digits import Digits
from ldmlab.evaluation.digits import DigitsEvaluation

TRAIN, TEST = Digits("train"), Digits("test")


def judged(draw: Any, input_key: str | None = "label") -> tuple[dict[str, Any], Drawer]:
    drawer = Drawer(draw, input_key)
    evaluation = DigitsEvaluation(200)
    return evaluation(subject(drawer, 8, 1), lambda done, total: None), drawer


def _asked(conditions: Batch) -> Tensor:
    """The very digits whose labels are asked for, brighter than bright."""
    image = TEST.__getitems__(conditions.index.tolist()).image
    assert image is not None
    return torch.where(image.abs() == 1, 4 * image, image)


def test_class_accuracy_is_what_a_classifier_of_training_digits_reads() -> None:
    train, test = (data.__getitems__(list(range(len(data)))) for data in (TRAIN, TEST))
    assert train.image is not None and train.label is not None
    assert test.image is not None and test.label is not None
    judge = SVC().fit(train.image.flatten(1).numpy(), train.label)
    real = judge.score(test.image.flatten(1).numpy(), test.label)
    metrics, _ = judged(_asked)
    found = metrics["class_accuracy"]
    assert 0.97 < real < 1
    assert found["value"] == found["real"] == pytest.approx(real)
    assert found["shuffled"] < 0.2
    ones, _ = judged(
        lambda asked: TRAIN[TRAIN._labels.tolist().index(1)].image.repeat(200, 1, 1, 1)
    )
    share = float((test.label == 1).double().mean())
    assert ones["class_accuracy"]["value"] == pytest.approx(share)
    assert ones["class_accuracy"]["real"] == pytest.approx(real)


def test_digits_are_asked_for_by_their_conditions_alone() -> None:
    metrics, drawer = judged(_asked)
    (asked,) = drawer.conditions
    assert asked.image is None and asked.label is not None
    assert torch.equal(asked.label, TEST.__getitems__(list(range(200))).label)
    expected = SampleNoise(5, range(200)).normal(torch.empty(200, 2))
    assert torch.equal(drawer.noise[0], expected)
    # Half of the contrast: the error is half of the image, whatever was drawn.
    image = TEST.__getitems__(list(range(200))).image
    assert image is not None
    decibels = -10 * torch.log10((image / 2).square().flatten(1).mean(1) / 4)
    assert metrics["psnr"]["value"] == pytest.approx(float(decibels.mean()), rel=1e-5)


def test_digits_of_an_unconditional_model_have_no_accuracy() -> None:
    metrics, _ = judged(_asked, input_key=None)
    assert set(metrics) == {"psnr", "ssim"}


def test_digit_that_is_not_finite_is_refused() -> None:
    def spoilt(conditions: Batch) -> Tensor:
        images = _asked(conditions)
        images[7, 0, 1, 1] = torch.inf
        return images

    with pytest.raises(UserError, match=r"image 7 holds numbers that are not finite"):
        judged(spoilt)
