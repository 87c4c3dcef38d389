"""The strict check: exact drawings pass, soft and wrong ones do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ldmlab.data.vistas.dataset import SPLITS
from ldmlab.data.vistas.render import object_pose
from ldmlab.data.vistas.scene import Scenes, sample_scenes
from ldmlab.evaluation.vistas.corruptions import blob_objects, blur, pictures, scrambled
from ldmlab.evaluation.vistas.objects import fit_objects, strict_objects
from ldmlab.evaluation.vistas.outline import outline_overlap
from ldmlab.evaluation.vistas.templates import KINDS, draw

ALL = sample_scenes(0, np.arange(100) + SPLITS["validation"].start)
SHOWN, EMPTY = ALL[np.flatnonzero(ALL.object > 0)], ALL[np.flatnonzero(ALL.object == 0)]


def share(images: torch.Tensor, scenes: Scenes = SHOWN) -> float:
    return float(strict_objects(images, scenes).float().mean())


def test_strict_objects_accept_true_and_reject_corrupted_objects() -> None:
    images, _ = pictures(SHOWN)
    ones = torch.ones(len(images))
    assert share(images) >= 0.96
    assert share(blur(images, 0.5 * ones)) >= 0.94
    assert share(blur(images, 2.0 * ones)) <= 0.03
    assert share(scrambled(images, torch.Generator().manual_seed(0))) <= 0.02
    assert share(blob_objects(SHOWN, torch.Generator().manual_seed(0))) <= 0.03


def test_empty_scenes_are_empty_and_full_ones_are_not() -> None:
    empty, _ = pictures(EMPTY)
    full, _ = pictures(SHOWN)
    nothing = np.zeros_like(SHOWN.object)
    unasked = replace(SHOWN, object=nothing, colour=nothing - 1, side=nothing - 1)
    assert share(empty, EMPTY) >= 0.97
    assert share(full, unasked) <= 0.04


@pytest.mark.parametrize("slot", ["object", "colour"])
def test_strict_objects_reject_another_kind_or_colour(slot: str) -> None:
    images, _ = pictures(SHOWN)
    wrong = SHOWN.object % 3 + 1 if slot == "object" else (SHOWN.colour + 1) % 4
    assert share(images, replace(SHOWN, **{slot: wrong})) <= 0.05


def test_strict_objects_accept_open_requests() -> None:
    images, _ = pictures(SHOWN[:8])
    open_kind = replace(SHOWN[:8], object=np.full(8, -1))
    assert strict_objects(torch.zeros_like(images), open_kind).all()
    open_rest = replace(SHOWN[:8], colour=np.full(8, -1), time=np.full(8, -1))
    assert fit_objects(images, open_rest).verdict.tolist() == SHOWN[:8].object.tolist()


def test_strict_object_verdict_does_not_depend_on_the_batch() -> None:
    images, _ = pictures(SHOWN[:40])
    whole = fit_objects(images, SHOWN[:40])
    alone = fit_objects(images[[35]], SHOWN[[35]])
    assert torch.allclose(whole.error[[35]], alone.error, atol=1e-4)
    assert torch.allclose(whole.overlap[[35]], alone.overlap, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_object_drawings_match_the_renderer(kind: str) -> None:
    rows = np.flatnonzero(SHOWN.object == 1 + KINDS.index(kind))[:10]
    scenes = SHOWN[rows]
    pose = torch.from_numpy(np.concatenate(object_pose(scenes), axis=1))
    alpha = draw(kind, pose).alpha.unflatten(1, (32, 32))
    _, masks = pictures(scenes)
    object_pixels = masks == 9 + KINDS.index(kind)
    assert ((alpha > 0.5) == object_pixels).float().mean() > 0.985
    assert (alpha[object_pixels] > 0).all()


def test_outline_overlap_detects_a_larger_object() -> None:
    alpha, wide = torch.zeros(2, 1, 32, 32)
    alpha[:, 10:20, 10:20] = 1
    wide[:, 10:20, 7:23] = 1
    colour = torch.tensor([0.9, 0.1, 0.1])[None, :, None, None]
    exact, larger = (colour * m[:, None] + 0.3 * (1 - m[:, None]) for m in (alpha, wide))
    canvas = colour * alpha[:, None]
    assert outline_overlap(exact, canvas, alpha).item() == pytest.approx(1, abs=1e-3)
    assert outline_overlap(larger, canvas, alpha).item() < 0.75
    assert outline_overlap(torch.full_like(exact, 0.3), canvas, alpha).item() < 0.01
