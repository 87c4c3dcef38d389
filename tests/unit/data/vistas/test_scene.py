"""The world's attributes: a function of position, balanced, with compositions held out."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from ldmlab.core.errors import UserError
from ldmlab.data.vistas.caption import WORDS, captions, parse, scenes_from_captions
from ldmlab.data.vistas.hashing import uniforms
from ldmlab.data.vistas.scene import CLASSES, SLOTS, is_held_out, sample_scenes


def test_scene_uniforms_depend_on_index_only_and_are_uniform() -> None:
    values = uniforms(3, np.arange(20_000), 4)
    picked = uniforms(3, np.array([17, 5]), 2)
    assert np.array_equal(picked, values[[17, 5], :2])
    assert np.abs(values.mean(0) - 0.5).max() < 0.01
    assert np.abs(values.std(0) - 12**-0.5).max() < 0.01
    assert np.abs(np.corrcoef(values.T) - np.eye(4)).max() < 0.03
    assert np.abs(np.corrcoef(values[1:, 0], values[:-1, 0])[0, 1]) < 0.03
    assert not np.any(uniforms(4, np.arange(100), 4) == values[:100])
    assert not np.any(uniforms(3, np.arange(100), 4, stream=1) == values[:100])


def test_scenes_are_equal_in_a_fresh_process() -> None:
    code = (
        "import numpy as np; from ldmlab.data.vistas.caption import captions;"
        "from ldmlab.data.vistas.scene import sample_scenes;"
        "print('|'.join(captions(sample_scenes(5, np.array([9, 1, 10**9])))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    expected = captions(sample_scenes(5, np.arange(10)))
    assert done.stdout.strip().split("|")[:2] == [expected[9], expected[1]]


def test_held_out_compositions_are_balanced() -> None:
    kind, colour, ground, time = (
        axis.ravel() for axis in np.meshgrid(range(1, 4), range(4), range(4), range(3))
    )
    hidden = is_held_out(kind, colour, ground, time)
    assert hidden.sum() == 12
    assert np.bincount(kind[hidden], minlength=4).tolist() == [0, 4, 4, 4]
    assert np.bincount(colour[hidden]).tolist() == [3, 3, 3, 3]
    assert np.bincount(ground[hidden]).tolist() == [3, 3, 3, 3]
    assert np.bincount(time[hidden]).tolist() == [4, 4, 4]


def test_held_out_compositions_appear_only_on_request() -> None:
    normal = sample_scenes(0, np.arange(20_000))
    special = sample_scenes(0, np.arange(3_000), held_out=True)
    assert not normal.held_out.any()
    assert special.held_out.all()
    triples = {tuple(t) for t in np.stack([special.object, special.colour, special.ground]).T}
    assert len(triples) == 12


def test_scene_slots_are_uniform_and_independent() -> None:
    scenes = sample_scenes(0, np.arange(30_000))
    shown = scenes.object > 0
    for slot, values in SLOTS.items():
        column = scenes.slot(slot)
        if slot in ("colour", "side"):
            assert np.array_equal(column == -1, ~shown)
            column = column[shown]
        share = np.bincount(column, minlength=len(values)) / len(column)
        assert np.abs(share - 1 / len(values)).max() < 0.03
    for colour in range(4):
        kinds = np.bincount(scenes.object[shown & (scenes.colour == colour)], minlength=4)[1:]
        assert np.abs(kinds / kinds.sum() - 1 / 3).max() < 0.03
    assert sorted(set(scenes.label.tolist())) == list(range(len(CLASSES))) == list(range(12))


def test_scenes_can_be_indexed() -> None:
    scenes = sample_scenes(0, np.arange(20))
    assert captions(scenes[[3, 7]]) == (captions(scenes)[3], captions(scenes)[7])
    assert len(scenes[4:9]) == 5
    with pytest.raises(KeyError):
        scenes.slot("weather")


def test_scene_captions_are_short_and_parse_back() -> None:
    scenes = sample_scenes(1, np.arange(3_000))
    texts = captions(scenes)
    assert max(len(text.split()) for text in texts) <= 19
    assert {word for text in texts for word in text.split()} <= set(WORDS)
    again = scenes_from_captions(texts)
    for slot in SLOTS:
        assert np.array_equal(again.slot(slot), scenes.slot(slot))
    assert captions(again) == texts


def test_scene_caption_reads_as_english() -> None:
    text = "a red house on the left of a snowfield with mountains under a clear sky at night"
    assert parse(text) == {
        "colour": "red",
        "object": "house",
        "side": "left",
        "ground": "snow",
        "backdrop": "mountains",
        "sky": "clear",
        "time": "night",
    }
    assert captions(scenes_from_captions([text])) == (text,)


def test_parse_leaves_unnamed_slots_open() -> None:
    assert parse("A blue boat, at sunset.") == {
        "colour": "blue",
        "object": "boat",
        "time": "sunset",
    }
    assert scenes_from_captions(["a boat"]).ground.tolist() == [-1]


def test_parse_refuses_unknown_or_conflicting_words() -> None:
    with pytest.raises(UserError, match=r"'hause'.*did you mean 'house'"):
        parse("a red hause")
    with pytest.raises(UserError, match="'zeppelin'"):
        parse("a zeppelin")
    with pytest.raises(UserError, match="two values of colour"):
        parse("a red blue house")
