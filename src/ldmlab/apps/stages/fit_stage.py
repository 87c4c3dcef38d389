"""Trains one stage of an experiment with its callbacks and loggers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ldmlab.apps.build.experiment import learning_rate
from ldmlab.apps.config.instantiate import build, takes
from ldmlab.apps.runs.folder import RunFolder
from ldmlab.apps.runs.secrets import masked
from ldmlab.apps.stages.session import Session, console
from ldmlab.core.device import accelerator_of
from ldmlab.core.errors import UserError
from ldmlab.core.processes import is_main_process
from ldmlab.data.sampling.datasets import BatchDataset
from ldmlab.training.callbacks.broken_files import BrokenFiles
from ldmlab.training.callbacks.checkpointing import Checkpointing
from ldmlab.training.callbacks.gradients import GradientGuard
from ldmlab.training.callbacks.preemption import Preemption
from ldmlab.training.callbacks.progress import ProgressDisplay
from ldmlab.training.callbacks.rank_failure import RankFailure
from ldmlab.training.callbacks.resume_validation import ResumeValidation
from ldmlab.training.callbacks.throughput import Throughput
from ldmlab.training.datamodules.base import BatchDataModule
from ldmlab.training.fit import Observers, StageFit
from ldmlab.training.loggers.build import build_loggers
from ldmlab.training.resume import Resume, newest_checkpoint
from ldmlab.training.step_module import StepModule


def fit_stage(
    session: Session,
    stage: str,
    module: StepModule,
    data: tuple[BatchDataset, BatchDataset],
    folder: RunFolder,
    observers: Observers,
    identity: Mapping[str, Any],
    metadata: Mapping[str, Any],
) -> None:
    """Train a stage to its end, unless its run has already come there.

    Args:
        session: The experiment.
        stage: `autoencoder` or `diffusion`.
        module: What is trained.
        data: Its training and its validation data: images or latents.
        folder: Its run.
        observers: Callbacks of this stage alone.
        identity: What decides the result, by configuration key.
        metadata: Further plain values to store in its checkpoints.

    Raises:
        UserError: The run was begun as something else, or its checkpoints cannot be read.
    """
    cfg, options = session.cfg, session.cfg.stages[stage]
    identity = masked(identity)  # checkpoints are handed on
    resume = _resume_from(cfg, stage, folder)
    spent = 0.0
    if resume is not None:
        resume.check_same(identity, session.spec.vocabulary, session.facts)
        spent = folder.read_seconds()
        if resume.step >= options.max_steps:
            console.print(f"{stage}: finished at step {resume.step}, reusing {folder.path}")
            session.seconds[stage] = spent
            return
        console.print(f"{stage}: continuing {folder.path} from step {resume.step}")
    else:
        why = "resume=never" if cfg.resume == "never" else "it holds no checkpoint yet"
        console.print(f"{stage}: beginning {folder.path} at step 0 ({why})")
    if is_main_process():
        folder.write_config(cfg)
        folder.write_environment()
        folder.write_data(session.facts)
    if cfg.scale_lr:
        rate = learning_rate(cfg, options, options.lr)
        console.print(f"{stage}: lr {rate:.6g} = {options.lr:g} x {options.batch_size} images")
    checkpointing = Checkpointing(
        folder.checkpoints,
        cfg.callbacks.checkpoint_every,
        cfg.callbacks.keep_every,
        options.val_every if cfg.callbacks.best else None,
        {
            "stage": stage,
            "identity": identity,
            "spec": asdict(session.spec),
            "data": session.facts,
            **metadata,
        },
    )
    session.close()
    plain: Any = masked(OmegaConf.to_container(cfg, resolve=True))
    session.loggers = [
        *build_loggers(folder.path, stage, plain["logger"].get("wandb"), plain),
        *further(cfg.logger, except_for=("wandb",), save_dir=str(folder.path)),
    ]
    stage_fit = StageFit(
        module,
        BatchDataModule(*data, options.batch_size, cfg.seed, cfg.data.num_workers),
        _trainer_options(cfg, stage, folder),
        [
            GradientGuard(options.clip_norm, cfg.callbacks.patience, folder.path / "replay"),
            *observers,
            *further(cfg.callbacks),
            Throughput(cfg.trainer.log_every_n_steps),
            checkpointing,
            ProgressDisplay(stage),
            BrokenFiles(folder.path / "broken_files.txt"),
            Preemption(checkpointing.last),
            RankFailure(),
            ResumeValidation(options.val_every),
        ],
        session.loggers,
    )
    session.seconds[stage] = spent + stage_fit.run(resume)
    if is_main_process():
        folder.write_seconds(session.seconds[stage])


def further(group: DictConfig, except_for: Sequence[str] = (), **defaults: Any) -> list[Any]:
    """The user's own callbacks or loggers: the tables of a group, each with its `_target_`.

    Args:
        group: The configuration's group.
        except_for: Its tables that are no such thing.
        **defaults: Arguments of those that take them and are not given them.

    Raises:
        UserError: A table does not build.
    """
    nodes = [group[key] for key in group if OmegaConf.is_dict(group[key]) and key not in except_for]
    return [build(node, **{k: v for k, v in defaults.items() if takes(node, k)}) for node in nodes]


def check_resume(cfg: DictConfig) -> None:
    """Look whether a named checkpoint is there, before data are read.

    Raises:
        UserError: `resume` names no file.
    """
    if cfg.resume not in ("auto", "never") and not Path(cfg.resume).is_file():
        raise UserError(
            f"resume={cfg.resume} is no checkpoint: name a .ckpt file of this run, or leave resume "
            "out for the newest, or to begin anew"
        )


def _resume_from(cfg: DictConfig, stage: str, folder: RunFolder) -> Resume | None:
    """The checkpoint to continue from, as `resume` asks for; None to begin anew.

    A named checkpoint is for the stage that it is of; `stage=all` finds the other's by itself.

    Args:
        cfg: The configuration.
        stage: The stage to be trained.
        folder: Its run.

    Raises:
        UserError: The checkpoint cannot be read, or is of a stage that is not trained.
    """
    if cfg.resume == "never":
        return None
    if cfg.resume != "auto":
        named = Resume.at(cfg.resume)
        if named.stage == stage:
            return named
        if cfg.stage != "all":
            raise UserError(
                f"resume={cfg.resume} is a checkpoint of stage={named.stage}, and stage={stage} "
                "is trained: name one of this stage, or leave resume out"
            )
    found = newest_checkpoint(folder.checkpoints)
    if found is None:
        return None
    resume, complaints = found
    for complaint in complaints:
        console.print(f"[yellow]warning:[/] {complaint}; continuing from {resume.path.name}")
    return resume


def _trainer_options(cfg: DictConfig, stage: str, folder: RunFolder) -> dict[str, Any]:
    options: Any = OmegaConf.to_container(cfg.trainer, resolve=True)
    strategy, accelerator = cfg.trainer.strategy, accelerator_of(cfg.trainer.accelerator)
    return options | {
        "accelerator": accelerator,
        "strategy": strategy if isinstance(strategy, str) else build(strategy),
        "precision": cfg.stages[stage].precision,
        "val_check_interval": cfg.stages[stage].val_every,
        "default_root_dir": str(folder.path),
        # Statistics of the global batch, where torch has them: it refuses tensors on the CPU.
        "sync_batchnorm": accelerator == "cuda",
    }
