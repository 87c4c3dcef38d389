"""Runs a verb inside Hydra's main, so that `--cfg`, `-m`, sweepers and launchers stay intact."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ldmlab.apps.cli.request import request_of
from ldmlab.apps.cli.slurm import is_remote, launch
from ldmlab.apps.cli.verbs import Verb
from ldmlab.apps.config.compose import Request, explain
from ldmlab.apps.config.conf_dir import conf_dir, targets
from ldmlab.apps.config.overrides import key_of, unprotect
from ldmlab.apps.config.run_base import TRUST_VARIABLE
from ldmlab.apps.config.schema import check_values
from ldmlab.apps.config.unread import check_read
from ldmlab.core.errors import UserError
from ldmlab.core.jobs import Job, run_job, table

_FULL_ERROR = "HYDRA_FULL_ERROR"


@dataclass
class _Task:
    """What Hydra's main runs; it keeps the outcome, which Hydra would not hand back."""

    verb: Verb
    request: Request
    program: list[str]
    restore: Callable[[], None]
    code: int = 0
    error: Exception | None = None
    jobs: list[Job] = field(default_factory=list)

    def __call__(self, cfg: DictConfig) -> float | None:
        self.restore()
        if self.error is not None:  # a job of this multirun was refused
            return None
        try:
            check_values(cfg)
            check_read(cfg, self.request.verb, self.request.inherited)
            several = HydraConfig.get().mode == RunMode.MULTIRUN
            if several and not is_remote(self.verb, cfg):
                overrides = [unprotect(o) for o in HydraConfig.get().overrides.task]
                return self._relaunch(overrides, OmegaConf.select(cfg, "sweep.metric"))
            self.code = launch(self.verb, cfg)
        except Exception as error:  # Hydra would print it in its own way, and go on
            self.error = error
        return None

    def _relaunch(self, overrides: list[str], metric: str | None) -> float | None:
        job = run_job(self.program, overrides)
        self.jobs.append(job)
        # A searching sweeper takes NaN as a failed trial and goes on.
        return None if metric is None else job.metrics.get(metric, math.nan)


def run(verb: Verb, arguments: Sequence[str]) -> int:
    """Compose with Hydra's main and run a verb, or each job of a multirun.

    Args:
        verb: The verb, which is imported only when its configuration has passed.
        arguments: What the user typed after the verb, Hydra's flags included.

    Returns:
        The exit code.

    Raises:
        UserError: If the arguments or the configuration are refused.
        Exception: Whatever the verb itself raises.
    """
    parsed = _parse(arguments)
    folders = [Path(parsed.config_dir).absolute()] if parsed.config_dir else []
    if folders:
        sys.path.append(str(Path.cwd()))  # where the user's own classes lie, as for a script
    with _trusting(folders, parsed.overrides):
        return _compose_and_run(verb, arguments, parsed, folders)


def _compose_and_run(
    verb: Verb, arguments: Sequence[str], parsed: Any, folders: Sequence[Path]
) -> int:
    request = request_of(verb, parsed.overrides)
    flags = [f"--config-dir={folder}" for folder in folders]
    if parsed.config_name:
        flags.append(f"--config-name={parsed.config_name}")
    argv, full_error = sys.argv, os.environ.get(_FULL_ERROR)

    def restore() -> None:
        # Lightning starts its other ranks from `sys.argv`, so they must find what the user typed.
        sys.argv = list(argv)
        os.environ.pop(_FULL_ERROR, None)
        if full_error is not None:
            os.environ[_FULL_ERROR] = full_error

    task = _Task(verb, request, [*program(verb), *flags], restore)
    name = parsed.config_name or request.name
    main = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=name)
    typed = [a for a in arguments if a not in parsed.overrides]
    sys.argv = [f"ldmlab {verb.name}", *typed, *request.overrides]
    os.environ[_FULL_ERROR] = "1"  # otherwise Hydra prints errors itself and exits
    try:
        main(task)()
    except (HydraException, OmegaConfBaseException) as error:
        raise explain(error, parsed.overrides) from error
    finally:
        restore()
    if task.error is not None:
        raise task.error
    if task.jobs:
        print(table(task.jobs))
        return int(any(job.code for job in task.jobs))
    return task.code


@contextmanager
def _trusting(folders: Sequence[Path], overrides: Sequence[str]) -> Iterator[None]:
    """What the user typed, or wrote in a folder of his own, he trusts: in jobs of this one too."""
    typed = [a.partition("=")[2] for a in overrides if key_of(a).endswith("_target_")]
    known = targets()
    names = sorted({*typed, *targets(folders)} - known)
    before = os.environ.get(TRUST_VARIABLE, "")
    os.environ[TRUST_VARIABLE] = ",".join(filter(None, [before, *names]))
    try:
        yield
    finally:
        os.environ[TRUST_VARIABLE] = before


def program(verb: Verb) -> list[str]:
    """The command that starts a verb in a fresh process."""
    return [sys.executable, "-m", "ldmlab", verb.name]


def _parse(arguments: Sequence[str]) -> Any:
    """Hydra's flags, and the overrides."""
    parser = get_args_parser()

    def refuse(message: str) -> Any:
        raise UserError(f"{message}; a verb takes key=value and Hydra's flags (--hydra-help)")

    parser.error = refuse  # type: ignore[method-assign]
    parsed = parser.parse_intermixed_args(list(arguments))
    modes = [f"--{mode}" for mode in ("run", "multirun", "cfg", "info") if getattr(parsed, mode)]
    if len(modes) > 1:
        refuse(f"{' and '.join(modes)} exclude each other")
    if parsed.config_dir and not Path(parsed.config_dir).is_dir():
        refuse(f"--config-dir {parsed.config_dir} is no folder")
    return parsed
