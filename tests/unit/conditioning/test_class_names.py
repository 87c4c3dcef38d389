"""Classes by number, range and name, and what is refused of them."""

from __future__ import annotations

import pytest

from ldmlab.conditioning.class_names import asked_class, asked_classes
from ldmlab.core.errors import UserError

NAMES = ("cat", "dog", "red fox", "tench, Tinca", "a-b", "owl's nest")


@pytest.mark.parametrize(
    ("asked", "numbers"),
    [
        (3, [3]),
        ([0, 5], [0, 5]),
        ("2", [2]),
        ("0-2,5", [0, 1, 2, 5]),
        ("[5, 0-1]", [5, 0, 1]),
        ("red fox,cat", [2, 0]),
        ("tench, Tinca", [3]),
        ("['tench, Tinca', 1, \"dog\"]", [3, 1, 1]),
        ("a-b,4-5", [4, 4, 5]),
        ("owl's nest,2", [5, 2]),
        (["dog", 0, "4-5"], [1, 0, 4, 5]),
        ("1,1", [1, 1]),
    ],
)
def test_classes_are_found_in_their_order(asked: int | str | list[int], numbers: list[int]) -> None:
    assert asked_classes("labels", asked, 6, NAMES) == numbers


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("6", "labels: class 6 is not one of the model's 6"),
        (-1, "labels: class -1 is not one of the model's 6"),
        ("-1", "class -1 is not one"),
        ("4-6", "class 6 is not one"),
        ("3-1", "labels=3-1 is an empty range: write 1-3"),
        ("dgo", "labels: the run has no class named 'dgo'; did you mean dog?"),
        ("zebra", "'zebra': it knows cat, dog, red fox, tench, Tinca, a-b, …"),
        ("", "labels= names no class"),
        ("cat,,'", "no class named"),
    ],
)
def test_what_is_no_class_is_refused(asked: int | str, said: str) -> None:
    with pytest.raises(UserError) as refused:
        asked_classes("labels", asked, 6, NAMES)
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_names_of_a_run_without_names_are_refused() -> None:
    with pytest.raises(UserError, match="does not name its classes, 'cat' among them"):
        asked_classes("labels", "cat", 6)


def test_a_number_that_names_another_class_is_refused_and_a_quoted_one_obeyed() -> None:
    names = ("1", "2", "3")  # class folders that count from one
    with pytest.raises(UserError, match=r"named '2', or the class named '1': write labels=\['2'\]"):
        asked_classes("labels", "1", 3, names)
    assert asked_classes("labels", "['1',\"3\"]", 3, names) == [0, 2]
    assert asked_classes("labels", 1, 3, names) == [1]  # Python's numbers are numbers
    assert asked_classes("labels", "0-2", 3, ("0", "1", "2")) == [0, 1, 2]


def test_one_class_is_one() -> None:
    assert asked_class("also", "dog", 6, NAMES) == 1
    with pytest.raises(UserError, match="also=0-1 names 2 classes: give one"):
        asked_class("also", "0-1", 6, NAMES)
