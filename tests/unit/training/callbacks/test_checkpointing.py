"""best.ckpt is the checkpoint of the best validation, over interruptions too."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from ldmlab.core.files import write_text
from ldmlab.training.autoencoder_module import AutoencoderModule
from ldmlab.training.callbacks.checkpointing import Checkpointing
from ldmlab.training.diffusion_module import DiffusionModule
from ldmlab.training.step_module import StepModule


class _Module(StepModule):
    monitor = "val/loss"
    mode = "min"

    def __init__(self) -> None:
        super().__init__(0, 100)

    def terms(self, batch, noise):
        raise NotImplementedError


def _validate(callback: Checkpointing, step: int, loss: float, resumed: Path | None = None) -> None:
    """A step that ends with a validation; a resumed run begins with one."""
    module = _Module()
    module.steps += step
    trainer = SimpleNamespace(
        loggers=[],
        lightning_module=module,
        strategy=SimpleNamespace(reduce_boolean_decision=lambda decision, all: decision),
        callback_metrics={"val/loss": loss},
        is_global_zero=True,
        save_checkpoint=lambda path: write_text(path, str(step)),
        ckpt_path=resumed,
    )
    if resumed is None:
        callback.on_train_batch_end(trainer, module)
    callback.on_validation_end(trainer, module)


@pytest.mark.parametrize(
    ("losses", "best"),
    [([3.0, 2.0, 4.0], "4"), ([3.0, float("nan"), 3.0], "2"), ([float("nan")] * 2, None)],
)
def test_best_validation_keeps_its_checkpoint(
    tmp_path: Path, losses: list[float], best: str | None
) -> None:
    callback = Checkpointing(tmp_path, every=100, best_of=2)
    for number, loss in enumerate(losses, 1):
        _validate(callback, 2 * number, loss)
    path = tmp_path / "best.ckpt"
    assert (path.read_text() if path.is_file() else None) == best
    assert (tmp_path / "last.ckpt").read_text() == str(2 * len(losses))
    assert not list(tmp_path.glob(".*"))


def test_resumed_run_remembers_the_best_checkpoint(tmp_path: Path) -> None:
    first = Checkpointing(tmp_path, every=100, best_of=2)
    _validate(first, 2, 1.0)
    second = Checkpointing(tmp_path, every=100, best_of=2)
    second.load_state_dict(first.state_dict())
    _validate(second, 4, 2.0)
    assert (tmp_path / "best.ckpt").read_text() == "2"
    # Resumed from an older checkpoint than last.ckpt, and the owed validation is the best.
    older = tmp_path / "step-000002.ckpt"
    older.write_text("older")
    third = Checkpointing(tmp_path, every=100, best_of=2)
    _validate(third, 2, 0.5, resumed=older)
    assert (tmp_path / "best.ckpt").read_text() == "older"


def test_no_best_checkpoint_without_a_monitor(tmp_path: Path) -> None:
    callback = Checkpointing(tmp_path, every=2)
    _validate(callback, 2, 1.0)
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize(
    ("stage", "metric", "values", "best"),
    [
        (AutoencoderModule, "val/psnr", [20.0, 25.0, 22.0], "4"),  # decibels: more is better
        (DiffusionModule, "val/loss", [0.9, 0.4, 0.6], "4"),
    ],
)
def test_best_checkpoint_of_a_stage_is_the_better_one(
    tmp_path: Path, stage: type[StepModule], metric: str, values: list[float], best: str
) -> None:
    class Stage(_Module):
        monitor, mode = stage.monitor, stage.mode

    callback = Checkpointing(tmp_path, every=100, best_of=2)
    for number, value in enumerate(values, 1):
        module = Stage()
        module.steps += 2 * number
        trainer = SimpleNamespace(
            loggers=[],
            lightning_module=module,
            strategy=SimpleNamespace(reduce_boolean_decision=lambda decision, all: decision),
            callback_metrics={metric: value},
            is_global_zero=True,
            save_checkpoint=lambda path, step=2 * number: write_text(path, str(step)),
        )
        callback.on_train_batch_end(trainer, module)
        callback.on_validation_end(trainer, module)
    assert (tmp_path / "best.ckpt").read_text() == best


def test_numbered_checkpoints_stay_at_their_own_pace(tmp_path: Path) -> None:
    callback = Checkpointing(tmp_path, every=2, keep_every=3)
    for step in range(1, 8):
        _validate(callback, step, 1.0)
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert found == {"last.ckpt": "6", "step-000003.ckpt": "3", "step-000006.ckpt": "6"}
