"""The pictures: the same at every size, in agreement with their scenes, not told by colour."""

from __future__ import annotations

import numpy as np
import pytest

from ldmlab.data.vistas import render as renderer
from ldmlab.data.vistas.materials import MASK_LABELS
from ldmlab.data.vistas.render import render
from ldmlab.data.vistas.scene import JITTERS, SLOTS, sample_scenes

SCENES = sample_scenes(0, np.arange(1_200))
IMAGES, MASKS = render(SCENES, 32)


def area(label: str) -> np.ndarray:
    return (MASK_LABELS.index(label) == MASKS).sum((1, 2))


def test_rendered_image_does_not_depend_on_its_batch() -> None:
    rows = [700, 3, 41]
    images, masks = render(SCENES[rows], 32)
    assert np.array_equal(images, IMAGES[rows])
    assert np.array_equal(masks, MASKS[rows])


@pytest.mark.parametrize("size", [64, 128])
def test_rendered_scene_agrees_across_sizes(size: int) -> None:
    images, masks = render(SCENES[:24], size)
    step = size // 32
    small = images.reshape(24, 32, step, 32, step, 3).mean((2, 4))
    assert np.sqrt(((small - IMAGES[:24]) ** 2).mean()) < 6
    centre = masks[:, step // 2 :: step, step // 2 :: step]
    assert (centre == MASKS[:24]).mean() > 0.94


@pytest.mark.parametrize("kind", ["house", "tree", "boat"])
def test_masks_show_the_object_where_it_was_placed(kind: str) -> None:
    asked = SCENES.object == SLOTS["object"].index(kind)
    assert (area(kind)[~asked] == 0).all()
    assert area(kind)[asked].min() >= 50
    columns = (MASK_LABELS.index(kind) == MASKS).sum(1)[asked]
    centre = (columns * np.arange(32)).sum(1) / columns.sum(1)
    assert ((centre > 16) == (SCENES.side[asked] == 1)).all()


@pytest.mark.parametrize("slot", ["ground", "backdrop"])
def test_masks_show_the_land(slot: str) -> None:
    for number, value in enumerate(SLOTS[slot]):
        if value == "flat":
            continue
        asked = SCENES.slot(slot) == number
        assert (area(value)[asked] > 20).all()
        if value != "desert":  # the sand of an island
            assert (area(value)[~asked] == 0).all()


def test_masks_show_clouds_in_cloudy_skies_only() -> None:
    assert (area("cloud")[SCENES.sky == 0] == 0).all()
    assert (area("cloud")[SCENES.sky == 1] > 5).all()


def test_sun_or_moon_disc_does_not_tell_the_time() -> None:
    shown = [(area("disc") > 0)[SCENES.time == time].mean() for time in range(3)]
    sizes = [area("disc")[(SCENES.time == time) & (area("disc") > 0)].mean() for time in range(3)]
    assert np.ptp(shown) < 0.1
    assert np.ptp(sizes) < 3


def test_nights_are_dark_but_not_black() -> None:
    bright = [IMAGES[SCENES.time == time].mean() for time in range(3)]
    assert bright[2] < 0.6 * bright[0]
    assert bright[2] > 60


def test_mean_colour_does_not_tell_the_class() -> None:
    means, labels = IMAGES.mean((1, 2)), SCENES.label
    centres = np.stack([means[:800][labels[:800] == k].mean(0) for k in range(12)])
    nearest = ((means[800:, None] - centres) ** 2).sum(-1).argmin(1)
    assert (nearest == labels[800:]).mean() < 0.2


def test_every_nuisance_uniform_is_used_once() -> None:
    canvas = renderer._Canvas(SCENES[:2], 8)
    canvas.paint()
    assert canvas._next == JITTERS


def test_rendered_world_has_known_means_and_areas() -> None:
    """The packaged judges were trained on these pictures: a changed world needs new ones."""
    assert IMAGES[:100].mean((0, 1, 2)) == pytest.approx(KNOWN_MEANS, abs=0.02)
    assert np.bincount(MASKS[:100].ravel(), minlength=12) == pytest.approx(KNOWN_AREAS, abs=5)


KNOWN_MEANS = [117.264, 117.123, 137.368]
KNOWN_AREAS = [40564, 2950, 3281, 3221, 5825, 12202, 8568, 7763, 8836, 3670, 3313, 2207]
