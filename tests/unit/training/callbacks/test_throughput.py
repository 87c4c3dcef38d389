"""The figures of a run's speed, and when they are logged."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from tests.unit.training.toys import Line, fit

from ldmlab.core.random import Noise
from ldmlab.core.records import Batch
from ldmlab.data.sampling.datasets import InMemory
from ldmlab.training.callbacks import throughput
from ldmlab.training.callbacks.throughput import Throughput
from ldmlab.training.step_module import StepModule, StepTerms


class _Clock:
    """A clock that moves where it is told to."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


class _Timed(Line):
    """Takes 3 seconds a step, and 100 for a validation."""

    clock: _Clock

    def terms(self, batch: Batch, noise: Noise) -> StepTerms:
        self.clock.now += 3
        return super().terms(batch, noise)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.clock.now += 100

    def log_dict(self, dictionary: Any, *args: Any, **options: Any) -> None:
        if "throughput/images_per_second" in dictionary:
            self.__dict__.setdefault("logged", {})[self.step] = dict(dictionary)
        super().log_dict(dictionary, *args, **options)


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> _Timed:
    """A module, whose data takes a second a batch to come."""
    clock = _Clock()
    monkeypatch.setattr(throughput, "time", clock)
    load = InMemory.__getitems__

    def slowly(self: InMemory, indices: list[int]) -> Batch:
        clock.now += 1
        return load(self, indices)

    monkeypatch.setattr(InMemory, "__getitems__", slowly)
    module = _Timed(max_steps=8)
    module.clock = clock
    return module


def test_throughput_counts_images_operations_and_waiting(timed: _Timed) -> None:
    fit(timed, [Throughput(every=3)])
    assert list(timed.logged) == [3, 6]
    # Four images in a second of loading and three of computing; the first step is not measured.
    for figures in timed.logged.values():
        assert figures["throughput/images_per_second"] == pytest.approx(1.0)
        assert figures["throughput/waiting_for_data"] == pytest.approx(0.25)
        # Two multiply-adds of an image forward, and as many for the gradient of the weights.
        assert figures["throughput/teraflops_per_device"] == pytest.approx(8e-12)
        assert "throughput/share_of_peak" not in figures
        assert figures["throughput/memory_gib"] > 0.05


def test_throughput_leaves_validation_out(timed: _Timed) -> None:
    fit(timed, [Throughput(every=4)], limit_val_batches=1, val_check_interval=2)
    # But for the loading of its batch, a second at each of two validations.
    figures = timed.logged[8]
    assert figures["throughput/images_per_second"] == pytest.approx(4 * 4 / 16, rel=0.2)


def test_throughput_adds_up_all_processes(timed: _Timed) -> None:
    callback = Throughput(every=1)
    trainer = SimpleNamespace(world_size=8)
    batch = Batch(index=torch.arange(4))
    logged: dict[str, float] = {}
    timed.log_dict = logged.update  # type: ignore[method-assign]
    callback.on_train_start(trainer, timed)
    for step in range(2):  # the first is the one whose operations are counted
        callback.on_train_batch_start(trainer, timed, batch, step)
        timed.clock.now += 2
        callback.on_train_batch_end(trainer, timed, None, batch, step)
    assert logged["throughput/images_per_second"] == pytest.approx(8 * 4 / 2)
    assert logged["throughput/waiting_for_data"] == 0


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
