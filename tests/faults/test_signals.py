"""Signals that a terminal or a cluster sends to every process of a run."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from tests.faults.harness import ENDLESS, loaders, logged, started

from ldmlab.core.checkpoint_file import read_checkpoint
from ldmlab.training.callbacks import preemption
from ldmlab.training.callbacks.preemption import Preemption


def test_one_press_of_the_keys_is_one_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(preemption.time, "monotonic", lambda: clock[0])
    callback = Preemption(Path("last.ckpt"))
    for later in (0.0, 0.0, 0.5):  # from the terminal, from `uv run`
        clock[0] += later
        callback._note(signal.SIGINT, None)
    assert callback._received == signal.SIGINT
    clock[0] += 2
    with pytest.raises(KeyboardInterrupt):
        callback._note(signal.SIGINT, None)


def test_job_that_cannot_be_requeued_says_so_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    preemption._requeue("17")
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "job 17 was not put back" in said and "No such file" in said
    command = tmp_path / "scontrol"
    command.write_text("#!/bin/sh\necho invalid job >&2\nexit 1\n")
    command.chmod(0o755)
    preemption._requeue("17")
    assert "scontrol: invalid job" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "times"),
    [(signal.SIGINT, 1), (signal.SIGINT, 2), (signal.SIGTERM, 1), (signal.SIGUSR1, 1)],
)
def test_signal_to_the_whole_group_saves(tmp_path: Path, number: int, times: int) -> None:
    slurm = {"SLURM_JOB_ID": "17"} if number == signal.SIGUSR1 else {}
    with started(tmp_path, *ENDLESS, "data.num_workers=2", **slurm) as run:
        run.wait_for_step(5)
        assert loaders(run.process.pid)
        reached = logged(run.run())
        for _ in range(times):
            run.send(number, group=True)
        assert run.end(30) == 143, run.said
        assert "Traceback" not in run.said
        assert ("was not put back into the queue" in run.said) == bool(slurm)
    saved = read_checkpoint(run.run() / "checkpoints/last.ckpt")["state_dict"]
    assert int(saved["steps"]) >= reached


@pytest.mark.slow
def test_interrupt_while_loaders_start_shows_no_traceback(tmp_path: Path) -> None:
    with started(tmp_path, *ENDLESS, "data.num_workers=2") as run:
        run.wait_for(lambda: bool(loaders(run.process.pid)))
        run.send(signal.SIGINT, group=True)
        assert run.end(60) in (130, 143)
        assert "Traceback" not in run.said
