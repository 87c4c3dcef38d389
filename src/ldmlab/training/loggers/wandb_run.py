"""A run of Weights & Biases for a run of ours, opened without ever waiting for a network."""

from __future__ import annotations

import os
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger

from ldmlab.core.errors import UserError
from ldmlab.core.files import told_if_unwritable
from ldmlab.core.processes import is_main_process

PATIENCE = 8.0
_SETTINGS = {"init_timeout": PATIENCE, "finish_timeout": PATIENCE}


def open_wandb(
    folder: Path, stage: str, options: Mapping[str, Any], config: Mapping[str, Any]
) -> WandbLogger:
    """The logger of a run, its run of Weights & Biases open.

    A run continued is the same run there: its id follows from the run folder.

    Args:
        folder: `<experiment>/<stage>/<run id>`; files go here as well.
        stage: Name of the stage, the type of the job.
        options: `mode`, `project`, `group` and further arguments of `WandbLogger`.
        config: What to show as the run's configuration.

    Raises:
        UserError: `mode` is online, and there is no key or no network; or the folder cannot be
            written.
    """
    import wandb

    name = f"{stage}-{folder.name}"
    given = dict(options)
    offline = given.pop("mode") == "offline"
    if is_main_process() and not offline and os.environ.get("WANDB_MODE", "online") == "online":
        _check_access()
    logger = WandbLogger(
        # The experiment as well: one name for two runs is one run to a project of wandb.
        id=f"{folder.parent.parent.name}-{name}",
        name=name,
        job_type=stage,
        resume="allow",
        offline=offline,
        save_dir=str(folder),
        config=dict(config),
        settings=dict(_SETTINGS),
        **given,
    )
    with told_if_unwritable(folder / "wandb"):
        try:
            _ = logger.experiment
        except wandb.errors.Error as error:
            said = " ".join(str(error).split())
            needs = "logger.wandb.mode=offline needs nothing"
            raise UserError(f"logger=wandb: {said}; {needs}") from error
    return logger


def _check_access() -> None:
    """Refuse at once what wandb would wait or ask for.

    Raises:
        UserError: There is no key, or the server does not answer.
    """
    import wandb

    if not wandb.login(verify=False, prompt=False):
        raise UserError(
            "logger.wandb.mode=online needs a key: run `wandb login`, or take "
            "logger.wandb.mode=offline and `wandb sync` later"
        )
    check_answers(str(wandb.setup().settings.base_url), PATIENCE)


def check_answers(url: str, patience: float) -> None:
    """Make sure that a server answers, whatever it says.

    Args:
        url: Its address; a proxy of the environment is used.
        patience: Seconds to wait, those for looking up the host included.

    Raises:
        UserError: It does not.
    """
    answered = threading.Event()
    # By hand: wandb's own time-outs (init_timeout, then finish_timeout) take 20 seconds to say so.
    # A thread, because the time limit of a request does not hold for looking up its host.
    knock = threading.Thread(target=_knock, args=(url, patience, answered), daemon=True)
    knock.start()
    knock.join(patience)
    if not answered.is_set():
        raise UserError(
            f"logger.wandb.mode=online: {url} does not answer; take logger.wandb.mode=offline and "
            "`wandb sync` later"
        )


def _knock(url: str, patience: float, answered: threading.Event) -> None:
    try:
        # An error of HTTP is an answer like any other.
        with suppress(urllib.error.HTTPError):
            urllib.request.urlopen(url, timeout=patience).close()
    except OSError:
        return
    answered.set()
