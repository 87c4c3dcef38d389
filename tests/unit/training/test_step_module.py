"""One step, in one part or in several."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.integration.test_training import train, weights
from tests.unit.training.toys import IMAGES, Line, fit
from torch import Tensor, nn
from torch.optim import SGD

from ldmlab.core.random import Noise
from ldmlab.core.records import Batch
from ldmlab.training.optimizers.lr_schedules import warmup_cosine
from ldmlab.training.step_module import StepTerms


class _Drawing(Line):
    """Notes what each part of each step draws."""

    def __init__(self, *args: int) -> None:
        super().__init__(*args)
        self.noise: list[Tensor] = []
        self.dropped: list[Tensor] = []

    def terms(self, batch: Batch, noise: Noise) -> StepTerms:
        assert batch.image is not None
        self.noise.append(noise.normal(batch.image).flatten(1))
        self.dropped.append(torch.rand(4))
        return super().terms(batch, noise)


class _Pair(Line):
    """Two optimisers, of which the second begins at the third step."""

    trained = ("network", "late")

    def __init__(self, max_steps: int) -> None:
        super().__init__(max_steps)
        self.late = nn.Linear(2, 1, bias=False)
        self.weights: list[Tensor] = []

    def configure_optimizers(self) -> Any:
        networks = (self.network, self.late)
        rates = warmup_cosine(10, warmup_steps=4)
        return [self.scheduled(SGD(n.parameters(), lr=1.0, momentum=0.9), rates) for n in networks]

    def terms(self, batch: Batch, noise: Noise) -> StepTerms:
        self.weights.append(self.late.weight.detach().clone())
        loss = super().terms(batch, noise).total
        if self.step < 2:
            return StepTerms(loss + 0 * self.late.weight.sum(), {"loss": loss})
        assert batch.image is not None
        both = loss + self.late(batch.image.flatten(1)).mean()
        return StepTerms(both, {"loss": both}, num_active_optimizers=2)


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_step_descends_the_mean_of_its_parts(parts: int) -> None:
    module = Line(max_steps=2, parts=parts)
    trainer = fit(module)
    # Two steps along the mean (0.5, 1), from (1, 1); the second starts from (0.5, 0).
    assert module.step == 2
    torch.testing.assert_close(module.weight, torch.tensor([0.0, -1.0]))
    assert float(trainer.callback_metrics["train/loss"]) == pytest.approx(0.5 * 0.5 + 0.0 * 1.0)


def test_noise_belongs_to_the_row_of_the_global_batch() -> None:
    whole, parts = _Drawing(1, 1), _Drawing(1, 4)
    fit(whole)
    fit(parts)
    rows = whole.noise[0]
    assert len(rows.unique(dim=0)) == 4
    assert torch.equal(torch.cat(parts.noise), rows)
    batch = Batch(index=torch.arange(2), image=IMAGES[:2])
    like, numbers = IMAGES[:2], torch.zeros(2)
    for rank in (0, 1):
        module = Line()
        trainer = SimpleNamespace(global_rank=rank, world_size=2)
        module.trainer = trainer
        mine = slice(2 * rank, 2 * rank + 2)
        assert torch.equal(module._noise(batch, 0, 2).normal(like).flatten(1), rows[mine])
        quarters = (4 * module._noise(batch, 0, 2).strata(numbers)).floor()
        assert quarters.tolist() == list(range(4))[mine]


def test_step_draws_noise_and_dropout_of_its_own() -> None:
    runs = [_Drawing(3, 1, seed) for seed in (0, 0, 1)]
    for run in runs:
        fit(run)
    for name in ("noise", "dropped"):
        first, again, other = (torch.stack(getattr(run, name)).flatten(1) for run in runs)
        assert len(first.unique(dim=0)) == 3
        assert torch.equal(again, first)
        assert not (other == first).all(1).any()
    draws = []
    for rank in (0, 1):
        module = Line()
        trainer = SimpleNamespace(global_rank=rank, world_size=2)
        module.trainer = trainer
        module.on_train_batch_start(Batch(index=torch.arange(2)), 0)
        draws.append(torch.rand(4))
    assert torch.equal(draws[0], runs[0].dropped[0])
    assert not torch.equal(draws[1], draws[0])


def test_idle_optimizer_keeps_its_schedule() -> None:
    module = _Pair(max_steps=5)
    trainer = fit(module)
    assert [config.scheduler.last_epoch for config in trainer.lr_scheduler_configs] == [5, 3]
    still = [torch.equal(weight, module.weights[0]) for weight in module.weights]
    assert still == [True, True, True, False, False]
    assert trainer.global_step == 5
    # Warmed up from its own first step: rates .2, .4 and .6 of the momentum's 1, 1.9 and 2.71.
    moved = (module.late.weight.detach() - module.weights[0]).flatten()
    torch.testing.assert_close(moved, -(0.2 + 0.4 * 1.9 + 0.6 * 2.71) * torch.tensor([0.5, 1.0]))


@pytest.mark.parametrize("stage", ["autoencoder", "diffusion"])
def test_gradient_accumulation_equals_the_whole_batch(
    tmp_path: Path, stage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    group, plain = "discriminator.discriminator.norm=group", "optimizer=adamw"
    only = (
        ["stage=autoencoder"]
        if stage == "autoencoder"
        else ["codec=identity", "timestep_sampler=stratified"]
    )
    for parts in (1, 4):
        more = [f"stages.{stage}.accumulate_grad_batches={parts}", f"stages.{stage}.batch_size=8"]
        train(tmp_path / str(parts), group, plain, "perceptual=none", *only, *more)
    one, four = (weights(tmp_path / str(parts), stage) for parts in (1, 4))
    for name, value in one.items():
        if value.is_floating_point():
            torch.testing.assert_close(four[name], value, rtol=1e-3, atol=2e-5, msg=name)
    with pytest.raises(SystemExit) as stopped:
        train(tmp_path / "odd", *only, f"stages.{stage}.accumulate_grad_batches=3")
    assert stopped.value.code == 2
    assert "accumulate_grad_batches=3" in capsys.readouterr().err


def test_autoencoder_trains_in_bfloat16(tmp_path: Path) -> None:
    only = ["stage=autoencoder", "perceptual=none", "discriminator.discriminator.norm=group"]
    for precision in ("32-true", "bf16-mixed"):
        more = [
            f"stages.autoencoder.precision={precision}",
            "stages.autoencoder.accumulate_grad_batches=2",
        ]
        train(tmp_path / precision, *only, *more)
    exact, rounded = (weights(tmp_path / p, "autoencoder") for p in ("32-true", "bf16-mixed"))
    moved = [n for n, v in exact.items() if v.is_floating_point() and v.numel() > 1]
    assert all(rounded[n].dtype == torch.float32 and rounded[n].isfinite().all() for n in moved)
    # The same training, to what eight bits of a mantissa leave of it.
    name = "autoencoder.decoder.conv_out.weight"
    torch.testing.assert_close(rounded[name], exact[name], rtol=0, atol=0.02)
    assert not torch.equal(rounded[name], exact[name])
