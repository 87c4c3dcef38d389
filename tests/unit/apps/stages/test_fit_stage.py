"""What a stage is trained with."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from tests.unit.training.toys import Line, data

from ldmlab.apps.config.compose import compose
from ldmlab.apps.runs.folder import RunFolder
from ldmlab.apps.stages import fit_stage
from ldmlab.core.checkpoint_file import write_checkpoint
from ldmlab.core.errors import UserError
from ldmlab.core.records import DataSpec
from ldmlab.training.callbacks.checkpointing import Checkpointing
from ldmlab.training.callbacks.gradients import GradientGuard
from ldmlab.training.callbacks.resume_validation import ResumeValidation
from ldmlab.training.callbacks.throughput import Throughput
from ldmlab.training.resume import Resume


class _Noted:
    """Stands for the training, and keeps what it is given."""

    given: tuple[Any, ...]

    def __init__(self, *given: Any) -> None:
        _Noted.given = given

    def run(self, resume: Any) -> float:
        return 1.5


@pytest.mark.parametrize("stage", ["autoencoder", "diffusion"])
def test_stage_is_trained_with_its_own_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    monkeypatch.setattr(fit_stage, "StageFit", _Noted)
    monkeypatch.setattr(fit_stage, "build_loggers", lambda *given: [])
    cfg = compose([
        "stages.autoencoder.clip_norm=0.25", "stages.autoencoder.val_every=11",
        "stages.autoencoder.batch_size=6", "stages.autoencoder.precision=32-true",
        "stages.diffusion.clip_norm=0.75", "stages.diffusion.val_every=13",
        "stages.diffusion.batch_size=10", "stages.diffusion.precision=bf16-mixed",
        "callbacks.patience=3", "callbacks.checkpoint_every=17", "callbacks.keep_every=34",
        "callbacks.best=true", "trainer.log_every_n_steps=19", "seed=23", "data.num_workers=2",
    ])  # fmt: skip
    first = stage == "autoencoder"
    folder = RunFolder.create(tmp_path, "toy", stage, "a")
    session = SimpleNamespace(
        cfg=cfg,
        spec=DataSpec(8, 1),
        facts={"classes": []},
        loggers=[],
        seconds={},
        close=lambda: None,
    )
    module = Line(100)
    both = data(), data()
    fit_stage.fit_stage(session, stage, module, both, folder, [], {"seed": 23}, {})
    trained, batches, options, callbacks, _ = _Noted.given
    by_kind = {type(callback): callback for callback in callbacks}
    assert trained is module
    assert (batches.batch_size, batches.seed, batches.num_workers) == (6 if first else 10, 23, 2)
    every = 11 if first else 13
    assert options["val_check_interval"] == by_kind[ResumeValidation].every == every
    assert options["precision"] == ("32-true" if first else "bf16-mixed")
    guard, checkpointing = by_kind[GradientGuard], by_kind[Checkpointing]
    assert (guard.clip_norm, guard.patience) == (0.25 if first else 0.75, 3)
    assert (checkpointing.every, checkpointing.keep_every) == (17, 34)
    assert checkpointing.best_of == every
    assert checkpointing.metadata["stage"] == stage
    assert checkpointing.metadata["identity"] == {"seed": 23}
    assert by_kind[Throughput].every == 19
    assert session.seconds == {stage: 1.5}


def test_resume_takes_the_named_checkpoint_for_its_own_stage(tmp_path: Path) -> None:
    folders = {s: RunFolder.create(tmp_path, "toy", s, "a") for s in ("autoencoder", "diffusion")}
    for stage, folder in folders.items():
        for name, step in (("last", 8), ("step-000004", 4)):
            metadata = {"stage": stage, "spec": {"vocabulary": None}}
            state = {"steps": torch.tensor(step)}
            path = folder.checkpoints / f"{name}.ckpt"
            write_checkpoint({"state_dict": state, "metadata": metadata}, path)
    newest = folders["diffusion"].checkpoints / "step-000004.ckpt"
    named = str(folders["autoencoder"].checkpoints / "step-000004.ckpt")

    def found(trained: str, resume: str = "auto", stage: str = "all") -> Resume | None:
        cfg = OmegaConf.create({"resume": resume, "stage": stage})
        return fit_stage._resume_from(cfg, trained, folders[trained])

    auto, mine, other = found("diffusion"), found("autoencoder", named), found("diffusion", named)
    assert auto is not None and auto.path == newest  # written last
    assert mine is not None and str(mine.path) == named and mine.step == 4
    assert other == auto
    assert found("diffusion", resume="never") is None
    with pytest.raises(UserError, match="stage=autoencoder, and stage=diffusion is trained"):
        found("diffusion", resume=named, stage="diffusion")
