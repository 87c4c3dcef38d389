"""Checkpoints: written whole or not at all, read without running their contents."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from torch import Tensor, nn

from ldmlab.core.errors import UserError
from ldmlab.core.files import atomic_write


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the final name, flushes and renames; a kill leaves no half file there."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write a checkpoint of tensors and plain values."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            torch.save(checkpoint, file)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Load a checkpoint's tensors and plain values on the CPU, mapped from the file.

    Args:
        path: A `.ckpt` file.

    Raises:
        UserError: The file is missing, damaged, or holds more than tensors and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no checkpoint at {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise UserError(f"checkpoint {path} is damaged (bad sum of {damaged}); use another")
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (zipfile.BadZipFile, EOFError, RuntimeError) as error:
        raise UserError(f"checkpoint {path} is cut short or no checkpoint; use another") from error
    except pickle.UnpicklingError as error:
        raise UserError(
            f"checkpoint {path} holds code or unknown objects and was not loaded; "
            "only tensors and plain values are read"
        ) from error


def load_weights(module: nn.Module, weights: Mapping[str, Tensor], misfit: str) -> None:
    """Give a module exactly these tensors.

    Args:
        module: What takes them.
        weights: Every tensor of its state by name, and no other.
        misfit: What to say of another architecture's tensors; the first difference follows.

    Raises:
        UserError: A tensor is missing, left over or of another shape.
    """
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"{misfit}: {first_difference(error)}") from error


def first_difference(error: RuntimeError) -> str:
    """What torch says of the first tensor that `load_state_dict` could not place."""
    return " ".join(str(error).split("\n\t")[1].split())


@dataclass(frozen=True)
class Resume:
    """A checkpoint that was found readable, to continue from.

    Attributes:
        path: Its file.
        stage: The stage that it is of, `autoencoder` or `diffusion`.
        step: Steps behind it.
        vocabulary: The tokens of the captions it was trained on; None for none.
        identity: What decided its result, by configuration key; None if it does not say.
    """

    path: Path
    stage: str
    step: int
    vocabulary: tuple[str, ...] | None = None
    identity: Mapping[str, Any] | None = None

    @classmethod
    def at(cls, path: str | Path) -> Resume:
        """Read a checkpoint once, for what it tells.

        Raises:
            UserError: It cannot be read, or is of no run of ours.
        """
        checkpoint = read_checkpoint(path)
        stage = stage_of(checkpoint)
        if stage is None or "steps" not in checkpoint["state_dict"]:
            raise UserError(f"checkpoint {path} is of no run of ldmlab: use another")
        metadata = checkpoint.get("metadata", {})
        tokens = metadata.get("spec", {}).get("vocabulary")
        step = int(checkpoint["state_dict"]["steps"])
        vocabulary = None if tokens is None else tuple(tokens)
        return cls(Path(path), stage, step, vocabulary, metadata.get("identity"))


def stage_of(checkpoint: Mapping[str, Any]) -> str | None:
    """The stage that a checkpoint is of, `autoencoder` or `diffusion`; None for neither."""
    stages = {"model.": "diffusion", "autoencoder.": "autoencoder"}
    names = checkpoint.get("state_dict", {})
    of_old = (s for prefix, s in stages.items() if any(n.startswith(prefix) for n in names))
    stage: str | None = checkpoint.get("metadata", {}).get("stage") or next(of_old, None)
    return stage


def newest_checkpoint(folder: Path) -> tuple[Resume, list[str]] | None:
    """The newest readable checkpoint of a folder, and a line for each damaged one before it.

    Returns:
        Both; None where the folder holds no checkpoint.

    Raises:
        UserError: None of its checkpoints can be read.
    """
    complaints = []
    paths = sorted(folder.glob("*.ckpt"), key=lambda p: p.stat().st_mtime_ns, reverse=True)
    for path in paths:
        try:
            return Resume.at(path), complaints
        except UserError as error:
            complaints.append(str(error))
    if paths:
        raise UserError(
            f"no checkpoint in {folder} can be read ({', '.join(p.name for p in paths)}): put a "
            "whole one there, start anew with resume=never, or begin another run with run_id=<name>"
        )
    return None
