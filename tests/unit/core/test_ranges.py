"""Ranges say what they expect and refuse everything else, by the argument's name."""

from __future__ import annotations

import math
import pickle
from typing import Literal

import pytest

from ldmlab.core.errors import ArgumentError
from ldmlab.core.ranges import (
    Range,
    above,
    at_least,
    between,
    finite,
    fraction,
    multiple_of,
    natural,
    non_negative,
    one_of,
    positive,
    positive_int,
    probability,
    share,
    whole_in,
)


@pytest.mark.parametrize(
    ("allowed", "words"),
    [
        (positive_int, "a whole number above 0"),
        (positive_int.or_none, "a whole number above 0, or null"),
        (positive_int.many(1), "a list of 1 or more, each a whole number above 0"),
        (fraction.many(2, 2), "a list of 2, each a number from 0 to below 1"),
        (finite.many(1, 3), "a list of 1 to 3, each a finite number"),
        (multiple_of(8), "a positive multiple of 8"),
        (whole_in(0, 255), "a whole number from 0 to 255"),
        (at_least(1), "a finite number from 1 up"),
        (above(0.2, "low"), "a finite number above low=0.2"),
        (one_of(Literal["hinge", "vanilla"]), "hinge or vanilla"),
        (one_of(Literal["a", "b", "c"]), "a, b or c"),
    ],
)
def test_range_error_names_argument_range_and_value(allowed: Range, words: str) -> None:
    with pytest.raises(ArgumentError) as refusal:
        allowed(lengths="many")
    error = refusal.value
    assert (error.argument, error.expects, error.value) == ("lengths", words, "many")
    assert str(error) == f"lengths must be {words}; got 'many'"


def test_first_argument_out_of_range_is_named() -> None:
    positive_int(steps=1, bins=2)
    with pytest.raises(ArgumentError, match=r"^bins must be .*; got 0$"):
        positive_int(steps=1, bins=0, history=-1)


@pytest.mark.parametrize("value", [True, False, math.nan, math.inf, -math.inf, None, "1", [1]])
def test_non_finite_numbers_are_out_of_every_range(value: object) -> None:
    for allowed in (finite, positive_int, at_least(-1), whole_in(0, 1), fraction):
        with pytest.raises(ArgumentError):
            allowed(x=value)


def test_range_checks_lists_by_length_and_entries() -> None:
    pairs = whole_in(0, 9).many(2, 2)
    pairs(x=[0, 9])
    pairs(x=(1, 2))
    pairs.many()(x=[])
    for wrong in ([1], [1, 2, 3], [1, 10], "12", {1, 2}):
        with pytest.raises(ArgumentError):
            pairs(x=wrong)


def test_range_does_not_take_a_word_for_a_list() -> None:
    letters = one_of(Literal["a", "b"]).many()
    letters(x=["a", "b"])
    with pytest.raises(ArgumentError):
        letters(x="ab")


def test_range_error_pickles() -> None:
    error = pickle.loads(pickle.dumps(ArgumentError("steps", "above 0", 0)))
    assert (error.argument, error.expects, error.value) == ("steps", "above 0", 0)


@pytest.mark.parametrize(
    ("allowed", "inside", "outside"),
    [
        (positive_int, [1, 2], [0, -1, 1.0]),
        (natural, [0, 1], [-1, 0.0]),
        (positive, [1e-9, 1], [0, -1]),
        (non_negative, [0, 1.5], [-1e-9]),
        (probability, [0, 1, 0.5], [-1e-9, 1 + 1e-9]),
        (share, [1e-9, 1], [0, 1 + 1e-9]),
        (fraction, [0, 0.999], [1, -1e-9]),
        (above(2), [2.001], [2]),
        (at_least(2), [2], [1.999]),
        (between(1, 2), [1.5], [1, 2]),
        (whole_in(0, 255), [0, 255], [-1, 256]),
        (multiple_of(8), [8, 16], [0, -8, 4, 12]),
        (positive_int.or_none, [None, 1], [0]),
    ],
)
def test_ranges_include_and_exclude_their_ends(
    allowed: Range, inside: list[object], outside: list[object]
) -> None:
    for value in inside:
        allowed(x=value)
    for value in outside:
        with pytest.raises(ArgumentError):
            allowed(x=value)
