"""Ends the other processes of a distributed run when one of them fails."""

from __future__ import annotations

import signal
import sys
import time

import lightning as L

from ldmlab.core.errors import UserError
from ldmlab.training.heartbeat import Heartbeat
from ldmlab.training.step_module import StepModule

# For the others to say what befell them, where they still can.
_GRACE = 3.0


class RankFailure(L.Callback):
    """Says which process failed at which step, and lets none of its own children live on.

    A process that waits in vain for another ends when the strategy's timeout has passed, and names
    the other; Lightning's launcher would leave the one that hangs behind.
    """

    def __init__(self) -> None:
        self._heartbeat: Heartbeat | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Let the others know that this process lives."""
        if trainer.world_size > 1:
            self._heartbeat = Heartbeat(trainer.global_rank, trainer.world_size)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Training has ended."""
        if self._heartbeat is not None:
            self._heartbeat.end()
            self._heartbeat = None

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Speak, and end what this process has launched."""
        assert isinstance(pl_module, StepModule)
        if trainer.world_size == 1 or isinstance(exception, SystemExit):
            return
        if not isinstance(exception, UserError):
            print(
                f"{self._who(trainer, exception)} after step {pl_module.step}: "
                f"{type(exception).__name__}: {' '.join(str(exception).split())[:300]}",
                file=sys.stderr,
                flush=True,
            )
        kill = getattr(trainer.strategy.launcher, "kill", None)
        if kill is not None and trainer.is_global_zero:
            time.sleep(_GRACE)
            kill(signal.SIGKILL)

    def _who(self, trainer: L.Trainer, exception: BaseException) -> str:
        """Who has failed: this process, or those that it has waited for in vain."""
        mine = f"process {trainer.global_rank} of {trainer.world_size}"
        # Collectives end with errors of the runtime; what is raised by one's own code is one's own.
        lost = self._heartbeat.silent() if self._heartbeat and _of_others(exception) else []
        if not lost:
            return f"{mine} failed"
        names = ", ".join(map(str, lost))
        return f"process {names} of {trainer.world_size} does not answer ({mine} waited for it)"


def _of_others(exception: BaseException) -> bool:
    return isinstance(exception, RuntimeError) and not isinstance(exception, NotImplementedError)
