"""An experiment while it is being trained: its data, its run folders, its clock."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from ldmlab.apps.build.device import accelerator_of
from ldmlab.apps.build.experiment import build_data, learning_rate
from ldmlab.apps.config.instantiate import build
from ldmlab.apps.runs.environment import redact
from ldmlab.apps.runs.folder import RunFolder
from ldmlab.apps.runs.init_weights import spec_to_start_from
from ldmlab.core.errors import UserError
from ldmlab.core.files import write_json
from ldmlab.core.locks import locked
from ldmlab.core.processes import is_main_process
from ldmlab.core.records import DataSpec
from ldmlab.data.sampling.datasets import BatchDataset
from ldmlab.training.callbacks.broken_files import BrokenFiles
from ldmlab.training.callbacks.checkpointing import Checkpointing
from ldmlab.training.callbacks.gradients import GradientGuard
from ldmlab.training.callbacks.preemption import Preemption
from ldmlab.training.callbacks.progress import ProgressDisplay
from ldmlab.training.callbacks.rank_failure import RankFailure
from ldmlab.training.callbacks.resume_validation import ResumeValidation
from ldmlab.training.callbacks.throughput import Throughput
from ldmlab.training.datamodule import BatchDataModule
from ldmlab.training.fit import Observers, StageFit
from ldmlab.training.loggers.build import build_loggers, close_loggers
from ldmlab.training.resume import Resume, newest_checkpoint
from ldmlab.training.step_module import StepModule

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
        session = cls(cfg, *build_data(cfg))
        if weights := cfg.stages.diffusion.get("weights"):
            session.spec = spec_to_start_from(weights, session.spec)
        session.seconds["data"] = time.monotonic() - started
        return session

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

    def fit(
        self,
        stage: str,
        module: StepModule,
        train: BatchDataset,
        folder: RunFolder,
        observers: Observers,
        metadata: Mapping[str, Any],
        validation: BatchDataset | None = None,
    ) -> None:
        """Train a stage to its end, unless its run has already come there.

        Args:
            stage: `autoencoder` or `diffusion`.
            module: What is trained.
            train: Its training data: images or latents.
            folder: Its run.
            observers: Callbacks of this stage alone.
            metadata: Plain values to store in its checkpoints; `identity` among them, what decides
                the result.
            validation: Its validation data; the images by default.
        """
        cfg, options = self.cfg, self.cfg.stages[stage]
        resume = self._resume_from(stage, folder)
        spent = _read_seconds(folder) if resume is not None else 0.0
        if resume is not None:
            if resume.step >= options.max_steps:
                console.print(f"{stage}: finished at step {resume.step}, reusing {folder.path}")
                self.seconds[stage] = spent
                return
            self._check_same(resume, metadata["identity"])
            console.print(f"{stage}: continuing {folder.path} from step {resume.step}")
        if is_main_process():
            folder.write_config(cfg)
            folder.write_environment()
        if cfg.scale_lr:
            rate = learning_rate(cfg, options, options.lr)
            console.print(f"{stage}: lr {rate:.6g} = {options.lr:g} x {options.batch_size} images")
        checkpointing = Checkpointing(
            folder.checkpoints,
            cfg.callbacks.checkpoint_every,
            cfg.callbacks.keep_every,
            # A run's configuration from before this key may be repeated.
            options.val_every if cfg.callbacks.get("best") else None,
            dict(metadata) | {"spec": asdict(self.spec)},
        )
        stage_fit = StageFit(
            module,
            BatchDataModule(
                train,
                self.validation if validation is None else validation,
                options.batch_size,
                cfg.seed,
                cfg.data.num_workers,
            ),
            self._trainer_options(stage, folder),
            [
                GradientGuard(options.clip_norm, cfg.callbacks.patience, folder.path / "replay"),
                *observers,
                Throughput(cfg.trainer.log_every_n_steps),
                checkpointing,
                ProgressDisplay(stage),
                BrokenFiles(folder.path / "broken_files.txt"),
                Preemption(checkpointing.last),
                RankFailure(),
                ResumeValidation(options.val_every),
            ],
            self._open_loggers(stage, folder),
        )
        self.seconds[stage] = spent + stage_fit.run(resume)
        if is_main_process():
            write_json(_timing(folder), {"training": self.seconds[stage]})

    def close(self, card: Mapping[str, Any] | None = None) -> None:
        """End the runs of the loggers, the metric card as their last word."""
        close_loggers(self.loggers, card)
        self.loggers = []

    def _open_loggers(self, stage: str, folder: RunFolder) -> list[Any]:
        self.close()
        # As in config.yaml: a key of the environment may have been resolved.
        shown = _plain(OmegaConf.create(redact(OmegaConf.to_yaml(self.cfg, resolve=True))))
        self.loggers = build_loggers(folder.path, stage, shown["logger"]["wandb"], shown)
        return self.loggers

    def _trainer_options(self, stage: str, folder: RunFolder) -> dict[str, Any]:
        options = self.cfg.stages[stage]
        strategy, accelerator = self.cfg.trainer.strategy, accelerator_of(self.cfg)
        return _plain(self.cfg.trainer) | {
            "accelerator": accelerator,
            "strategy": strategy if isinstance(strategy, str) else build(strategy),
            "precision": options.precision,
            "val_check_interval": options.val_every,
            "default_root_dir": str(folder.path),
            # Statistics of the global batch, where torch has them: it refuses tensors on the CPU.
            "sync_batchnorm": accelerator == "cuda",
        }

    def _check_same(self, resume: Resume, identity: Mapping[str, Any]) -> None:
        """A run goes on as what it was begun as."""
        before = resume.identity or identity  # runs of before this fact, and imported ones
        if other := sorted(before.keys() ^ identity.keys()):
            raise UserError(
                f"{resume.path} is of another model than this configuration's: only one of them "
                f"has {other[0]}"
            )
        for key, value in identity.items():
            if before[key] != value:
                raise UserError(
                    f"{resume.path} was trained with {key}={before[key]}, not {value}: begin "
                    "another run with run_id=<name>, from its weights with "
                    "stages.<stage>.weights=<run> if you like"
                )
        # A token number means the same word before and after an interruption.
        if resume.vocabulary != self.spec.vocabulary:
            raise UserError(
                f"{resume.path} was trained on captions in other tokens than these: give "
                "data.vocabulary and data.root as they were, or another run_id"
            )

    def _resume_from(self, stage: str, folder: RunFolder) -> Resume | None:
        """The checkpoint to continue from, as `resume` asks for.

        A checkpoint that lies in a run of the other stage is for that one.
        """
        if self.cfg.resume == "never":
            return None
        other = {"autoencoder", "diffusion"} - {stage}
        named = Path(self.cfg.resume).resolve()
        if self.cfg.resume != "auto" and named.parent.parent.parent.name not in other:
            return Resume.at(named)
        found = newest_checkpoint(folder.checkpoints)
        if found is None:
            return None
        resume, complaints = found
        for complaint in complaints:
            console.print(f"[yellow]warning:[/] {complaint}; continuing from {resume.path.name}")
        return resume


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


def _plain(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def _timing(folder: RunFolder) -> Path:
    return folder.path / "seconds.json"


def _read_seconds(folder: RunFolder) -> float:
    path = _timing(folder)
    return float(json.loads(path.read_text())["training"]) if path.is_file() else 0.0
