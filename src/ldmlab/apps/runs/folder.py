"""Run folders: `<root>/<experiment>/<stage>/<run id>/`, and how a path leads to one."""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from omegaconf import DictConfig, OmegaConf

from ldmlab.apps.config.suggest import did_you_mean
from ldmlab.apps.runs.environment import describe_environment, redact
from ldmlab.core.errors import UserError
from ldmlab.core.files import sweep_partial, told_if_unwritable, write_json, write_text

_LATEST = "latest"
# Hydra refuses `=` in values, shells split at spaces, and `..` leaves the folder.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class RunFolder:
    """One run of one stage on disk.

    Attributes:
        path: The folder.
    """

    path: Path

    @classmethod
    def create(cls, root: str | Path, experiment: str, stage: str, id: str) -> Self:
        """Make the folder of a run, or find it again, with its inner folders.

        Args:
            root: Folder of all runs.
            experiment: Name of the experiment.
            stage: Name of the stage.
            id: Name of the run, from `run_id` or from the user.

        Raises:
            UserError: If a name could not be part of a path or of a command line.
        """
        for key, name in (("name", experiment), ("stage", stage), ("run_id", id)):
            if not _NAME.fullmatch(str(name)) or str(name) == _LATEST:
                raise UserError(
                    f"{key}={name} cannot name a folder: use letters, digits, '-', '_' and '.', "
                    f"and not '{_LATEST}'"
                )
        folder = cls(Path(root) / str(experiment) / stage / str(id))
        try:
            folder.checkpoints.mkdir(parents=True, exist_ok=True)
            folder.samples.mkdir(exist_ok=True)
        except OSError as error:
            raise UserError(
                f"cannot create the run folder {folder.path} ({error.strerror}): "
                f"set paths.runs to a folder that can be written"
            ) from error
        return folder

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def samples(self) -> Path:
        """Folder of the sampled images."""
        return self.path / "samples"

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def environment(self) -> Path:
        """Versions, commit and devices."""
        return self.path / "environment.json"

    @property
    def metrics(self) -> Path:
        """Numbers logged while training."""
        return self.path / "metrics.csv"

    @property
    def card(self) -> Path:
        """The metric card."""
        return self.path / "card.json"

    def write_config(self, cfg: DictConfig | Mapping[str, Any]) -> None:
        """Write the configuration, resolved and free of the environment's secrets."""
        tree = cfg if isinstance(cfg, DictConfig) else OmegaConf.create(dict(cfg))
        write_text(self.config, redact(OmegaConf.to_yaml(tree, resolve=True)))

    def write_environment(self) -> None:
        """Write what the run runs on."""
        write_json(self.environment, describe_environment())

    def write_card(self, card: Mapping[str, Any]) -> None:
        """Write the metric card."""
        write_json(self.card, card)

    def read_card(self) -> dict[str, Any]:
        """Read the metric card.

        Raises:
            UserError: If there is none, or it is damaged.
        """
        try:
            card: dict[str, Any] = json.loads(self.card.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise UserError(
                f"{self.path} has no card.json: run `ldmlab evaluate run={self.path}`"
            ) from error
        except ValueError as error:
            raise UserError(f"{self.card} is damaged ({error}): delete it and evaluate") from error
        return card

    def sweep(self) -> None:
        """Remove the unfinished files of processes killed long ago."""
        for folder in (self.path, self.checkpoints, self.samples):
            sweep_partial(folder)

    def link_latest(self) -> None:
        """Point `latest`, beside the folder, at this run."""
        link = self.path.parent / _LATEST
        fresh = link.with_name(f".{_LATEST}.{uuid.uuid4().hex[:8]}")
        # Relative, so that the whole tree can be moved; renamed, so that it never lacks.
        with told_if_unwritable(link):
            fresh.symlink_to(self.path.name, target_is_directory=True)
            fresh.replace(link)


def find_run(path: str | os.PathLike[str]) -> RunFolder:
    """The run that a path means: its folder, a `latest` link, a stage's folder, a checkpoint.

    Raises:
        UserError: If the path leads to no run, with what is there and what to write instead.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(_absent(path))
    resolved = path.resolve()
    candidates = [resolved, resolved / _LATEST]
    if resolved.is_file():
        candidates = [resolved.parent, resolved.parent.parent]
    for candidate in candidates:
        if (candidate / "config.yaml").is_file():
            return RunFolder(candidate.resolve())
    found = sorted(p.parent for p in _folder(resolved).glob("*/*/config.yaml"))
    found += sorted(p.parent for p in _folder(resolved).glob("*/config.yaml"))
    listed = [str(p) for p in found if p.name == _LATEST] or [str(p) for p in found]
    hint = f"; it holds {', '.join(listed[:3])}: name one" if listed else ": name a run's folder"
    raise UserError(f"{path} is no run (no config.yaml){hint}")


def find_checkpoint(path: str | os.PathLike[str]) -> Path:
    """The checkpoint that a path means: itself, or its run's last, best or newest one.

    Raises:
        UserError: If the path leads to no run, or the run has no checkpoint yet.
    """
    # Another file, such as config.yaml, leads to the run that it lies in.
    if Path(path).suffix == ".ckpt" and Path(path).is_file():
        return Path(path).resolve()
    run = find_run(path)
    named = [run.checkpoints / f"{name}.ckpt" for name in ("last", "best")]
    for candidate in [*named, *sorted(run.checkpoints.glob("step-*.ckpt"), reverse=True)]:
        if candidate.is_file():
            return candidate
    raise UserError(f"{run.path} has no checkpoint yet: train it first, or name another run")


def _folder(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _absent(path: Path) -> str:
    """Say how far a missing path exists, and what it could have been."""
    nearest = next(parent for parent in path.absolute().parents if parent.is_dir())
    missing = path.absolute().relative_to(nearest).parts[0]
    names = [entry.name for entry in nearest.iterdir() if not entry.name.startswith(".")]
    hint = did_you_mean(missing, names)
    if not hint:
        hint = f", which holds {', '.join(sorted(names)[:5]) or 'nothing'}"
    return f"there is no {path}: no '{missing}' in {nearest}{hint}"
