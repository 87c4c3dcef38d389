"""Valid files, damaged: bits flipped, ends cut, parts repeated, exchanged and overwritten."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

_LARGEST = 1 << 16  # parts that are repeated or put in
_WORDS = (
    b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80\0\0\0",
    b"\0\x01", b"\x01\0", b"99999", b"-1", b"0", b"1e400", b"nan", b'"', b"{", b"[", b"\n", b"\r\n",
)  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn, specimens: Sequence[bytes], edits: int = 4) -> bytes:
    """A specimen after a few edits, each of which leaves most of it valid."""
    data = draw(st.sampled_from(specimens))
    for _ in range(draw(st.integers(1, edits))):
        kind = draw(st.sampled_from(("flip", "word", "cut", "drop", "repeat", "splice")))
        # The first bytes are headers: half of the edits go there.
        start = draw(st.integers(0, min(len(data), 64)) | st.integers(0, len(data)))
        size = draw(st.integers(0, 32) | st.integers(0, _LARGEST))
        if kind == "flip" and start < len(data):
            flipped = data[start] ^ (1 << draw(st.integers(0, 7)))
            data = data[:start] + bytes([flipped]) + data[start + 1 :]
        elif kind == "word":
            word = draw(st.sampled_from(_WORDS) | st.binary(min_size=1, max_size=8))
            data = data[:start] + word + data[start + len(word) :]
        elif kind == "cut":
            data = data[:start]
        elif kind == "drop":
            data = data[:start] + data[start + size :]
        elif kind == "repeat":
            part = data[start : start + size]
            data = data[:start] + part * draw(st.integers(2, 5)) + data[start + size :]
        elif kind == "splice":
            other = draw(st.sampled_from(specimens))
            data = data[:start] + other[start : start + size] + data[start + size :]
    return data


def json_values(leaves: int = 12) -> SearchStrategy[object]:
    """What JSON and YAML can say, floats without a number and half characters included."""
    text = st.text(st.characters(), max_size=12)
    plain = st.none() | st.booleans() | st.integers() | st.floats() | text
    return st.recursive(
        plain,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
        max_leaves=leaves,
    )
