"""The loggers of a run: metrics.csv always, Weights & Biases where asked for."""

from __future__ import annotations

from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf

from ldmlab.apps.runs import RunFolder
from ldmlab.training.metrics_file import MetricsFile


def build_loggers(cfg: DictConfig, folder: RunFolder, stage: str) -> list[Logger]:
    """The loggers of a stage's run."""
    loggers: list[Logger] = [MetricsFile(folder.metrics)]
    if cfg.logger.wandb is not None:
        from lightning.pytorch.loggers import WandbLogger  # slow, and not for everyone

        options = cfg.logger.wandb
        loggers.append(
            WandbLogger(
                project=options.project,
                entity=options.entity,
                group=options.group,
                job_type=stage,
                name=f"{cfg.name}-{stage}-{folder.path.name}",
                # One run of wandb for one run of ours, however often it is continued.
                id=f"{stage}-{folder.path.name}",
                resume="allow",
                offline=options.mode == "offline",
                save_dir=str(folder.path),
                config=OmegaConf.to_container(cfg, resolve=True),
            )
        )
    return loggers
