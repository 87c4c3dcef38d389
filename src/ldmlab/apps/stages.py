"""The two stages of an experiment as runs on disk: found, continued, or trained."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from ldmlab.apps.build import (
    build_autoencoder_module,
    build_codec,
    build_data,
    build_diffusion_module,
    build_model,
)
from ldmlab.apps.identity import run_id
from ldmlab.apps.instantiate import build
from ldmlab.apps.loggers import build_loggers
from ldmlab.apps.runs import RunFolder, find_run
from ldmlab.autoencoding.codec import Codec, NormalizedCodec
from ldmlab.core.errors import UserError
from ldmlab.core.files import write_json
from ldmlab.core.records import DataSpec
from ldmlab.data.memory import BatchDataset, InMemory, in_order, with_latents
from ldmlab.training.callbacks.checkpointing import Checkpointing
from ldmlab.training.callbacks.pictures import Reconstructions, Samples
from ldmlab.training.callbacks.progress import ProgressDisplay
from ldmlab.training.checkpoints import newest_checkpoint, read_checkpoint
from ldmlab.training.datamodule import BatchDataModule
from ldmlab.training.fit import fit
from ldmlab.training.steps import StepModule

console = Console(stderr=True, highlight=False, soft_wrap=True)

AUTOENCODER_KEYS = (
    "seed", "data", "autoencoder", "bottleneck", "discriminator", "perceptual", "optimizer",
    "lr_schedule", "stages.autoencoder",
)  # fmt: skip
DIFFUSION_KEYS = (
    "seed", "data", "codec", "unet", "conditioner", "schedule", "parameterization", "weighting",
    "times", "optimizer", "lr_schedule", "stages.diffusion",
)  # fmt: skip


@dataclass
class Session:
    """An experiment with its data, built once for both stages.

    Attributes:
        cfg: The configuration.
        train: Training data.
        validation: Validation data.
        spec: What the models must know of the data.
        seconds: Wall time of each phase so far.
    """

    cfg: DictConfig
    train: BatchDataset
    validation: BatchDataset
    spec: DataSpec
    seconds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def open(cls, cfg: DictConfig) -> Session:
        """Build the data of an experiment."""
        started = time.monotonic()
        train, validation, spec = build_data(cfg)
        session = cls(cfg, train, validation, spec)
        session.seconds["data"] = time.monotonic() - started
        return session

    @property
    def learns_codec(self) -> bool:
        """Whether there is a stage one."""
        return bool(build(self.cfg.codec.module).func.learned)

    def run_folder(self, stage: str, keys: tuple[str, ...], **more: Any) -> RunFolder:
        """The folder of a stage's run, by the user's name for it or by its configuration."""
        id = self.cfg.run_id or run_id(select(self.cfg, keys) | more)
        folder = RunFolder.create(self.cfg.paths.runs, self.cfg.name, stage, id)
        if rank_zero_only.rank == 0:
            folder.write_config(self.cfg)
            folder.write_environment()
            folder.link_latest()
        return folder

    def resume_from(self, folder: RunFolder) -> Path | None:
        """The checkpoint to continue from, as `resume` asks for.

        Raises:
            UserError: `resume` names a checkpoint that is not there.
        """
        if self.cfg.resume == "never":
            return None
        if self.cfg.resume != "auto":
            path = Path(self.cfg.resume)
            read_checkpoint(path)
            return path
        found = newest_checkpoint(folder.checkpoints)
        if found is None:
            return None
        path, complaints = found
        for complaint in complaints:
            console.print(f"[yellow]warning:[/] {complaint}; continuing from {path.name}")
        return path

    def fit(
        self,
        module: StepModule,
        folder: RunFolder,
        train: BatchDataset,
        stage: str,
        title: str,
        pictures: L.Callback,
        facts: Mapping[str, Any],
    ) -> RunFolder:
        """Train a stage to its end, unless its run has already come there."""
        options = self.cfg.stages[stage]
        resume = self.resume_from(folder)
        timing = folder.path / "seconds.json"
        if resume is not None:
            done = int(read_checkpoint(resume)["state_dict"]["steps"])
            if done >= options.max_steps:
                console.print(f"{title}: finished at step {done}, reusing {folder.path}")
                self.seconds[stage] = _seconds(timing)
                return folder
            console.print(f"{title}: continuing {folder.path} from step {done}")
        data = BatchDataModule(
            train, self.validation, options.batch_size, self.cfg.seed, self.cfg.data.num_workers
        )
        callbacks = [
            Checkpointing(
                folder.checkpoints,
                self.cfg.callbacks.checkpoint_every,
                self.cfg.callbacks.keep_every,
                dict(facts) | {"spec": asdict(self.spec)},
            ),
            pictures,
            ProgressDisplay(title),
        ]
        trainer = OmegaConf.to_container(self.cfg.trainer, resolve=True)
        assert isinstance(trainer, dict)
        trainer = {str(k): v for k, v in trainer.items()} | {
            "precision": options.precision,
            "val_check_interval": options.val_every,
            "enable_progress_bar": False,
            "default_root_dir": str(folder.path),
        }
        if module.automatic_optimization:
            trainer["gradient_clip_val"] = options.clip_norm
        loggers: list[Logger] = build_loggers(self.cfg, folder, stage)
        spent = fit(module, data, trainer, callbacks, loggers, resume)
        self.seconds[stage] = spent + (_seconds(timing) if resume is not None else 0.0)
        if rank_zero_only.rank == 0:
            write_json(timing, {"training": self.seconds[stage]})
        return folder


def select(cfg: DictConfig, keys: tuple[str, ...]) -> dict[str, Any]:
    """The parts of a configuration that decide a stage's result, as plain containers."""
    tree: Any = OmegaConf.to_container(cfg, resolve=True)
    parts = {}
    for key in keys:
        value = tree
        for name in key.split("."):
            value = value[name]
        parts[key] = value
    return parts


def train_autoencoder(session: Session) -> RunFolder:
    """Stage one."""
    cfg = session.cfg
    folder = session.run_folder("autoencoder", AUTOENCODER_KEYS)
    torch.manual_seed(cfg.seed)
    module = build_autoencoder_module(cfg, session.spec)
    images = session.validation.__getitems__(list(range(min(8, len(session.validation))))).image
    pictures = Reconstructions(images, folder.samples, cfg.callbacks.sample_every)
    return session.fit(
        module, folder, session.train, "autoencoder", "autoencoder", pictures, {}
    )


def load_codec(session: Session) -> Codec:
    """The codec of stage two: stage one's weights, normalised on the training images.

    Raises:
        UserError: Stage one is missing, unfinished, or of another shape.
    """
    cfg, spec = session.cfg, session.spec
    codec = build_codec(cfg, spec)
    if not isinstance(codec, NormalizedCodec):
        return codec
    path = cfg.codec.run
    if path is None:
        id = cfg.run_id or run_id(select(cfg, AUTOENCODER_KEYS))
        path = Path(cfg.paths.runs) / cfg.name / "autoencoder" / id
        if not (path / "checkpoints" / "last.ckpt").is_file():
            raise UserError(
                f"stage two needs the autoencoder of stage one and {path} has none: train it with "
                "stage=autoencoder (or stage=all), or name one with codec.run=<run folder>"
            )
    weights = autoencoder_weights(Path(path))
    try:
        codec.autoencoder.load_state_dict(weights)
    except RuntimeError as error:
        difference = " ".join(str(error).split("\n\t")[1].split())
        raise UserError(
            f"codec.run={path} is another autoencoder than this configuration's: {difference}"
        ) from error
    count = min(cfg.codec.num_images, len(session.train))
    batches = (session.train.__getitems__(rows) for rows in _chunks(count, 256))
    codec.normalize_on(batch.image for batch in batches if batch.image is not None)
    return codec


def autoencoder_weights(path: Path) -> dict[str, Any]:
    """The autoencoder's tensors in a stage-one run or checkpoint."""
    checkpoint = path if path.suffix == ".ckpt" else find_run(path).checkpoints / "last.ckpt"
    state = read_checkpoint(checkpoint)["state_dict"]
    prefix = "autoencoder."
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def train_diffusion(session: Session) -> RunFolder:
    """Stage two, on the latents of the frozen codec."""
    cfg = session.cfg
    started = time.monotonic()
    codec = load_codec(session)
    fingerprint = codec.fingerprint()
    session.seconds["codec"] = time.monotonic() - started
    folder = session.run_folder("diffusion", DIFFUSION_KEYS, codec_hash=fingerprint)
    torch.manual_seed(cfg.seed)
    model = build_model(cfg, session.spec, codec)
    module = build_diffusion_module(cfg, model)
    started = time.monotonic()
    latents = InMemory([with_latents(b, codec.encode) for b in in_order(session.train, 250)])
    session.seconds["codec"] += time.monotonic() - started
    count = min(cfg.callbacks.num_samples, len(session.validation))
    conditions = session.validation.__getitems__(list(range(count)))
    pictures = Samples(
        conditions,
        session.spec.image_size,
        build(cfg.sampler),
        build(cfg.guidance),
        cfg.seed,
        folder.samples,
        cfg.callbacks.sample_every,
    )
    return session.fit(
        module, folder, latents, "diffusion", "diffusion", pictures, {"codec": fingerprint}
    )


def _chunks(count: int, size: int) -> list[list[int]]:
    return [list(range(i, min(i + size, count))) for i in range(0, count, size)]


def _seconds(path: Path) -> float:
    return float(json.loads(path.read_text())["training"]) if path.is_file() else 0.0
