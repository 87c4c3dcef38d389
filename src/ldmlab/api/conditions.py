"""Conditions of the Python interface, as the batch that a model is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Integer
from torch import Tensor

from ldmlab.conditioning.conditioner import Conditioner
from ldmlab.core.errors import UserError
from ldmlab.core.records import Batch
from ldmlab.models.drawing import Start

_WORDS = {"caption": "prompt=", "label": "label=", "mask": "mask=", "image": "image="}


def conditions_of(
    conditioner: Conditioner,
    prompt: str | Sequence[str] | None,
    label: Sequence[int] | None,
    mask: Integer[Tensor, "*b h w"] | None,
    start: Start | None,
    count: int,
) -> Batch:
    """A batch of the one condition that was given, repeated where it is for all.

    Args:
        conditioner: The model's.
        prompt: Text, for every sample or for each.
        label: Numbers of classes, likewise.
        mask: Label map, likewise.
        start: Picture, and the part of it to be painted.
        count: Number of samples of a single condition.

    Raises:
        UserError: The model takes none of this kind, or needs one.
    """
    needed = conditioner.input_key
    given = {"caption": prompt, "label": label, "mask": mask, "image": start}
    for key, value in given.items():
        if value is not None and key != needed:
            takes = "no condition" if needed is None else _WORDS[needed]
            raise UserError(f"{_WORDS[key]} is not for this model, which takes {takes}")
    if needed is None:
        return Batch(index=torch.arange(count))
    rows = _rows(prompt, label, mask, start)
    if rows is None:
        raise UserError(f"this model draws what it is told: give {_WORDS[needed]}")
    rows = rows[[0] * count] if len(rows) == 1 else rows
    return replace(rows, index=torch.arange(len(rows)))


def _rows(
    prompt: str | Sequence[str] | None,
    label: Sequence[int] | None,
    mask: Tensor | None,
    start: Start | None,
) -> Batch | None:
    if prompt is not None:
        captions = (prompt,) if isinstance(prompt, str) else tuple(prompt)
        return Batch(index=torch.arange(len(captions)), caption=captions)
    if label is not None:
        labels = torch.tensor(list(label))
        return Batch(index=torch.arange(len(labels)), label=labels)
    if mask is not None:
        maps = mask.long().reshape(-1, *mask.shape[-2:])
        return Batch(index=torch.arange(len(maps)), mask=maps)
    if start is not None:
        hole = None if start.unknown is None else start.unknown[:, 0].long()
        return Batch(index=torch.arange(1), image=start.image, mask=hole)
    return None
