"""The state that training resumes from, read from a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from ldmlab.core.checkpoint_file import read_checkpoint, write_checkpoint
from ldmlab.core.checkpoint_keys import stage_of
from ldmlab.core.errors import UserError


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the final name, flushes and renames; a kill leaves no half file there."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write a checkpoint of tensors and plain values."""
        write_checkpoint(checkpoint, path)


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


def newest_checkpoint(folder: Path) -> tuple[Resume, list[str]] | None:
    """The newest readable checkpoint of a folder, and a line for each damaged one before it.

    Returns:
        Both; None where the folder holds no checkpoint.

    Raises:
        UserError: None of its checkpoints can be read.
    """
    complaints: list[str] = []
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
