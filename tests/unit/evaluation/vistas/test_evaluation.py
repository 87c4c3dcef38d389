"""What the judge of the vistas is shown, and what it is compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tests.unit.evaluation.subjects import Drawer, subject
from torch import Tensor

from ldmlab.core.errors import UserError
from ldmlab.core.random import SampleNoise
from ldmlab.core.records import Batch
from ldmlab.data.vistas.dataset import Vistas
from ldmlab.data.vistas.scene import Scenes
from ldmlab.evaluation.vistas import evaluation
from ldmlab.evaluation.vistas.corruptions import pictures
from ldmlab.evaluation.vistas.evaluation import VistasEvaluation, _judged
from ldmlab.evaluation.vistas.networks import VistasJudge, load_judge

COUNT = 12
TEST, UNSEEN = Vistas("test", COUNT), Vistas("compositions", COUNT // 2)
REAL, NEW = (data.__getitems__(list(range(len(data)))) for data in (TEST, UNSEEN))


def _scenes(conditions: Batch) -> Scenes:
    """What is asked for, in the places of the data set that asks."""
    rows = conditions.index.tolist()
    assert conditions.mask is not None and REAL.mask is not None
    ordinary = max(rows) < COUNT and torch.equal(conditions.mask, REAL.mask[rows])
    return (TEST if ordinary else UNSEEN).scenes(rows)


def _exactly(conditions: Batch) -> Tensor:
    """The landscapes that are asked for, beyond white and black."""
    return 2 * pictures(_scenes(conditions))[0]


def _without_objects(conditions: Batch) -> Tensor:
    scenes = _scenes(conditions)
    nothing, gone = np.zeros(len(scenes), np.int64), np.full(len(scenes), -1)
    return pictures(replace(scenes, object=nothing, colour=gone, side=gone))[0]


def judged(
    draw: Callable[[Batch], Tensor], input_key: str = "caption"
) -> tuple[dict[str, Any], Drawer]:
    drawer = Drawer(draw, input_key)
    judge = VistasEvaluation(COUNT, batch_size=5)
    return judge(subject(drawer, 32, 3), lambda done, total: None), drawer


def test_conditions_are_asked_for_with_noise_of_their_own() -> None:
    _, drawer = judged(_exactly)
    assert [len(asked) for asked in drawer.conditions] == [5, 5, 2, 5, 1]
    assert all(asked.image is None for asked in drawer.conditions)
    captions = [text for asked in drawer.conditions for text in asked.caption or ()]
    assert captions == [*(REAL.caption or ()), *(NEW.caption or ())]
    expected = SampleNoise(5, range(18)).normal(torch.empty(18, 2))
    assert torch.equal(torch.cat(drawer.noise), expected)


def test_frechet_distances_are_of_clipped_samples_and_unseen_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[tuple[Tensor, Tensor]] = []

    def note(judge: Any, real: list[Tensor], fake: list[Tensor]) -> float:
        compared.append((torch.cat(list(real)), torch.cat(list(fake))))
        return float(len(compared))

    monkeypatch.setattr(evaluation, "frechet_world", note)
    metrics, _ = judged(_exactly, "label")
    assert REAL.image is not None
    value, reconstruction, real = (
        compared[int(metrics["frechet_world"][name]) - 1]
        for name in ("value", "reconstruction", "real")
    )
    assert all(torch.equal(pair[0], REAL.image) for pair in compared)
    assert torch.equal(value[1], (2 * REAL.image).clamp(-1, 1))
    assert torch.equal(reconstruction[1], REAL.image / 2)
    other = Vistas("validation", COUNT).__getitems__(list(range(COUNT))).image
    assert torch.equal(real[1], other)
    assert not any(torch.equal(a, b) for a in real[1] for b in REAL.image)


def test_model_that_draws_what_is_asked_for_is_judged_right() -> None:
    metrics, _ = judged(lambda asked: _exactly(asked) / 2)
    for name in ("class_accuracy", "caption_accuracy", "object_accuracy"):
        assert metrics[name]["value"] == metrics[name]["real"] > 0.9
        assert metrics[name]["shuffled"] < 0.5
    for name in ("composition_accuracy", "composition_object_accuracy"):
        assert metrics[name]["value"] == metrics[name]["real"] > 0.8
        assert metrics[name]["samples"] == COUNT // 2
    assert metrics["valid_rate"]["value"] == metrics["valid_rate"]["real"] > 0.9
    assert metrics["frechet_world"]["value"] == pytest.approx(0, abs=0.1)
    assert metrics["frechet_world"]["real"] > 1


def test_model_that_draws_no_object_fails_where_one_is_asked_for() -> None:
    metrics, _ = judged(_without_objects)
    none = float((TEST.scenes(range(COUNT)).object == 0).mean())
    assert 0 < none < 1
    assert metrics["object_accuracy"]["value"] == 0
    assert metrics["class_accuracy"]["value"] <= none  # the backdrop is right everywhere
    assert metrics["caption_accuracy"]["value"] <= none
    assert metrics["composition_accuracy"]["value"] == 0
    assert metrics["composition_object_accuracy"]["value"] == 0
    for name in ("object_accuracy", "caption_accuracy", "composition_accuracy"):
        assert metrics[name]["real"] > 0.8


def test_masks_are_compared_with_those_that_were_asked_for() -> None:
    metrics, _ = judged(lambda asked: _exactly(asked) / 2, "mask")
    overlap = metrics["mask_miou"]
    assert overlap["value"] == overlap["real"] > 0.8
    assert overlap["shuffled"] < 0.5 < overlap["real"]
    assert overlap["reconstruction"] < overlap["real"]
    assert "class_accuracy" not in metrics


def test_image_that_is_not_finite_is_refused_by_its_number() -> None:
    def spoilt(conditions: Batch) -> Tensor:
        images = _exactly(conditions)
        return torch.where((conditions.index == 6).view(-1, 1, 1, 1), torch.nan, images)

    with pytest.raises(UserError, match="image 6 holds numbers that are not finite"):
        judged(spoilt)


def test_reconstruction_that_is_not_finite_is_refused() -> None:
    drawer = Drawer(_exactly, "caption")
    lost = replace(subject(drawer, 32, 3), model=_Overflowing(_exactly, "caption"))  # type: ignore
    with pytest.raises(UserError, match="the codec makes numbers that are not finite of image 0"):
        VistasEvaluation(COUNT)(lost, lambda done, total: None)


class _Overflowing(Drawer):
    @property
    def codec(self) -> Any:
        return SimpleNamespace(reconstruct=lambda images: images / 0)


@pytest.mark.parametrize(("features", "warned"), [(COUNT, True), (COUNT - 1, False)])
def test_distance_of_no_more_images_than_features_warns(
    monkeypatch: pytest.MonkeyPatch, features: int, warned: bool
) -> None:
    monkeypatch.setattr(evaluation, "frechet_world", lambda *_: 1.0)
    monkeypatch.setattr(VistasJudge, "num_features", features)
    distance = judged(_exactly, "label")[0]["frechet_world"]
    assert ("warning" in distance) == warned
    if warned:
        assert f"{COUNT} images do not fill the judge's {COUNT} features" in distance["warning"]


def test_object_accuracy_is_of_scenes_that_ask_for_an_object() -> None:
    scenes, images = TEST.scenes(range(COUNT)), REAL.image
    assert images is not None
    empty = [row for row in range(COUNT) if scenes.object[row] == 0]
    found = _judged(load_judge(), images[empty], scenes[empty])
    assert empty and "object_accuracy" not in found and found["caption_accuracy"] > 0.5
    assert "object_accuracy" in _judged(load_judge(), images, scenes)
