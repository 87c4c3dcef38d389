"""A validation that an interruption has prevented is made up for."""

from __future__ import annotations

from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from tests.unit.training.toys import Line

from ldmlab.training.callbacks.resume_validation import ResumeValidation


@pytest.mark.parametrize(("step", "owed"), [(0, 0), (4, 1), (5, 0), (8, 1)])
def test_resumed_run_validates_where_its_step_ends_with_one(step: int, owed: int) -> None:
    module = Line(100)
    module.steps += step
    run = Mock()
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(val_loop=SimpleNamespace(run=run)))
    trainer = SimpleNamespace(fit_loop=loop, training=True)
    ResumeValidation(every=4).on_train_start(trainer, module)
    assert run.call_count == owed and trainer.training
