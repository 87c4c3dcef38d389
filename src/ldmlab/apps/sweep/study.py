"""The trials of a search, in a file that workers on any machine share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ldmlab.apps.config.instantiate import build
from ldmlab.core.errors import UserError
from ldmlab.core.locks import locked
from ldmlab.core.random import derive_seed

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial, Trial


@dataclass(frozen=True)
class Claim:
    """A trial that is this process's alone, as long as it or its job lives.

    Attributes:
        trial: The trial.
        lock: Descriptor of its lock, for the job to hold as well.
    """

    trial: Trial
    lock: int


class Study:
    """A search: which trials there were, what became of them, and what to try next.

    The journal may lie on a file system that several machines share. A trial whose worker was
    killed is found by its free lock, and is given to the next worker that asks.

    Args:
        folder: Where the journal and the locks are.
        space: What may be tried.
        direction: `minimize` or `maximize`.
        sampler: Node of the sampler, which gets a seed.
        pruner: Node of the pruner; None for no pruning.
        seed: Seed of the search.

    Raises:
        UserError: Optuna is not installed.
    """

    def __init__(
        self,
        folder: Path,
        space: Mapping[str, BaseDistribution],
        direction: str,
        sampler: Mapping[str, Any],
        pruner: Mapping[str, Any] | None,
        seed: int,
    ) -> None:
        optuna = import_optuna()
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._states = optuna.trial.TrialState
        self.folder = folder
        self.space = dict(space)
        self.sampler = sampler
        self.seed = seed
        (folder / "trials").mkdir(parents=True, exist_ok=True)
        backend = optuna.storages.journal.JournalFileBackend(str(folder / "study.journal"))
        with self._alone():
            self._study: Any = optuna.create_study(
                storage=optuna.storages.JournalStorage(backend),
                study_name=folder.name,
                direction=direction,
                pruner=optuna.pruners.NopPruner() if pruner is None else build(pruner),
                load_if_exists=True,
            )

    @property
    def trials(self) -> list[FrozenTrial]:
        """Every trial so far, in order."""
        return self._study.get_trials(deepcopy=False)

    def best(self) -> list[FrozenTrial]:
        """The trials that came to their end, best first."""
        done = [trial for trial in self.trials if trial.state.name == "COMPLETE"]
        sign = 1 if self._study.direction.name == "MINIMIZE" else -1
        return sorted(done, key=lambda trial: sign * float(trial.value or 0.0))

    @contextmanager
    def claim(self, n_trials: int) -> Iterator[Claim | None]:
        """Take a trial that nobody works on: an abandoned one first, or else a new one.

        Args:
            n_trials: Number of trials after which there are no new ones.

        Yields:
            The trial; None when all have been given out.
        """
        with ExitStack() as stack:
            with self._alone():
                claim = self._abandoned(stack) or self._new(stack, n_trials)
            yield claim

    def finish(self, claim: Claim, value: float) -> None:
        """Note the value of a trial that came to its end."""
        self._study.tell(claim.trial.number, value)

    def prune(self, claim: Claim) -> None:
        """Note that a trial was ended early."""
        self._study.tell(claim.trial.number, state=self._states.PRUNED)

    def fail(self, claim: Claim, reason: str) -> None:
        """Note that a trial has no value, and why."""
        claim.trial.set_user_attr("reason", reason)
        self._study.tell(claim.trial.number, state=self._states.FAIL)

    def _alone(self) -> Any:
        return locked(self.folder / "study.lock")

    def _lock(self, number: int, stack: ExitStack) -> int | None:
        path = self.folder / "trials" / f"{number:04d}.lock"
        return stack.enter_context(locked(path, wait=False))

    def _abandoned(self, stack: ExitStack) -> Claim | None:
        from optuna.trial import Trial

        for trial in self.trials:
            if trial.state.name != "RUNNING":
                continue
            lock = self._lock(trial.number, stack)
            # Its worker may have ended it between the two lines above.
            if lock is None or self.trials[trial.number].state.is_finished():
                continue
            claim = Claim(Trial(self._study, trial._trial_id), lock)
            if trial.params.keys() == self.space.keys():
                return claim
            self.fail(claim, "the worker was killed before the trial began")
        return None

    def _new(self, stack: ExitStack, n_trials: int) -> Claim | None:
        number = len(self.trials)
        if number >= n_trials:
            return None
        # A seed for each trial: workers with one seed would all try the same.
        seed = derive_seed("sweep", self.seed, number) % 2**32
        self._study.sampler = build(self.sampler, seed=seed)
        trial = self._study.ask(self.space)
        lock = self._lock(trial.number, stack)
        assert lock is not None
        return Claim(trial, lock)


def import_optuna() -> Any:
    """Optuna, which only searches need.

    Raises:
        UserError: It is not installed.
    """
    try:
        import optuna
    except ModuleNotFoundError as error:
        if error.name != "optuna":
            raise
        raise UserError(
            'ldmlab sweep needs optuna: pip install "optuna>=4,<6" (uv sync --extra sweep)'
        ) from error
    return optuna
