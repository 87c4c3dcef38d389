"""The state of an experiment during training: data, run folders and times."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from ldmlab.apps.build.channel_notes import channel_notes
from ldmlab.apps.build.experiment import build_data
from ldmlab.apps.runs.folder import RunFolder
from ldmlab.apps.runs.init_weights import spec_to_start_from
from ldmlab.autoencoding.codec import Codec
from ldmlab.conditioning.conditioner import Conditioner
from ldmlab.core.errors import UserError
from ldmlab.core.locks import locked
from ldmlab.core.processes import is_main_process
from ldmlab.core.records import DataSpec
from ldmlab.data.images.dataset import image_dataset_of
from ldmlab.data.sampling.datasets import BatchDataset
from ldmlab.training.latents import LatentMaker, list_hash

# One process speaks for all.
console = Console(stderr=True, highlight=False, soft_wrap=True, quiet=not is_main_process())


@dataclass
class Session:
    """An experiment with its data, built once for both stages.

    Attributes:
        cfg: The configuration.
        train: Training data.
        validation: Validation data.
        spec: What the models must know of the data.
        seconds: Wall time of each phase so far.
        loggers: Those of the last stage that was trained.
    """

    cfg: DictConfig
    train: BatchDataset
    validation: BatchDataset
    spec: DataSpec
    seconds: dict[str, float] = field(default_factory=dict)
    loggers: list[Any] = field(default_factory=list)

    @classmethod
    def open(cls, cfg: DictConfig) -> Session:
        """Build the data of an experiment."""
        started = time.monotonic()
        if cfg.data.get("value_percentile") is not None:
            console.print("data: value_percentile is measured: each training image is read once")
        session = cls(cfg, *build_data(cfg))
        if weights := cfg.stages.diffusion.weights:
            session.spec = spec_to_start_from(weights, session.spec)
        perceptual = cfg.perceptual.weight > 0 and cfg.stage != "diffusion"
        for note in channel_notes(session.spec, perceptual):
            console.print(f"data: {note}", markup=False)
        session.seconds["data"] = time.monotonic() - started
        return session

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What a run may not change of its training data: the files, their number, the classes."""
        classes = list(getattr(image_dataset_of(self.train), "classes", ()))
        facts = {"samples": len(self.train), "classes": classes, "files": list_hash(self.train)}
        if self.spec.value_range is not None:
            facts["value_range"] = [list(pair) for pair in self.spec.value_range]
        return facts

    def latent_makers(self, codec: Codec, conditioner: Conditioner) -> dict[str, LatentMaker]:
        """What makes latents of each split."""
        splits = {"train": self.train, "validation": self.validation}
        size = self.spec.image_size
        return {name: LatentMaker(data, size, codec, conditioner) for name, data in splits.items()}

    @contextmanager
    def run_folder(self, stage: str, id: str) -> Iterator[RunFolder]:
        """The folder of a stage's run, made or found again, and meanwhile no other process's.

        Another process may be training the autoencoder that stage two needs: it is waited for.

        Raises:
            UserError: Another process trains this run.
        """
        folder = RunFolder.create(self.cfg.paths.runs, self.cfg.name, stage, id)
        if not is_main_process():
            yield folder
            return
        needed = stage == "autoencoder" and self.cfg.stage == "all"
        with _alone(folder, patient=needed):
            folder.sweep()
            folder.link_latest()
            yield folder

    def close(self, card: Mapping[str, Any] | None = None) -> None:
        """End the runs of the loggers, the metric card as their last word."""
        if self.loggers:
            from ldmlab.training.loggers.build import close_loggers  # Lightning is slow to import

            close_loggers(self.loggers, card)
        self.loggers = []


@contextmanager
def _alone(folder: RunFolder, patient: bool) -> Iterator[None]:
    """Keep other processes from training a run, as long as this one lives."""
    lock = partial(locked, folder.path / ".lock", inherited=False)
    with lock(wait=False) as mine:
        if mine is not None:
            yield
            return
    if not patient:
        raise UserError(
            f"another process trains {folder.path}: wait for its end, or begin another run with "
            "run_id=<name>"
        )
    console.print(f"waiting for another process that trains {folder.path}")
    with lock():
        yield
