"""Conditions that a user asks for, texts or numbers of classes, as the batch a model is given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from ldmlab.conditioning.class_names import asked_class
from ldmlab.conditioning.conditioner import Conditioner
from ldmlab.core.errors import UserError
from ldmlab.core.records import Batch
from ldmlab.data.sources.tables import TABLES, column_of, read_rows


def asked_conditions(
    conditioner: Conditioner, prompts: Sequence[str], labels: Sequence[int], count: int
) -> Batch | None:
    """The texts or classes that are asked for, a single one `count` times.

    Args:
        conditioner: The model's.
        prompts: Texts; none for another condition.
        labels: Numbers of classes, likewise.
        count: Number of samples of a single condition.

    Returns:
        The batch; None where the model needs a condition and is given none.

    Raises:
        UserError: The model takes none of this kind.
    """
    if prompts and conditioner.input_key != "caption":
        raise UserError("prompt= needs a model conditioned on text, and this run has another")
    if labels and conditioner.input_key != "label":
        raise UserError("labels= needs a model conditioned on classes, and this run has another")
    if prompts:
        captions = tuple(prompts) * (count if len(prompts) == 1 else 1)
        return Batch(index=torch.arange(len(captions)), caption=captions)
    if labels:
        classes = torch.tensor(list(labels) * (count if len(labels) == 1 else 1))
        return Batch(index=torch.arange(len(classes)), label=classes)
    return Batch(index=torch.arange(count)) if conditioner.input_key is None else None


def one_condition(
    value: str | int,
    key: str,
    conditioner: Conditioner,
    num_classes: int | None = None,
    names: Sequence[str] = (),
) -> Batch:
    """One caption or class, such as `also=` takes, as a batch of one.

    Args:
        value: The caption, or the class's number or name.
        key: What the user calls it.
        conditioner: The model's.
        num_classes: Number of the model's classes; None where it has none.
        names: Name of each class, as far as they have any.

    Raises:
        UserError: The model takes neither, or the value is no class.
    """
    index = torch.arange(1)
    if conditioner.input_key == "caption":
        return Batch(index=index, caption=(str(value),))
    if conditioner.input_key != "label" or num_classes is None:
        raise UserError(f"{key}= needs a model conditioned on text or on classes")
    return Batch(index=index, label=torch.tensor([asked_class(key, value, num_classes, names)]))


def read_prompts(path: str | Path) -> list[str]:
    """The texts of a file: one a line, or of a csv or jsonl table one a row.

    Args:
        path: The file; a table has a column `prompt`, `text` or `caption`.

    Raises:
        UserError: It cannot be read, or holds none, or a row has none.
    """
    path = Path(path)
    if path.suffix.lower() in TABLES:
        return _table_prompts(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"prompts={path} cannot be read: {error}") from error
    if not (prompts := [line for line in lines if line.strip()]):
        raise UserError(f"prompts={path} holds no caption: write one a line")
    return prompts


def _table_prompts(path: Path) -> list[str]:
    rows = read_rows("prompts", path)
    column = column_of("prompts", path, rows, ("prompt", "text", "caption"))
    prompts = [row.get(column) for row in rows]
    for number, prompt in enumerate(prompts, 1):
        if not isinstance(prompt, str) or not prompt.strip():
            raise UserError(f"prompts={path}: row {number} has no text in the column {column}")
    return [str(prompt) for prompt in prompts]
