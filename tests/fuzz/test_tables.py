"""Damaged tables of captions, histories and vocabularies are mistakes of their files."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import strategies as st
from tests.fuzz.harness import SPENDS, fuzz
from tests.fuzz.mutate import json_values, mutated

from ldmlab.conditioning.vocabulary import SPECIALS
from ldmlab.conditioning.vocabulary_files import read_vocabulary, write_vocabulary
from ldmlab.core.errors import UserError
from ldmlab.core.history import read_history
from ldmlab.data.sources.captions import FolderCaptions

NAMES = ["a.png", "b/c.png"]
TOKENS = [*SPECIALS, *"abcdefgh", *(f"##{x}" for x in "abcdefgh"), "sea", "house"]
CELL = st.text(max_size=12) | st.sampled_from(("file_name", "text", "a.png", "b/c.png", "\0", '"'))


@st.composite
def csv_files(draw: st.DrawFn) -> bytes:
    """Tables as csv writes them, of odd cells."""
    head = draw(st.sampled_from((["file_name", "text"], ["path", "caption", "path"], [])))
    rows = [head, *draw(st.lists(st.lists(CELL, max_size=4), max_size=5))]
    file = io.StringIO()
    writer = csv.writer(file, delimiter=draw(st.sampled_from(",;\t")))
    writer.writerows(rows)
    encoding = draw(st.sampled_from(("utf-8", "utf-16", "latin-1")))
    return file.getvalue().encode(encoding, "replace")


@st.composite
def jsonl_files(draw: st.DrawFn) -> bytes:
    """Lines of JSON, most of them rows."""
    row = st.fixed_dictionaries(
        {}, optional={key: json_values(4) | CELL for key in ("file_name", "text", "caption")}
    )
    lines = draw(st.lists(row | json_values(4), max_size=5))
    deep = draw(st.sampled_from(("", "[" * 100_000, '{"a":' * 50_000, "1" * 5000)))
    return "\n".join([*map(json.dumps, lines), deep]).encode("utf-8", "surrogatepass")


def captions(root: Path, table: str):
    def read(data: bytes) -> None:
        (root / table).write_bytes(data)
        found = FolderCaptions(root, root, root, table, NAMES)
        assert found.several in (True, False)
        for name in NAMES:
            for text in found(name):
                text.encode()

    return read


CSV = (b'file_name,text\na.png,the sea\nb/c.png,"a house, and a tree"\n', b"path;caption\na.png;x")
JSONL = (b'{"file_name": "a.png", "text": ["x", "y"]}\n{"file_name": "b/c.png", "text": "z"}\n',)


@pytest.mark.parametrize("spend", SPENDS)
@pytest.mark.parametrize("table", ["a.csv", "a.jsonl"])
def test_damaged_caption_table_is_read_or_refused(tmp_path: Path, table: str, spend: float) -> None:
    inputs = mutated(CSV) | csv_files() if table == "a.csv" else mutated(JSONL) | jsonl_files()
    fuzz(captions(tmp_path, table), inputs, (UserError,), 40, spend)


@pytest.mark.parametrize("spend", SPENDS)
def test_damaged_history_is_read_or_refused(tmp_path: Path, spend: float) -> None:
    path = tmp_path / "metrics.csv"
    whole = b"step,train/loss,val/loss\n9,0.5,\n19,0.25,1e-3\n"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        read_history(path)

    fuzz(read, mutated([whole]) | csv_files(), (UserError,), 40, spend)


@st.composite
def tokenizers(draw: st.DrawFn, whole: dict[str, object]) -> bytes:
    """A tokenizer's JSON in which any value is another one, a level or two down."""
    told = json.loads(json.dumps(whole))
    for _ in range(draw(st.integers(1, 3))):
        table, key = told, draw(st.sampled_from(sorted(told)))
        if isinstance(table[key], dict) and table[key] and draw(st.booleans()):
            table = table[key]
            key = draw(st.sampled_from(sorted(table)))
        table[key] = draw(json_values(5))
    return json.dumps(told).encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("spend", SPENDS)
@pytest.mark.parametrize("name", ["vocab.txt", "tokenizer.json"])
def test_damaged_vocabulary_is_read_or_refused(tmp_path: Path, name: str, spend: float) -> None:
    write_vocabulary(tmp_path / "words", TOKENS)
    path = tmp_path / "words" / name
    whole = path.read_bytes()
    inputs = mutated([whole])
    if name == "tokenizer.json":
        inputs = inputs | tokenizers(json.loads(whole)) | st.just(b"[" * 100_000)

    def read(data: bytes) -> None:
        path.write_bytes(data)
        assert all(isinstance(token, str) for token in read_vocabulary(str(path)))

    fuzz(read, inputs, (UserError,), 40, spend)
