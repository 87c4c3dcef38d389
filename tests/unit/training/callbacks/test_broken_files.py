"""Broken files are named while training goes on, not only at its end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ldmlab.data.digits import Digits
from ldmlab.training.callbacks import broken_files
from ldmlab.training.callbacks.broken_files import BrokenFiles
from ldmlab.training.datamodules.base import BatchDataModule
from ldmlab.training.step_module import StepModule


class _Module(StepModule):
    def __init__(self) -> None:
        super().__init__(0, 1000)

    def terms(self, batch: Any, noise: Any) -> Any:
        raise NotImplementedError


@pytest.mark.parametrize("optimizers", [1, 2])
def test_every_hundredth_step_names_broken_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizers: int
) -> None:
    found: list[str] = []

    def known(dataset: object) -> Sequence[str]:
        return found

    monkeypatch.setattr(broken_files, "broken_files", known)
    data = Digits("train")
    module, callback = _Module(), BrokenFiles(tmp_path / "broken_files.txt")
    # Lightning counts each optimiser, and the second one starts after 51 steps.
    trainer: Any = SimpleNamespace(
        datamodule=BatchDataModule(data, data, 8), global_rank=0, global_step=0
    )
    told = []
    for step in range(1, 301):
        module.steps += 1
        trainer.global_step += 1 if step <= 51 else optimizers
        found.append(f"{step}.jpg")
        callback.on_train_batch_end(trainer, module)
        lines = callback.path.read_text().splitlines() if callback.path.is_file() else []
        told.append(len(lines))
    assert [step for step in range(1, 300) if told[step] != told[step - 1]] == [99, 199, 299]
    assert told[-1] == 300
