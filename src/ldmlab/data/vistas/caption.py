"""Scenes as sentences over a small closed vocabulary, and sentences as scenes."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import numpy as np

from ldmlab.core.errors import UserError
from ldmlab.data.vistas.scene import JITTERS, SLOTS, Scenes

_GROUNDS = {"sea": "the sea", "meadow": "a meadow", "desert": "a desert", "snow": "a snowfield"}
_EMPTY = {key: f"an empty {phrase.split()[-1]}" for key, phrase in _GROUNDS.items()}
_BACKDROPS = {"flat": "with a flat horizon", "hills": "with hills", "mountains": "with mountains"}
_TIMES = {"day": "by day", "sunset": "at sunset", "night": "at night"}

_MEANING = {value: (slot, value) for slot, values in SLOTS.items() for value in values}
_MEANING |= {"snowfield": ("ground", "snow"), "empty": ("object", "none")}
_MEANING |= {"hill": ("backdrop", "hills"), "mountain": ("backdrop", "mountains")}
del _MEANING["none"]  # no sentence says it: a scene without an object is "empty"
_GRAMMAR = frozenset("a an the on of with under sky at by horizon in and before".split())

WORDS = tuple(sorted(_GRAMMAR | set(_MEANING)))
"""Every word that `parse` understands; those of `captions` are among them."""


def captions(scenes: Scenes) -> tuple[str, ...]:
    """One English sentence of at most 19 words per scene, a function of its slots alone."""
    columns = [
        [values[i] if i >= 0 else "" for i in scenes.slot(slot)] for slot, values in SLOTS.items()
    ]
    return tuple(_sentence(*values) for values in zip(*columns, strict=True))


def _sentence(
    time: str, ground: str, backdrop: str, kind: str, colour: str, side: str, sky: str
) -> str:
    if kind == "none":
        subject = _EMPTY[ground]
    else:
        subject = f"a {colour} {kind} on the {side} of {_GROUNDS[ground]}"
    return f"{subject} {_BACKDROPS[backdrop]} under a {sky} sky {_TIMES[time]}"


def parse(caption: str) -> dict[str, str]:
    """The slots that a sentence names: the inverse of `captions`, and lenient about word order.

    Args:
        caption: A sentence over `WORDS`; case and punctuation do not matter.

    Returns:
        Slot names to values, for the slots that the sentence speaks of only.

    Raises:
        UserError: A word is not of this world, or two words contradict each other.
    """
    slots: dict[str, str] = {}
    for word in (raw.strip(".,;:!?\"'") for raw in caption.lower().split()):
        if word in _GRAMMAR or not word:
            continue
        if word not in _MEANING:
            near = difflib.get_close_matches(word, WORDS, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"it knows: {', '.join(WORDS)}."
            raise UserError(f"caption word '{word}' is not in the vistas world; {hint}")
        slot, value = _MEANING[word]
        if slots.setdefault(slot, value) != value:
            raise UserError(f"caption asks for two values of {slot}: '{slots[slot]}' and '{word}'.")
    return slots


def scenes_from_captions(texts: Sequence[str]) -> Scenes:
    """Scenes that ask for what the sentences name; a slot that one leaves open is -1.

    Args:
        texts: Sentences that `parse` understands.

    Returns:
        One scene per sentence with every nuisance at its middle. It may be judged; only a scene
        without open slots may be rendered.

    Raises:
        UserError: `parse` refuses a sentence.
    """
    slots = np.full((len(texts), len(SLOTS)), -1, np.int64)
    for row, text in zip(slots, texts, strict=True):
        asked = parse(text)
        for column, (slot, values) in enumerate(SLOTS.items()):
            if slot in asked:
                row[column] = values.index(asked[slot])
    return Scenes.from_table(slots, np.full((len(texts), JITTERS), 0.5))
