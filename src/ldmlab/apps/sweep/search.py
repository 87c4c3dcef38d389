"""`ldmlab sweep`: search the values that make a metric best, each trial a run of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from ldmlab.apps.config.compose import compose
from ldmlab.apps.config.instantiate import build
from ldmlab.apps.config.run_id import run_id
from ldmlab.apps.runs.folder import RunFolder
from ldmlab.apps.runs.secrets import writable
from ldmlab.apps.sweep.space import corner, point, read_space
from ldmlab.apps.sweep.study import Claim, Study, import_optuna
from ldmlab.apps.sweep.trial import metrics_of, train_once, value_of, watcher
from ldmlab.core.errors import UserError
from ldmlab.core.files import make_folder, write_text
from ldmlab.core.jobs import last_words, run_job

PROGRAM = (sys.executable, "-m", "ldmlab", "train")
SHOWN_TRIALS = 10
# What a run exits with that saved because it was told to stop.
_SAVED = 143


def run(cfg: DictConfig) -> int:
    """Do what is missing of a search, alone or beside other workers, and show what it found.

    Args:
        cfg: The composed configuration.

    Returns:
        1 if a trial of this call failed, 143 if one was stopped from outside, else 0.

    Raises:
        UserError: The search cannot begin.
    """
    search = Search.open(cfg)
    codes = []
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("trials", total=cfg.n_trials)
        while True:
            finished = sum(trial.state.is_finished() for trial in search.study.trials)
            progress.update(bar, completed=finished)
            with search.study.claim(cfg.n_trials) as claim:
                if claim is None:
                    break
                shown = " ".join(search.overrides(claim))
                progress.update(bar, description=f"trial {claim.trial.number}: {shown}")
                code, said = search.attempt(claim)
            codes.append(code)
            progress.console.print(f"trial {claim.trial.number}: {said}  ({shown})", markup=False)
            if code == _SAVED:
                return code
    search.show(Console(highlight=False))
    return int(any(codes))


@dataclass(frozen=True)
class Search:
    """A search over the runs of a configuration.

    Attributes:
        cfg: The configuration, with what all trials share.
        study: Its trials.
        folder: `<runs>/<experiment>/sweep/<id>`.
    """

    cfg: DictConfig
    study: Study
    folder: Path

    @classmethod
    def open(cls, cfg: DictConfig) -> Search:
        """Begin a search, or find it again.

        Raises:
            UserError: Optuna is missing, or the search does not fit the configuration.
        """
        import_optuna()
        if cfg.sweep.metric is None:
            raise UserError("sweep.metric is mandatory: a column of metrics.csv or of the card")
        if not cfg.sweep.space:
            raise UserError(
                "there is nothing to search: choose sweep=<name>, or give a key several values, "
                "such as 'stages.diffusion.lr=tag(log,interval(1e-4,1e-2))'"
            )
        space = read_space(cfg.sweep.space)
        compose(corner(cfg.sweep.space), base=cfg)
        folder = Path(cfg.paths.runs) / str(cfg.name) / "sweep" / _id(cfg)
        make_folder(folder / "logs", lambda reason: f"paths.runs={cfg.paths.runs}: {reason}")
        # Interpolations stay: what a trial changes may be read elsewhere.
        write_text(folder / "sweep.yaml", OmegaConf.to_yaml(writable(cfg)))
        pruning = cfg.sweep.pruning
        study = Study(
            folder,
            space,
            cfg.sweep.direction,
            cfg.sweep.sampler,
            None if pruning is None else pruning.pruner,
            cfg.seed,
        )
        return cls(cfg, study, folder)

    def overrides(self, claim: Claim) -> list[str]:
        """What a trial changes."""
        return point(self.cfg.sweep.space, claim.trial.params)

    def attempt(self, claim: Claim) -> tuple[int, str]:
        """Run a trial and note what became of it; gives its exit code and a line about it."""
        number, overrides = claim.trial.number, self.overrides(claim)
        log = self.folder / "logs" / f"{number:04d}.log"
        try:
            cfg = compose(overrides, base=self.cfg)
        except UserError as error:
            self.study.fail(claim, str(error))
            return 1, f"failed: {error}"
        command = [f"config={self.folder / 'sweep.yaml'}", *overrides]
        if self.cfg.logger.wandb is not None:  # tells the trials of a search from other runs
            command.append(f"logger.wandb.group={self.cfg.name}-sweep-{self.folder.name}")
        first = _stage_one(cfg)
        if first is not None:
            done = self.folder / f"autoencoder-{first.name}.done"
            code = train_once([*PROGRAM, *command, "stage=autoencoder"], first, done, log)
            if code != 0:
                return self._lost(claim, code, log)
            command += ["stage=diffusion", f"codec.run={first}"]
        stage = "autoencoder" if cfg.stage == "autoencoder" else "diffusion"
        name = f"{self.folder.name}-{number:04d}"
        run = RunFolder(Path(cfg.paths.runs) / str(cfg.name) / stage / name)
        claim.trial.set_user_attr("run", str(run.path))
        watch = self._watch(claim, run)
        job = run_job(PROGRAM, [*command, f"run_id={name}"], log, watch, [claim.lock])
        claim.trial.set_user_attr("seconds", job.seconds)
        if job.code != 0 and job.stopped:
            self.study.prune(claim)
            return 0, "ended early"
        if job.code != 0:
            return self._lost(claim, job.code, log)
        value = value_of(run, cfg.sweep.metric)
        if value is None:
            reason = f"no finite {cfg.sweep.metric} among {', '.join(metrics_of(run))}"
            self.study.fail(claim, reason)
            return 1, f"failed: {reason}"
        self.study.finish(claim, value)
        return 0, f"{cfg.sweep.metric} {value:.4g}"

    def show(self, console: Console) -> None:
        """A table of the best trials, and how to repeat the best one."""
        keys = list(self.cfg.sweep.space)
        table = Table("trial", str(self.cfg.sweep.metric), *keys, "seconds", title="best trials")
        best = self.study.best()
        for trial in best[:SHOWN_TRIALS]:
            values = (_shown(trial.params[key]) for key in keys)
            seconds = f"{trial.user_attrs['seconds']:.0f}"
            table.add_row(str(trial.number), _shown(trial.value), *values, seconds)
        console.print(table)
        states = [trial.state.name for trial in self.study.trials]
        words = {"COMPLETE": "complete", "PRUNED": "ended early", "FAIL": "failed"}
        counts = [f"{states.count(s)} {word}" for s, word in words.items() if s in states]
        if "RUNNING" in states:
            counts.append(f"{states.count('RUNNING')} at other workers")
        console.print(f"trials: {', '.join(counts)}; all of it in {self.folder}", soft_wrap=True)
        for trial in self.study.trials:
            if trial.state.name == "FAIL":
                reason = trial.user_attrs.get("reason", "")
                console.print(
                    f"trial {trial.number} failed: {reason}", soft_wrap=True, markup=False
                )
        if best:
            path = best[0].user_attrs["run"]
            console.print(
                f"repeat the best: ldmlab train config={path}/config.yaml run_id=best",
                soft_wrap=True,
            )

    def _lost(self, claim: Claim, code: int, log: Path) -> tuple[int, str]:
        if code == _SAVED:  # the trial stays open, and the same command goes on with it
            return code, "stopped from outside and saved; the same command continues"
        reason = f"exit code {code}: {last_words(log)}"
        self.study.fail(claim, reason)
        return 1, f"failed: {reason}"

    def _watch(self, claim: Claim, run: RunFolder) -> Callable[[], bool] | None:
        pruning = self.cfg.sweep.pruning
        if pruning is None:
            return None
        sign = 1 if pruning.direction == self.cfg.sweep.direction else -1
        return watcher(claim.trial, run, pruning.metric, sign)


def _stage_one(cfg: DictConfig) -> Path | None:
    """The run of the autoencoder that a trial of both stages needs; trials may share it."""
    if cfg.stage != "all" or cfg.codec.run is not None:
        return None
    from ldmlab.apps.stages.codec import stage_one_run

    return stage_one_run(cfg) if build(cfg.codec.module).func.learned else None


def _id(cfg: DictConfig) -> str:
    """The user's name for a search, or a hash of all that decides its result.

    How long each trial trains is part of that: trials of unlike length cannot be compared.
    """
    if cfg.run_id is not None:
        return str(cfg.run_id)
    tree: Any = OmegaConf.to_container(cfg, resolve=True)
    budget = {name: stage["max_steps"] for name, stage in tree["stages"].items()}
    ignored = ("n_trials", "workers", "config")
    rest = {key: value for key, value in tree.items() if key not in ignored}
    return run_id(rest | {"search": [tree["sweep"], tree["stage"]], "budget": budget})


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
