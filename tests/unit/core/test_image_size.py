"""Sizes of images, of squares and others."""

from __future__ import annotations

from ldmlab.core.image_size import divides, height_and_width, plain_size, shown_size
from ldmlab.core.records import DataSpec


def test_square_is_one_number_however_it_is_written() -> None:
    assert plain_size([8, 8]) == plain_size(8) == 8 and plain_size([8, 16]) == (8, 16)
    assert DataSpec((8, 8), 3) == DataSpec(8, 3) and DataSpec(8, 3).frame == (8, 8)
    assert DataSpec((8, 16), 3).frame == (8, 16)


def test_sizes_say_height_first() -> None:
    assert height_and_width((2, 3)) == (2, 3)
    assert shown_size((2, 3)) == "[2,3]" and shown_size([4, 4]) == "4"


def test_both_sides_have_to_divide() -> None:
    assert divides((8, 12), 4) and not divides((8, 12), 8) and not divides((12, 8), 8)
