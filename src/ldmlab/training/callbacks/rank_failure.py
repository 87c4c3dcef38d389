"""Ends the other processes of a distributed run when one of them fails."""

from __future__ import annotations

import signal
import sys
import time

import lightning as L

from ldmlab.core.errors import UserError
from ldmlab.training.step_module import StepModule

# For the others to say what befell them, where they still can.
_GRACE = 3.0


class RankFailure(L.Callback):
    """Says which process failed at which step, and lets none of its own children live on.

    A process that waits in vain for another ends when the strategy's timeout has passed;
    Lightning's launcher would leave the one that hangs behind.
    """

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Speak, and end what this process has launched."""
        assert isinstance(pl_module, StepModule)
        if trainer.world_size == 1 or isinstance(exception, SystemExit):
            return
        if not isinstance(exception, UserError):
            print(
                f"process {trainer.global_rank} of {trainer.world_size} failed after step "
                f"{pl_module.step}: {type(exception).__name__}: "
                f"{' '.join(str(exception).split())[:300]}",
                file=sys.stderr,
                flush=True,
            )
        kill = getattr(trainer.strategy.launcher, "kill", None)
        if kill is not None and trainer.is_global_zero:
            time.sleep(_GRACE)
            kill(signal.SIGKILL)
