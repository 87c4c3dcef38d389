"""The judge: right on landscapes, at chance on shuffled requests, not fooled by ruins."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from ldmlab.data.vistas.caption import scenes_from_captions
from ldmlab.data.vistas.dataset import SPLITS
from ldmlab.data.vistas.scene import SLOTS, Scenes, sample_scenes
from ldmlab.evaluation.vistas.corruptions import BROKEN_OBJECTS, RUINS, mild, pictures
from ldmlab.evaluation.vistas.evaluation import VistasEvaluation
from ldmlab.evaluation.vistas.metrics import (
    frechet_world,
    judge_conditional,
    mask_miou,
    valid_rate,
)
from ldmlab.evaluation.vistas.networks import (
    JUDGE_ASSET,
    SEGMENTER_ASSET,
    UNRECOGNISABLE,
    asset_hash,
    load_judge,
    load_segmenter,
)

TEST = sample_scenes(0, np.arange(120) + SPLITS["test"].start)
UNSEEN = sample_scenes(0, np.arange(60) + SPLITS["compositions"].start, held_out=True)
SHOWN = TEST[np.flatnonzero(TEST.object > 0)]


def rng() -> Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("scenes", [TEST, UNSEEN], ids=["test", "compositions"])
@pytest.mark.parametrize("degrade", [False, True], ids=["plain", "mild"])
def test_judge_reads_landscapes(scenes: Scenes, degrade: bool) -> None:
    images, masks = pictures(scenes)
    images = mild(images, rng()) if degrade else images
    metrics = judge_conditional(load_judge(), images, scenes)
    slots = {name for name in metrics if name.startswith("slot/")}
    assert slots == {f"slot/{slot}" for slot in SLOTS}
    assert min(metrics[name] for name in slots) >= 0.98
    assert metrics["class_accuracy"] >= 0.97
    assert metrics["caption_accuracy"] >= 0.96
    assert metrics["object_accuracy"] >= 0.95
    assert valid_rate(load_judge(), images) >= 0.97
    assert mask_miou(load_judge(), images, masks) >= 0.92


def test_judge_scores_shuffled_requests_at_chance() -> None:
    images, _ = pictures(TEST)
    order = np.random.default_rng(0).permutation(len(TEST))
    metrics = judge_conditional(load_judge(), images, TEST[order])
    for slot, values in SLOTS.items():
        assert abs(metrics[f"slot/{slot}"] - 1 / len(values)) < 0.16
    assert metrics["class_accuracy"] < 0.2
    assert metrics["caption_accuracy"] < 0.03
    assert metrics["object_accuracy"] < 0.3


@pytest.mark.parametrize("ruin", RUINS)
def test_judge_rejects_ruined_images(ruin: Callable[[Tensor, Generator], Tensor]) -> None:
    images = ruin(pictures(SHOWN)[0], rng())
    assert valid_rate(load_judge(), images) < 0.06
    assert judge_conditional(load_judge(), images, SHOWN)["caption_accuracy"] < 0.06


@pytest.mark.parametrize("broken", BROKEN_OBJECTS)
def test_judge_rejects_broken_objects(broken: Callable[[Scenes, Generator], Tensor]) -> None:
    images = broken(SHOWN, rng())
    judge = load_judge()
    with torch.inference_mode():
        named = judge(images)["object"].argmax(1)
    assert (named == UNRECOGNISABLE).float().mean() > 0.95
    assert valid_rate(judge, images) < 0.05
    metrics = judge_conditional(judge, images, SHOWN)
    assert metrics["slot/object"] < 0.05
    assert metrics["object_accuracy"] < 0.05
    assert metrics["slot/ground"] > 0.9


def test_judge_agrees_on_larger_images() -> None:
    images, masks = pictures(TEST[:60], 64)
    metrics = judge_conditional(load_judge(), images, TEST[:60])
    assert metrics["caption_accuracy"] >= 0.96
    assert metrics["object_accuracy"] >= 0.95
    assert mask_miou(load_judge(), images, masks) > 0.88


def test_judge_skips_open_slots() -> None:
    images, _ = pictures(SHOWN[:40])
    asked = scenes_from_captions(["under the sky"] * 40)
    metrics = judge_conditional(load_judge(), images, asked)
    assert set(metrics) == {"class_accuracy", "caption_accuracy", "object_accuracy"}
    assert set(metrics.values()) == {1.0}


def test_judge_needs_a_scene_for_every_image() -> None:
    with pytest.raises(ValueError, match="2 images cannot be judged by 3 scenes"):
        judge_conditional(load_judge(), torch.zeros(2, 3, 32, 32), TEST[:3])


@pytest.mark.parametrize("count", [0, 2])
@pytest.mark.parametrize(
    "metric",
    [
        lambda judge, images, _: judge_conditional(judge, images, TEST[: len(images)]),
        lambda judge, images, _: valid_rate(judge, images),
        lambda judge, images, masks: mask_miou(judge, images, masks),
        lambda judge, images, _: frechet_world(judge, [pictures(TEST[:4])[0]], [images]),
    ],
    ids=["conditional", "valid", "miou", "frechet"],
)
def test_metric_of_nothing_or_of_no_numbers_is_refused(
    metric: Callable[..., object], count: int
) -> None:
    images, masks = (part[:count] for part in pictures(TEST[:2]))
    images[1:, 0, 5, 5] = torch.nan
    with pytest.raises(ValueError, match=r"image 1 .* not finite" if count else "no images"):
        metric(load_judge(), images, masks)


@pytest.mark.parametrize(("real", "fake"), [(0, 4), (4, 0), (1, 4), (4, 1)])
def test_frechet_world_needs_two_images_of_each(real: int, fake: int) -> None:
    batches = [pictures(TEST[k : k + 1])[0] for k in range(4)]
    with pytest.raises(ValueError, match=f"sets of {real} and {fake} images have no covariance"):
        frechet_world(load_judge(), batches[:real], batches[:fake])


def test_frechet_world_orders_degradations() -> None:
    judge = load_judge()
    real, _ = pictures(TEST)
    same = frechet_world(judge, real.split(64), real.split(50))
    near = frechet_world(judge, real.split(64), mild(real, rng()).split(64))
    far = frechet_world(judge, real.split(64), RUINS[0](real, rng()).split(64))
    assert abs(same) < 0.1
    assert same < near < 0.1 * far


def test_frechet_world_is_the_distance_of_two_gaussians() -> None:
    judge = load_judge()
    real, fake = pictures(TEST[:40])[0], mild(pictures(TEST[40:70])[0], rng())
    a, b = (judge.features(images).double() for images in (real, fake))
    means = (a.mean(0) - b.mean(0)).square().sum()
    a, b = ((x - x.mean(0)) / (len(x) - 1) ** 0.5 for x in (a, b))
    # tr (S1 S2)^(1/2) is the sum of the singular values of the roots' product.
    shared = torch.linalg.svdvals(a @ b.T).sum()
    expected = means + a.square().sum() + b.square().sum() - 2 * shared
    found = frechet_world(judge, real.split(16), fake.split(16))
    assert found == pytest.approx(float(expected), rel=1e-3)
    assert found > 1


def test_mask_overlap_is_a_mean_over_the_labels_asked_for_or_seen() -> None:
    images, masks = pictures(TEST[:10])
    asked = masks.roll(1, 0)
    seen = load_segmenter()(images).argmax(1)
    shares = []
    for label in range(12):
        one, other = asked == label, seen == label
        if bool((one | other).any()):
            shares.append(float((one & other).sum() / (one | other).sum()))
    found = mask_miou(None, images, asked)
    assert found == pytest.approx(sum(shares) / len(shares), abs=1e-6)
    assert 0.05 < found < 0.6


def test_mask_agreement_is_low_for_other_images() -> None:
    images, masks = pictures(TEST)
    assert mask_miou(None, images, masks.roll(1, 0)) < 0.5


def test_packaged_judge_is_frozen_and_small() -> None:
    judge = load_judge()
    assert load_judge() is judge
    assert not judge.training
    assert not any(parameter.requires_grad for parameter in judge.parameters())
    assert judge.features(torch.zeros(2, 3, 32, 32)).shape == (2, judge.num_features)
    protocol = VistasEvaluation().protocol()
    for name, asset in (("judge", JUDGE_ASSET), ("segmenter", SEGMENTER_ASSET)):
        assert protocol[name] == asset_hash(asset)
        assert len(protocol[name]) == 16 and int(protocol[name], 16)
        file = resources.files("ldmlab.evaluation.vistas").joinpath("assets", asset)
        assert len(file.read_bytes()) <= 500_000
