"""The checkpoint that a stage resumes from, and the check that it may."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig

from ldmlab.apps.runs.folder import RunFolder
from ldmlab.apps.stages.session import console
from ldmlab.core.errors import UserError
from ldmlab.core.records import DataSpec
from ldmlab.training.resume import Resume, newest_checkpoint


def resume_from(cfg: DictConfig, stage: str, folder: RunFolder) -> Resume | None:
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


def check_same(resume: Resume, identity: Mapping[str, Any], spec: DataSpec) -> None:
    """A run goes on as what it was begun as.

    Args:
        resume: Where it goes on from.
        identity: What decides its result now.
        spec: What its model must know of the data now.

    Raises:
        UserError: It was begun with another value of a key, or on captions in other tokens.
    """
    before = identity if resume.identity is None else resume.identity  # brought in by `convert`
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
    if resume.vocabulary != spec.vocabulary:
        raise UserError(
            f"{resume.path} was trained on captions in other tokens than these: give "
            "data.vocabulary and data.root as they were, or another run_id"
        )
