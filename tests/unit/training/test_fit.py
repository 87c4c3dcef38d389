"""What is checked before a stage trains."""

from __future__ import annotations

import sys

import pytest

from ldmlab.core.errors import UserError
from ldmlab.training.fit import _check_processes, _interrupt_handed_on

TORCHRUN = {"WORLD_SIZE": "2"}
SRUN = {"SLURM_NTASKS": "2", "SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "ldmlab"}


@pytest.mark.parametrize("started", [TORCHRUN, SRUN], ids=["torchrun", "srun"])
def test_unexpected_process_environment_is_refused(
    monkeypatch: pytest.MonkeyPatch, started: dict[str, str]
) -> None:
    for name in ("WORLD_SIZE", *SRUN):
        monkeypatch.delenv(name, raising=False)
    _check_processes(2)  # Lightning starts the other
    for name, value in started.items():
        monkeypatch.setenv(name, value)
    _check_processes(2)
    with pytest.raises(UserError, match=r"2 processes were started .* is 1: .* trainer=ddp"):
        _check_processes(1)


def _as_lightning_does() -> None:
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        sys.exit(1)


def test_fit_keeps_interrupts_and_exit_codes() -> None:
    with pytest.raises(KeyboardInterrupt), _interrupt_handed_on():
        _as_lightning_does()
    with pytest.raises(SystemExit), _interrupt_handed_on():
        sys.exit(143)
