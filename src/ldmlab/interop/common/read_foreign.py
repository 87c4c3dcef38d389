"""Reads files from elsewhere (weights, YAML, JSON) as data, without running code in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.serialization import safe_globals

from ldmlab.core.checkpoint_file import read_checkpoint
from ldmlab.core.errors import UserError


class _Name:
    """Stands for a class that published checkpoints name as a key; nothing of it is read."""


_NAMED: list[Any] = [
    (_Name, f"pytorch_lightning.callbacks.{path}.ModelCheckpoint")
    for path in ("model_checkpoint", "base")
]


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a published checkpoint, on the CPU.

    Args:
        path: A `.safetensors` file, or one of torch, with a table `state_dict` or bare tensors.

    Raises:
        UserError: The file is missing, damaged, holds more than data, or holds no tensors.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        content = _read_safetensors(path)
    else:
        with safe_globals(_NAMED):
            content = read_checkpoint(path)
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    tensors = state if isinstance(state, dict) else {}
    if not tensors or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise UserError(f"{path} holds neither a table state_dict of tensors nor bare tensors")
    return tensors


def read_table(path: str | Path) -> dict[str, Any]:
    """A YAML file as plain tables.

    Raises:
        UserError: The file cannot be read or holds no table.
    """
    try:
        table = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"config={path} cannot be read: {error}") from error
    if not isinstance(table, dict):
        raise UserError(f"config={path} holds no table of keys")
    return table


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise UserError(f"no checkpoint at {path}")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is no safetensors file: {error}") from error
