"""Vocabularies on disk: BERT's `vocab.txt`, or a tokenizer's folder."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ldmlab.conditioning.hub import offline
from ldmlab.conditioning.vocabulary import SPECIALS, WordPiece
from ldmlab.core.errors import UserError
from ldmlab.core.files import new_folder

_FILES = ("tokenizer.json", "vocab.txt")
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_NEEDED = SPECIALS[:4]  # nothing here masks


def read_vocabulary(source: str, key: str = "data.vocabulary") -> tuple[str, ...]:
    """The tokens of an uncased WordPiece vocabulary in order of their numbers.

    Args:
        source: A file with a token a line; a `tokenizer.json`; a folder that holds one of them;
            or the name of a model on Hugging Face.
        key: The configuration key that names it.

    Raises:
        UserError: It cannot be had, or is no such vocabulary.
    """
    key = f"{key}={source}"
    path = Path(source).expanduser()
    if path.is_dir():
        found = next((path / name for name in _FILES if (path / name).is_file()), None)
        if found is None:
            raise UserError(f"{key} holds neither {_FILES[0]} nor {_FILES[1]}: name another folder")
        _refuse_cased(path / "tokenizer_config.json", key)
        path = found
    elif not path.is_file():
        path = _download(source, key)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{key} cannot be read: {error}") from error
    tokens = _from_json(text, key) if path.suffix == ".json" else _from_lines(text)
    if missing := [special for special in _NEEDED if special not in tokens]:
        raise UserError(f"{key} lacks {missing[0]}: it is no WordPiece list")
    if len(set(tokens)) < len(tokens):
        twice = Counter(tokens).most_common(1)[0][0]
        raise UserError(f"{key} has '{twice}' twice: it is no WordPiece list")
    return tokens


def write_vocabulary(folder: str | os.PathLike[str], tokens: Sequence[str]) -> None:
    """Write a tokenizer's folder, which `read_vocabulary` and transformers' BERT read.

    Args:
        folder: Must not exist, or be empty.
        tokens: The vocabulary.

    Raises:
        UserError: The folder exists or cannot be written.
    """
    config = {"tokenizer_class": "BertTokenizer", "do_lower_case": True}
    lines = "".join(f"{token}\n" for token in tokens)
    with new_folder(folder) as partial:
        (partial / "vocab.txt").write_text(lines, encoding="utf-8")
        (partial / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
        WordPiece(tokens).save(partial / "tokenizer.json")


def _from_lines(text: str) -> tuple[str, ...]:
    # Not splitlines: some tokens are line ends of other kinds.
    lines = [line.removesuffix("\r") for line in text.removeprefix("\ufeff").split("\n")]
    return tuple(lines[:-1] if lines[-1] == "" else lines)


def _from_json(text: str, key: str) -> tuple[str, ...]:
    try:
        told: dict[str, Any] = json.loads(text)
        model, normalizer = told["model"], dict(told.get("normalizer") or {})
        kind, numbers = model["type"], dict(model["vocab"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(f"{key}: its tokenizer.json cannot be read: {error}") from error
    if kind != "WordPiece" or model.get("continuing_subword_prefix") != "##":
        raise UserError(f"{key} is a {kind} tokenizer; name a WordPiece one, such as BERT's")
    if not normalizer.get("lowercase"):
        raise _cased(key)
    whole = all(type(number) is int for number in numbers.values())
    if not whole or sorted(numbers.values()) != list(range(len(numbers))):
        raise UserError(f"{key}: the numbers in its tokenizer.json have gaps")
    return tuple(sorted(numbers, key=numbers.__getitem__))


def _refuse_cased(config: Path, key: str) -> None:
    try:
        told = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if isinstance(told, dict) and told.get("do_lower_case") is False:
        raise _cased(key)


def _cased(key: str) -> UserError:
    return UserError(f"{key} keeps capitals; captions are lower-cased here: name an uncased one")


def _download(source: str, key: str) -> Path:
    """The file of a name on Hugging Face, from its cache where it is there."""
    if not _HUB_NAME.fullmatch(source):
        raise UserError(f"{key} does not exist: name a vocab.txt or a tokenizer's folder")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    problem: Exception | None = None
    local = offline()
    for name in _FILES:
        try:
            return Path(hf_hub_download(source, name, local_files_only=local))
        except EntryNotFoundError as error:  # perhaps it has the other file
            problem = error
        except Exception as error:  # no such name, no right to it
            problem = error
            break
    why = "it cannot be reached" if local else type(problem).__name__
    raise UserError(
        f"{key} is no file here, and Hugging Face does not give it ({why}): name a vocab.txt or a "
        "tokenizer's folder"
    ) from problem
