"""Filters of shard samples by img2dataset's JSON metadata: size, similarity, flags."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Bool

from ldmlab.core.ranges import at_least, finite, natural, one_of, positive_int
from ldmlab.data.images.decode import decode_text, one_line

FACTS = [
    ("width", "<u4"), ("height", "<u4"), ("similarity", "<f4"), ("letters", "<u4"), ("tag", "u1"),
]  # fmt: skip
"""Pixels of the original image (0: unknown), similarity of image and caption (nan: unknown),
length of the caption, and a number for the NSFW tag."""

Tag = Literal["UNLIKELY", "UNSURE", "NSFW"]
TAGS = ("", *get_args(Tag))


def caption_of(metadata: bytes | None, text: bytes | None) -> str:
    """The caption: the text file's, else the json's, else empty."""
    if text is not None:
        return decode_text(text)
    return one_line(str(_table(metadata).get("caption") or ""))


def read_facts(row: Any, metadata: bytes | None, text: bytes | None) -> None:
    """Fill the columns of `FACTS` of one sample.

    Args:
        row: The sample's row.
        metadata: Its json.
        text: Its text file.
    """
    table = _table(metadata)
    for side in ("width", "height"):
        pixels = _number(table.get(f"original_{side}", table.get(side)))
        row[side] = 0 if math.isnan(pixels) else min(max(pixels, 0), 2**32 - 1)
    row["similarity"] = _number(table.get("similarity"))
    row["letters"] = len(caption_of(metadata, text))
    tag = str(table.get("NSFW", table.get("nsfw")) or "").upper()
    row["tag"] = TAGS.index(tag) if tag in TAGS else 0


@dataclass(frozen=True)
class Filters:
    """Which samples are wanted. One of which a wanted fact is not known is not.

    Attributes:
        min_side: Least pixels of the original's shorter side.
        max_aspect: Most times that the longer side is the shorter one.
        min_similarity: Least similarity of image and caption, in CLIP's cosine.
        nsfw: The tags to keep, of UNLIKELY, UNSURE and NSFW.
        min_caption: Least length of the caption in characters.
        max_caption: Most.

    Raises:
        ArgumentError: A number is out of its range, or a tag is unknown.
    """

    min_side: int | None = None
    max_aspect: float | None = None
    min_similarity: float | None = None
    nsfw: Sequence[Tag] | None = None
    min_caption: int | None = None
    max_caption: int | None = None

    def __post_init__(self) -> None:
        positive_int.or_none(min_side=self.min_side)
        at_least(1).or_none(max_aspect=self.max_aspect)
        finite.or_none(min_similarity=self.min_similarity)
        one_of(Tag).many(1).or_none(nsfw=self.nsfw)
        natural.or_none(min_caption=self.min_caption, max_caption=self.max_caption)

    def __call__(self, rows: np.ndarray) -> Bool[np.ndarray, " rows"]:
        """Which rows are wanted."""
        keep = np.ones(len(rows), bool)
        short = np.minimum(rows["width"], rows["height"])
        long = np.maximum(rows["width"], rows["height"])
        if self.min_side is not None:
            keep &= short >= self.min_side
        if self.max_aspect is not None:
            keep &= (short > 0) & (long <= self.max_aspect * short)
        if self.min_similarity is not None:
            keep &= rows["similarity"] >= self.min_similarity
        if self.nsfw is not None:
            keep &= np.isin(rows["tag"], [TAGS.index(tag) for tag in self.nsfw])
        if self.min_caption is not None:
            keep &= rows["letters"] >= self.min_caption
        if self.max_caption is not None:
            keep &= rows["letters"] <= self.max_caption
        return keep


def _table(metadata: bytes | None) -> dict[str, Any]:
    if metadata is None:
        return {}
    try:
        table = json.loads(metadata)
    except (ValueError, RecursionError):
        return {}
    return table if isinstance(table, dict) else {}


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
