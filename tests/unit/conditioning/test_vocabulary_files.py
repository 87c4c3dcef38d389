"""Vocabularies on disk: what is read, what is made, and what is refused."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch

from ldmlab.conditioning.vocabulary import SPECIALS, WordPiece
from ldmlab.conditioning.vocabulary_files import (
    read_vocabulary,
    write_vocabulary,
)
from ldmlab.conditioning.vocabulary_making import build_vocabulary, train_vocabulary
from ldmlab.core.errors import UserError

CAPTIONS = ("a red house by the sea", "Two houses, ONE tree near the hill.", "café 北京 🏠") * 5
ODD = ["The RED houses", "", "unseen zebra, [SEP] 100%", "Über-café\x00 北", "tree " * 300]


@pytest.fixture(scope="module")
def tokens() -> tuple[str, ...]:
    return train_vocabulary(CAPTIONS, 230)


def test_vocabulary_training_is_deterministic(tokens) -> None:
    assert tokens == train_vocabulary(list(CAPTIONS), 230)
    assert tokens[:5] == SPECIALS and len(tokens) == len(set(tokens)) <= 230
    assert {"house", "tree", "北"} <= set(tokens) and "House" not in tokens
    pieces = WordPiece(tokens, 30)
    known = pieces(["quartz vex 北京", "a house"])
    assert tokens.index("[UNK]") not in known.flatten().tolist()


@pytest.mark.parametrize("form", ["folder", "vocab.txt", "tokenizer.json", "windows"])
def test_vocabulary_file_round_trips(tmp_path: Path, tokens, form: str) -> None:
    write_vocabulary(tmp_path / "words", tokens)
    path = tmp_path / "words" / ("" if form in ("folder", "windows") else form)
    if form == "windows":
        path = tmp_path / "w.txt"
        path.write_bytes("\ufeff".encode() + "\r\n".join(tokens).encode())
    assert read_vocabulary(str(path)) == tokens
    assert [p.name for p in tmp_path.iterdir() if p.suffix == ".part"] == []
    with pytest.raises(UserError, match=r"out=.*words exists and is not overwritten"):
        write_vocabulary(tmp_path / "words", tokens)


def test_wordpiece_ids_match_transformers(tmp_path: Path, tokens) -> None:
    transformers = pytest.importorskip("transformers", reason="the extra `text` is not installed")
    write_vocabulary(tmp_path / "words", tokens)
    theirs = transformers.BertTokenizerFast.from_pretrained(tmp_path / "words")
    assert len(theirs) == len(tokens)
    expected = theirs(ODD, padding="max_length", truncation=True, max_length=77)["input_ids"]
    with pytest.warns(UserWarning, match="1 of 5 captions so far are longer than 77 tokens"):
        found = WordPiece(tokens, 77)(ODD)
    assert torch.equal(found, torch.tensor(expected))


def test_wordpiece_takes_the_padding_id_of_the_vocabulary() -> None:
    words = ["a", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[PAD]"]
    assert WordPiece(words, 5)(["a"]).tolist() == [[2, 0, 3, 5, 5]]


def test_truncated_captions_are_counted_in_a_warning() -> None:
    pieces = WordPiece(build_vocabulary(CAPTIONS), 4)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(30):
            pieces(["a red house", "a"])
    assert [str(w.message)[:30] for w in said] == [
        "1 of 2 captions so far are lon", "10 of 20 captions so far are l",
    ]  # fmt: skip


def changed(path: Path, **values: object) -> str:
    told = json.loads(path.read_text())
    told.update(values)
    path.write_text(json.dumps(told))
    return str(path.parent)


def test_vocabulary_that_is_no_uncased_wordpiece_is_refused(tmp_path: Path, tokens) -> None:
    def folder(name: str) -> Path:
        write_vocabulary(tmp_path / name, tokens)
        return tmp_path / name

    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("a\nb\n")
    (tmp_path / "twice.txt").write_text("\n".join([*tokens, "house"]))
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    model = json.loads((folder("0") / "tokenizer.json").read_text())["model"]
    gap = model["vocab"] | {"new": 9999}
    cases = {
        str(tmp_path / "a.txt"): r"lacks \[PAD\]",
        str(tmp_path / "empty"): "holds neither tokenizer.json nor vocab.txt",
        str(tmp_path / "twice.txt"): "'house' twice",
        str(tmp_path / "broken.json"): "cannot be read",
        str(tmp_path / "none.txt.gz/x/y"): "does not exist",
        changed(folder("1") / "tokenizer.json", model=model | {"type": "BPE"}): "a BPE tokenizer",
        changed(folder("2") / "tokenizer.json", normalizer=None): "keeps capitals",
        changed(folder("3") / "tokenizer_config.json", do_lower_case=False): "keeps capitals",
        changed(folder("4") / "tokenizer.json", model=model | {"vocab": gap}): "have gaps",
        changed(folder("5") / "tokenizer.json", normalizer=["x"]): "cannot be read",
        changed(folder("6") / "tokenizer.json", model=model | {"vocab": ["a"]}): "cannot be read",
        changed(folder("7") / "tokenizer.json", model=model | {"vocab": {"a": "b"}}): "have gaps",
        str(tmp_path / "deep.json"): "cannot be read",
    }
    for source, said in cases.items():
        with pytest.raises(UserError, match=said) as raised:
            read_vocabulary(source)
        assert "\n" not in str(raised.value) and f"data.vocabulary={source}" in str(raised.value)


def test_vocabulary_name_without_network_is_reported_in_one_line(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("ldmlab.conditioning.vocabulary_files.offline", lambda: True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"no-such/model is no file here, and Hugging Face"):
        read_vocabulary("no-such/model")


def test_captions_without_letters_make_no_vocabulary() -> None:
    with pytest.raises(UserError, match="no letters"):
        train_vocabulary(["", " "])
    with pytest.raises(UserError, match=r"raise data\.vocabulary_size=20"):
        train_vocabulary(CAPTIONS, 20)
