"""A run goes on from where it was left, and as what it was begun as."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from ldmlab.apps.runs.folder import RunFolder
from ldmlab.apps.stages.resume import check_same, resume_from
from ldmlab.core.checkpoint_file import write_checkpoint
from ldmlab.core.errors import UserError
from ldmlab.core.records import DataSpec
from ldmlab.training.resume import Resume

SPEC = DataSpec(8, 1, vocabulary=("a", "b"))
BEFORE = Resume(Path("last.ckpt"), "diffusion", 5, ("a", "b"), {"seed": 0, "lr": 0.1})


def test_run_goes_on_as_what_it_was_begun_as() -> None:
    check_same(BEFORE, {"seed": 0, "lr": 0.1}, SPEC)
    with pytest.raises(UserError, match=r"trained with lr=0\.1, not 0\.2"):
        check_same(BEFORE, {"seed": 0, "lr": 0.2}, SPEC)
    with pytest.raises(UserError, match="trained with seed=0, not None"):
        check_same(BEFORE, {"seed": None, "lr": 0.1}, SPEC)
    with pytest.raises(UserError, match="only one of them has lr"):
        check_same(BEFORE, {"seed": 0}, SPEC)
    with pytest.raises(UserError, match="other tokens"):
        check_same(BEFORE, {"seed": 0, "lr": 0.1}, DataSpec(8, 1, vocabulary=("b", "a")))


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
        return resume_from(cfg, trained, folders[trained])

    auto, mine, other = found("diffusion"), found("autoencoder", named), found("diffusion", named)
    assert auto is not None and auto.path == newest  # written last
    assert mine is not None and str(mine.path) == named and mine.step == 4
    assert other == auto
    assert found("diffusion", resume="never") is None
    with pytest.raises(UserError, match="stage=autoencoder, and stage=diffusion is trained"):
        found("diffusion", resume=named, stage="diffusion")
