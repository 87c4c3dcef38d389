"""Imports a model from elsewhere as a run folder that every verb can read."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from ldmlab.apps.build.experiment import (
    build_autoencoder,
    build_codec,
    build_network,
    build_process,
)
from ldmlab.apps.config.compose import compose
from ldmlab.apps.config.schema import check_values
from ldmlab.apps.runs.folder import RunFolder
from ldmlab.autoencoding.codec import NormalizedCodec
from ldmlab.conditioning.classes import ClassConditioner
from ldmlab.conditioning.conditioner import Conditioner
from ldmlab.conditioning.text import TextConditioner
from ldmlab.core.checkpoint_file import not_finite, write_checkpoint
from ldmlab.core.errors import UserError
from ldmlab.core.records import DataSpec
from ldmlab.interop.common.imported import Imported
from ldmlab.models.latent_diffusion import LatentDiffusion

# Gentle: the weights are trained already, and the average follows from the first step.
_TRAINING: dict[str, Any] = {
    "lr": 1.0e-5,
    "betas": [0.9, 0.999],
    "warmup_steps": 0,
    "ema": {"_target_": "ldmlab.training.ema.warmup_decay", "decay": 0.9999},
}


def write_run(imported: Imported, folder: Path, final: Path, source: str) -> None:
    """Fill a folder with the run of an imported model.

    Args:
        imported: The model and the leaves that describe it.
        folder: Where to write.
        final: Where the run will be, for the paths in its configuration.
        source: Where the model came from, for the checkpoint's metadata.

    Raises:
        UserError: The images' size does not fit the model.
    """
    cfg = run_config(imported, final)
    model = imported.model
    metadata = {"stage": cfg.stage, "spec": asdict(imported.spec), "source": source}
    # As a training module of that stage holds it.
    prefix = "autoencoder."
    if isinstance(model, LatentDiffusion):
        prefix = "model."
        metadata["codec"] = model.codec.fingerprint()
    state = {prefix + name: value for name, value in model.state_dict().items()}
    _check_description(cfg, imported.spec, model)
    if spoilt := not_finite(state):
        raise UserError(
            f"{spoilt} of {source} holds numbers that are not finite: its weights are damaged, "
            "take another file of them"
        )
    run = RunFolder(folder)
    for part in (run.checkpoints, run.samples):
        part.mkdir(parents=True)
    write_checkpoint(
        {"state_dict": {"steps": torch.tensor(0), **state}, "metadata": metadata},
        run.checkpoints / "last.ckpt",
    )
    run.write_config(cfg)
    run.write_environment()


def run_config(imported: Imported, final: Path) -> DictConfig:
    """The configuration of an imported model: its own leaves, and ours where it has none."""
    model = imported.model
    two_stages, learned, guided = False, True, False
    if isinstance(model, LatentDiffusion):
        two_stages = True
        learned = isinstance(model.codec, NormalizedCodec)
        guided = _can_be_guided(model.network.conditioner)
    base = compose(
        [
            "optimizer=adamw",
            "lr_schedule=constant",
            f"codec={'normalized' if learned else 'identity'}",
            f"guidance={'classifier_free' if guided else 'none'}",
        ]
    )
    cfg: Any = OmegaConf.to_container(base)
    stage = "diffusion" if two_stages else "autoencoder"
    leaves = dict(imported.leaves)
    options = leaves.pop("stages", {}).get(stage, {})
    codec = leaves.pop("codec", {})
    cfg |= leaves | {"name": _name(final), "stage": stage}
    cfg["stages"][stage] |= _training(stage, guided) | options | {"weights": str(final)}
    cfg["codec"] |= codec | ({"run": str(final)} if two_stages and learned else {})
    cfg["data"]["image_size"] = imported.spec.image_size
    made: Any = OmegaConf.create(cfg)
    check_values(made)
    return made


def _training(stage: str, guided: bool) -> dict[str, Any]:
    if stage == "autoencoder":
        return {"lr": _TRAINING["lr"], "warmup_steps": 0}
    return _TRAINING | {"condition_dropout": 0.1 if guided else 0.0}


def _can_be_guided(conditioner: Conditioner) -> bool:
    if isinstance(conditioner, ClassConditioner):
        return conditioner.null_class
    return isinstance(conditioner, TextConditioner)


def _name(folder: Path) -> str:
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", folder.name).strip("-.")
    return name if name and name != "latest" else "imported"


def _check_description(cfg: DictConfig, spec: DataSpec, model: torch.nn.Module) -> None:
    """Make sure that the configuration builds the model that is being saved."""
    process = build_process(cfg)
    built: torch.nn.Module
    with torch.device("meta"):
        if isinstance(model, LatentDiffusion):
            codec = build_codec(cfg, spec)
            built = LatentDiffusion(codec, build_network(cfg, spec, codec, process), process)
        else:
            built = build_autoencoder(cfg, spec)
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    if wanted != {name: tuple(value.shape) for name, value in built.state_dict().items()}:
        raise UserError(
            "this model has a shape that no configuration builds: "
            "load it in Python with ldmlab.interop"
        )
