"""Prompts of text files and tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ldmlab.conditioning.asked import read_prompts
from ldmlab.core.errors import UserError

PROMPTS = ["a red house, on the left", 'the "sea"', "Schnee über Höfen"]


def test_prompts_are_the_same_in_every_form(tmp_path: Path) -> None:
    quoted = [text.replace('"', '""') for text in PROMPTS]
    forms = {
        "a.txt": "\n\n".join(PROMPTS),
        "a.csv": "name,Prompt\n" + "".join(f'{k},"{text}"\n' for k, text in enumerate(quoted)),
        "b.csv": "caption;n\n" + "".join(f'"{text}";3\n' for text in quoted),
        "a.jsonl": "".join(json.dumps({"text": text, "n": 1}) + "\n" for text in PROMPTS),
    }
    for name, content in forms.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
        assert read_prompts(tmp_path / name) == PROMPTS, name


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "n,m\n1,2\n", "prompts: .* has the columns n, m, and none of prompt, text"),
        ("a.csv", "n,text\n1,a\n2,\n", "row 2 has no text in the column text"),
        ("a.csv", "text\n", "holds no rows"),
        ("a.jsonl", '{"prompt": 3}\n', "row 1 has no text in the column prompt"),
        ("a.jsonl", '{"prompt"\n', "prompts: line 1 of .* is no JSON"),
        ("a.txt", "\n \n", "holds no caption"),
    ],
)
def test_what_holds_no_prompts_is_refused(
    tmp_path: Path, name: str, content: str, said: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=said):
        read_prompts(tmp_path / name)
    with pytest.raises(UserError, match="cannot be read"):
        read_prompts(tmp_path / f"none{Path(name).suffix}")
