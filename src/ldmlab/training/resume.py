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
        data: What was told of its training data; None if nothing was.
    """

    path: Path
    stage: str
    step: int
    vocabulary: tuple[str, ...] | None = None
    identity: Mapping[str, Any] | None = None
    data: Mapping[str, Any] | None = None

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
        identity, data = metadata.get("identity"), metadata.get("data")
        return cls(Path(path), stage, step, vocabulary, identity, data)

    def check_same(
        self,
        identity: Mapping[str, Any],
        vocabulary: tuple[str, ...] | None,
        data: Mapping[str, Any],
    ) -> None:
        """A run goes on as what it was begun as.

        Args:
            identity: What decides its result now.
            vocabulary: The tokens of the captions now.
            data: What is told of its training data now.

        Raises:
            UserError: It was begun with another value of a key, or on other data.
        """
        before = identity if self.identity is None else self.identity  # brought in by `convert`
        if other := sorted(before.keys() ^ identity.keys()):
            raise UserError(
                f"{self.path} is of another model than this configuration's: only one of them "
                f"has {other[0]}"
            )
        for key, value in identity.items():
            if before[key] != value:
                raise UserError(
                    f"{self.path} was trained with {key}={before[key]}, not {value}: begin "
                    "another run with run_id=<name>, from its weights with "
                    "stages.<stage>.weights=<run> if you like"
                )
        for what, value in data.items():
            if (self.data or data).get(what) != value:
                told = "" if what == "files" else f" ({(self.data or {}).get(what)}, now {value})"
                raise UserError(
                    f"{self.path} was trained on other {what}{told}: bring data.root to what it "
                    "was, or begin another run with run_id=<name>"
                )
        # A token number means the same word before and after an interruption.
        if self.vocabulary != vocabulary:
            raise UserError(
                f"{self.path} was trained on captions in other tokens than these: give "
                "data.vocabulary and data.root as they were, or another run_id"
            )


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
