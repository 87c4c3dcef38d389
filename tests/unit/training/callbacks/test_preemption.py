"""A signal ends training after the step, with everything saved."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.unit.training.toys import Line, fit

from ldmlab.core.checkpoint_file import read_checkpoint
from ldmlab.training.callbacks.preemption import Preemption


class _Interrupted(Line):
    """Gets a signal in its third step."""

    received = signal.SIGTERM

    def on_train_batch_start(self, batch, batch_idx):
        if self.step == 2:
            os.kill(os.getpid(), self.received)
        return super().on_train_batch_start(batch, batch_idx)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Gives the signals back to the tests behind."""
    numbers = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("received", [signal.SIGTERM, signal.SIGINT])
def test_signal_saves_the_step_and_exits_143(tmp_path: Path, received: signal.Signals) -> None:
    module, path = _Interrupted(max_steps=9), tmp_path / "last.ckpt"
    module.received = received
    with pytest.raises(SystemExit) as left:
        fit(module, [Preemption(path)])
    assert left.value.code == 143
    assert int(read_checkpoint(path)["state_dict"]["steps"]) == 3


@pytest.mark.parametrize("mine", [True, False])
def test_signal_to_any_process_stops_all_of_them(tmp_path: Path, mine: bool) -> None:
    def decide(value: bool, all: bool) -> bool:
        # The other process got what this one did not; its weights are as finite as these.
        votes = [value, not mine and not asked]
        asked.append(value)
        return min(votes) if all else max(votes)

    asked: list[bool] = []

    saved: list[Path] = []
    trainer = SimpleNamespace(
        world_size=2,
        is_global_zero=False,
        loggers=[],
        lightning_module=Line(),
        save_checkpoint=saved.append,
        strategy=SimpleNamespace(reduce_boolean_decision=decide),
    )
    callback = Preemption(tmp_path / "last.ckpt")
    if mine:
        callback._note(signal.SIGTERM, None)
    with pytest.raises(SystemExit):
        callback.on_train_batch_end(trainer, Line())
    assert saved == [tmp_path / "last.ckpt"]
