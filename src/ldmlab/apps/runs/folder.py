"""Run folders: `<root>/<experiment>/<stage>/<run id>/`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from omegaconf import DictConfig, OmegaConf

from ldmlab.apps.runs.secrets import writable
from ldmlab.core.environment import describe_environment
from ldmlab.core.errors import UserError
from ldmlab.core.files import make_folder, point_link, sweep_partial, write_json, write_text

LATEST = "latest"
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
            if not _NAME.fullmatch(str(name)) or str(name) == LATEST:
                raise UserError(
                    f"{key}={name} cannot name a folder: use letters, digits, '-', '_' and '.', "
                    f"and not '{LATEST}'"
                )
        folder = cls(Path(root) / str(experiment) / stage / str(id))
        for part in (folder.checkpoints, folder.samples):
            make_folder(
                part,
                lambda reason: (
                    f"cannot create the run folder {folder.path} ({reason}): "
                    "set paths.runs to a folder that can be written"
                ),
            )
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
        """The configuration that it was trained with."""
        return self.path / "config.yaml"

    @property
    def environment(self) -> Path:
        """Versions, commit and devices."""
        return self.path / "environment.json"

    @property
    def data(self) -> Path:
        """What it is trained on."""
        return self.path / "data.json"

    @property
    def metrics(self) -> Path:
        """Numbers logged while training."""
        return self.path / "metrics.csv"

    @property
    def card(self) -> Path:
        """The metric card."""
        return self.path / "card.json"

    @property
    def report(self) -> Path:
        """The page about the run."""
        return self.path / "report.html"

    def write_config(self, cfg: DictConfig) -> None:
        """Write the configuration, free of the environment's secrets."""
        write_text(self.config, OmegaConf.to_yaml(writable(cfg)))

    def write_environment(self) -> None:
        """Write what the run runs on."""
        write_json(self.environment, describe_environment())

    def write_data(self, facts: Mapping[str, Any]) -> None:
        """Write what it is trained on: how many samples, and the name of each class number."""
        names = {str(number): name for number, name in enumerate(facts["classes"])}
        write_json(self.data, {**facts, "classes": names})

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
            if not isinstance(card["metrics"], dict):
                raise TypeError("its metrics are no table")
        except FileNotFoundError as error:
            raise UserError(
                f"{self.path} has no card.json: run `ldmlab evaluate run={self.path}`"
            ) from error
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f"{self.card} is damaged ({error}): delete it and evaluate") from error
        return card

    def write_seconds(self, training: float) -> None:
        """Write the wall time that its training has taken so far."""
        write_json(self._seconds, {"training": training})

    def read_seconds(self) -> float:
        """Read the wall time that its training has taken so far; 0 if it does not say."""
        try:
            return float(json.loads(self._seconds.read_text(encoding="utf-8"))["training"])
        except (OSError, ValueError, TypeError, KeyError):
            return 0.0  # of a kill before the end, or damaged: a clock is no reason to stop

    @property
    def _seconds(self) -> Path:
        return self.path / "seconds.json"

    def sweep(self) -> None:
        """Remove the unfinished files of processes killed long ago."""
        for folder in (self.path, self.checkpoints, self.samples):
            sweep_partial(folder)

    def link_latest(self) -> None:
        """Point `latest`, beside the folder, at this run."""
        point_link(self.path.with_name(LATEST), self.path.name)
