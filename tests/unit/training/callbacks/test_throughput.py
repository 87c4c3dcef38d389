"""The figures of a run's speed, and when they are logged."""

from __future__ import annotations

from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch

from ldmlab.core.records import Batch
from ldmlab.training.callbacks import throughput
from ldmlab.training.callbacks.throughput import Throughput
from ldmlab.training.step_module import StepModule


def test_throughput_is_logged_by_global_step() -> None:
    batch, callback = Batch(index=torch.arange(4)), Throughput(every=5)
    trainer, module = Mock(world_size=1), Mock(spec=StepModule, device=torch.device("cpu"))
    callback.on_train_start(trainer, module)
    logged = []
    for batch_idx, step in enumerate(range(8, 22)):  # resumed within an epoch
        module.log_dict.reset_mock()
        callback.on_train_batch_start(trainer, module, batch, batch_idx)
        module.step = step
        callback.on_train_batch_end(trainer, module, None, batch, batch_idx)
        logged += [step] * module.log_dict.call_count
    assert logged == [10, 15, 20]


@pytest.mark.parametrize(("platform", "peak"), [("linux", 3 * 2**20), ("darwin", 3 * 2**30)])
def test_peak_memory_uses_the_unit_of_the_platform(
    monkeypatch: pytest.MonkeyPatch, platform: str, peak: int
) -> None:
    monkeypatch.setattr(throughput, "sys", SimpleNamespace(platform=platform))
    usage = SimpleNamespace(ru_maxrss=peak)
    monkeypatch.setattr(throughput.resource, "getrusage", lambda who: usage)
    assert throughput._peak_memory(torch.device("cpu")) == 3
