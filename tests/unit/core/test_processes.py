"""Which process speaks for all, before and after they have met."""

from __future__ import annotations

import pytest
import torch.distributed as dist

from ldmlab.core.processes import is_main_process

RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in RANKS:
        monkeypatch.delenv(name, raising=False)


def test_single_process_is_the_main_one() -> None:
    assert is_main_process()


@pytest.mark.parametrize("name", RANKS)
def test_launcher_says_which_process_is_the_main_one(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "0")
    assert is_main_process()
    monkeypatch.setenv(name, "1")
    assert not is_main_process()


def test_global_rank_goes_before_the_local_one(monkeypatch: pytest.MonkeyPatch) -> None:
    # The first process of the second machine.
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("RANK", "8")
    assert not is_main_process()


def test_processes_that_have_met_go_by_their_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_rank", lambda: 3)
    assert not is_main_process()
