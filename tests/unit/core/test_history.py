"""What a metrics.csv says, whole or not."""

from __future__ import annotations

from pathlib import Path

import pytest

from ldmlab.core.errors import UserError
from ldmlab.core.history import read_history


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("", {}),
        ("step\n", {}),
        ("step,a,b\n0,1.5,\n7,,2.0\n", {0: {"a": 1.5}, 7: {"b": 2.0}}),
        ("step,a,b\n0,1.5,2.0\n1,2.", {0: {"a": 1.5, "b": 2.0}}),
    ],
    ids=["empty", "header", "gaps", "half a line"],
)
def test_history_reads_whole_rows_only(
    tmp_path: Path, text: str, rows: dict[int, dict[str, float]]
) -> None:
    assert read_history(tmp_path / "metrics.csv") == {}
    (tmp_path / "metrics.csv").write_text(text)
    assert read_history(tmp_path / "metrics.csv") == rows


@pytest.mark.parametrize(
    "damage",
    [
        b"step,a\n0,b\n",
        b"step,a\n0,1.0,2.0\n",
        b"\xff\x00\n",
        b"\n\n",
        b'step,"a\n' + b"x" * 200_000 + b"\n",
    ],
)
def test_damaged_history_is_reported_in_one_line(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "metrics.csv").write_bytes(damage)
    with pytest.raises(UserError, match=r"metrics\.csv is damaged .* move it away"):
        read_history(tmp_path / "metrics.csv")
